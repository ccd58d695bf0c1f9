"""Those who wait for a slot, on a thread or on an event loop, behind one face so that both stand in one queue."""

from __future__ import annotations

import asyncio
import threading
from typing import Protocol

from .rule import Flight


class Waiter(Protocol):
    """One caller in the queue. `flight` is set, under the throttle's lock, when it is its turn."""

    flight: Flight | None
    wakes_at_s: float | None

    def wake(self) -> bool:
        """Have the caller look again, from any thread; False if it can never look again."""
        ...


class ThreadWaiter:
    """A caller that blocks its thread."""

    __slots__ = ("_event", "flight", "wakes_at_s")

    def __init__(self) -> None:
        self.flight: Flight | None = None
        self.wakes_at_s: float | None = None
        self._event = threading.Event()

    def wake(self) -> bool:
        """Let the thread look."""
        self._event.set()
        return True

    def pause(self, seconds: float | None) -> None:
        """Block until woken, `seconds` at most."""
        self._event.wait(seconds)
        self._event.clear()


class LoopWaiter:
    """A caller that awaits on an event loop."""

    __slots__ = ("_event", "_loop", "flight", "wakes_at_s")

    def __init__(self) -> None:
        self.flight: Flight | None = None
        self.wakes_at_s: float | None = None
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def wake(self) -> bool:
        """Let the coroutine look; a loop that has been closed cannot."""
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            return False
        return True

    async def pause(self, seconds: float | None) -> None:
        """Wait until woken, `seconds` at most."""
        timer = None if seconds is None else self._loop.call_later(seconds, self._event.set)
        try:
            await self._event.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._event.clear()
