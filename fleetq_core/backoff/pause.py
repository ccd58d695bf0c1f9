"""The only place that waits and measures, so that a test can do both without time passing."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

from fleetq_core.clock import SystemClock

_clock = SystemClock()


class _Skipped:
    """The delays that were not slept, and how far they moved the clock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.delays: list[float] = []
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        with self.lock:
            self.delays.append(seconds)
            self.total_s += seconds


_skipped: _Skipped | None = None


@contextlib.contextmanager
def no_sleep() -> Iterator[list[float]]:
    """Test mode: no backoff of this process sleeps inside, in any thread. Gives the list of delays, in seconds.

    The clock of the backoffs moves on by what they would have slept, so timeout_total_s and budgets act as in earnest.
    """
    global _skipped
    outer, _skipped = _skipped, _Skipped()
    try:
        yield _skipped.delays
    finally:
        _skipped = outer


def monotonic() -> float:
    """Seconds that only rise, skipped delays included."""
    return _clock.monotonic() + (_skipped.total_s if _skipped else 0.0)


def now() -> float:
    """Seconds since the epoch, for a Retry-After that is a date."""
    return _clock.now()


def sleep(seconds: float) -> None:
    """Wait on this thread."""
    if _skipped is not None:
        _skipped.add(seconds)
    else:
        time.sleep(seconds)


async def async_sleep(seconds: float) -> None:
    """Wait in this task; in test mode the loop still takes one turn, as it would in earnest."""
    if _skipped is not None:
        _skipped.add(seconds)
        seconds = 0
    await asyncio.sleep(seconds)
