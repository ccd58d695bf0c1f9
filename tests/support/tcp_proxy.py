"""A TCP proxy on loopback that a test can break: it refuses, resets in mid-answer, stalls, goes away and comes back."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST instead of FIN
_TICK_S = 0.05


class TcpProxy:
    """Passes bytes on to `target` until told otherwise. Its own port stays the same while it is away."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._resets = self._reset_after = 0
        self._listener: socket.socket | None = None
        self.port = 0
        self.accepted = 0
        self.come_back()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()

    def come_back(self) -> None:
        """Listen again, on the same port, and let everything through."""
        self._flowing.set()
        if self._listener is None:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(64)
            self.port = listener.getsockname()[1]
            self._listener = listener
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def go_away(self) -> None:
        """Refuse new connections and reset those there are, as a server that has died does."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # shutdown() wakes the thread in accept(); close() alone would leave the port open under it.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.reset_all()

    def reset_all(self) -> None:
        """Reset the connections there are; new ones are welcome."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.reset()

    def reset_answers(self, count: int, after: int = 40) -> None:
        """Of the next `count` answers pass on `after` bytes, then reset the connection."""
        with self._lock:
            self._resets, self._reset_after = count, after

    @property
    def resets_left(self) -> int:
        """How many answers are still to be reset."""
        return self._resets

    def stall(self) -> None:
        """Keep connections, old and new, but pass nothing on: a network that drops every packet."""
        self._flowing.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            link = _Link(client, server)
            with self._lock:
                self._links.add(link)
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(link, source, sink, answers), daemon=True).start()

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while not self._flowing.wait(_TICK_S):
                    if link.is_reset:
                        return
                if answers and self._takes_reset():
                    sink.sendall(data[: self._reset_after])
                    link.reset()
                    return
                sink.sendall(data)
        link.close()
        with self._lock:
            self._links.discard(link)

    def _takes_reset(self) -> bool:
        with self._lock:
            if not self._resets:
                return False
            self._resets -= 1
            return True


class _Link:
    """A connection of a client with the one to the server behind it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._ends = (client, server)
        self.is_reset = False

    def reset(self) -> None:
        """End it abruptly on both sides."""
        self.is_reset = True
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close()

    def close(self) -> None:
        """End it; idempotent. Only what wakes a thread in recv() lets the socket go, and SHUT_RD does so silently."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RD if self.is_reset else socket.SHUT_RDWR)
            end.close()
