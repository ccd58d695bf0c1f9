"""The one event loop that all async handlers of a pod share, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any


class EventLoop:
    """Starts with the first coroutine: a pod without async handlers has no such thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def spawn(
        self,
        name: str,
        coroutine: Callable[[], Coroutine[Any, Any, None]],
        on_task: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """Run what `coroutine()` makes; `on_task(task)` is called on the loop, before it begins."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._serve, args=(self._loop,), name="fleetq-async", daemon=True).start()
            loop = self._loop
        loop.call_soon_threadsafe(lambda: on_task(loop.create_task(coroutine(), name=name)))

    def cancel(self, task: asyncio.Task[None]) -> None:
        """Cancel a task of this loop, from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(task.cancel)

    def stop(self) -> None:
        """Cancel whatever still runs and end the thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            for pending in asyncio.all_tasks(loop):
                pending.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
