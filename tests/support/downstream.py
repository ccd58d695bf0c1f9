"""A downstream for real pods: an HTTP server on loopback that refuses more calls at once than its capacity."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Downstream:
    """Answers after `call_s` seconds, or 429 at once above `capacity`; counts what it saw."""

    def __init__(self, capacity: int, call_s: float) -> None:
        self.capacity, self.call_s = capacity, call_s
        self.answered = self.refused = self.most = self.busy = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One call."""
        with self._lock:
            let_in = self.busy < self.capacity
            self.busy += let_in
            self.most = max(self.most, self.busy)
            self.answered += let_in
            self.refused += not let_in
        if let_in:
            self._stop.wait(self.call_s)
            with self._lock:
                self.busy -= 1
        request.send_response(200 if let_in else 429)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def close(self) -> None:
        """Let everybody go and stop."""
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
