"""Who wants to hear that an idle throttle of the fleet is used again, so that its first exchange comes at once."""

from __future__ import annotations

import threading
from collections.abc import Callable


class _Listeners:
    """Callables without arguments, cheap and safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: tuple[Callable[[], None], ...] = ()

    def add(self, listener: Callable[[], None]) -> None:
        """Have it called from now on."""
        with self._lock:
            self._all = (*self._all, listener)

    def discard(self, listener: Callable[[], None]) -> None:
        """Have it called no more."""
        with self._lock:
            self._all = tuple(known for known in self._all if known != listener)

    def __call__(self) -> None:
        for listener in self._all:
            listener()


on_wake = _Listeners()
