"""What one process asks of its store, by kind, and how long that keeps a warehouse awake.

`metered` says which kind of call is under way, and an engine that pays for each statement reports it to `ran`. Nothing
here knows of Prometheus, so a pod carries it without serving metrics, and publishes it with its heartbeat.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

from fleetq_core.config import LEAST_BILLED_S
from fleetq_core.model import JSON

# From a commit of the embedded store to a warehouse that has to wake up.
BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MINUTE_S, HOUR_MINUTES = 60.0, 60

_here = threading.local()


@dataclass(frozen=True, slots=True)
class Histogram:
    """Calls of one kind so far. `cumulative[i]` took at most `BOUNDS_S[i]` seconds; its last entry is all of them.

    `statements`, `rows` and `retries` stay 0 on the embedded store, where a statement costs nothing.
    """

    cumulative: tuple[int, ...]
    sum_s: float
    errors: int
    statements: int = 0
    rows: int = 0
    retries: int = 0


class Series:
    """The calls of one kind."""

    __slots__ = ("_counts", "_errors", "_lock", "_meter", "_retries", "_rows", "_statements", "_sum_s")

    def __init__(self, meter: StoreMeter) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s, self._errors = 0.0, 0
        self._statements = self._rows = self._retries = 0

    def add(self, seconds: float, failed: bool) -> None:
        """One call has ended."""
        place = bisect_left(BOUNDS_S, seconds)
        with self._lock:
            self._counts[place] += 1
            self._sum_s += seconds
            self._errors += failed
        if (page := _page()) is not None:
            self._meter.asked(page, 1, seconds, 0)

    def ran(self, seconds: float, rows: int, retries: int, *, awake: bool) -> None:
        """A statement of the call under way has ended; see `ran` of this module."""
        with self._lock:
            self._statements += 1 + retries
            self._rows += rows
            self._retries += retries
        self._meter.hour.add(seconds, 1 + retries, awake)
        if (page := _page()) is not None:
            self._meter.screens.add(seconds, 1 + retries, awake)
            self._meter.asked(page, 0, 0.0, 1 + retries)

    def read(self) -> Histogram:
        """The figures so far."""
        with self._lock:
            cumulative = tuple(accumulate(self._counts))
            return Histogram(cumulative, self._sum_s, self._errors, self._statements, self._rows, self._retries)


class LastHour:
    """Statements and warehouse time of the last hour, minute by minute, as if this process used the warehouse alone.

    A warehouse runs from a statement on until it has been idle for `suspend_s`, and each start is billed for at least a
    minute (docs.snowflake.com/en/user-guide/cost-understanding-compute). The time after a statement is booked with it.
    """

    def __init__(self, suspend_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.suspend_s = suspend_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._began = monotonic()
        self._awake_until = -LEAST_BILLED_S
        self._minutes: deque[tuple[int, int, float]] = deque(maxlen=HOUR_MINUTES)  # (minute, statements, awake_s)

    def add(self, seconds: float, statements: int, awake: bool) -> None:
        """A statement that took `seconds` has ended; `awake` says whether it needed the warehouse."""
        now = self._monotonic()
        with self._lock:
            awake_s = self._extend(now - seconds, now + self.suspend_s) if awake else 0.0
            minute = int(now // MINUTE_S)
            if self._minutes and self._minutes[-1][0] == minute:
                _, so_far, awake_so_far = self._minutes.pop()
                statements, awake_s = statements + so_far, awake_s + awake_so_far
            self._minutes.append((minute, statements, awake_s))

    def _extend(self, begins: float, ends: float) -> float:
        """Keep the warehouse awake until `ends`; returns the seconds that are billed for it beyond those before."""
        starts = begins > self._awake_until
        since = begins if starts else self._awake_until
        until = max(ends, begins + LEAST_BILLED_S) if starts else max(ends, since)
        self._awake_until = until
        return until - since

    def read(self) -> tuple[float, int, float]:
        """(seconds looked at, statements, warehouse seconds): of the last hour, or since the start of the process."""
        now = self._monotonic()
        with self._lock:
            since = int(now // MINUTE_S) - HOUR_MINUTES
            known = [minute for minute in self._minutes if minute[0] > since]
            seconds = min(now - self._began, HOUR_MINUTES * MINUTE_S)
            awake_s = sum(minute[2] for minute in known)
            return seconds, sum(minute[1] for minute in known), min(seconds, awake_s)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one page of the dashboard has asked so far, for all its viewers in this process."""

    calls: int = 0
    seconds: float = 0.0
    statements: int = 0


class StoreMeter:
    """The figures of all store connections that report to it; `screens` is the last hour of the dashboard alone."""

    def __init__(self, kinds: Iterable[str], suspend_s: float = LEAST_BILLED_S) -> None:
        self.hour = LastHour(suspend_s)
        self.screens = LastHour(suspend_s)
        self._series = {kind: Series(self) for kind in kinds}
        self._pages: dict[str, Asked] = {}
        self._lock = threading.Lock()

    def of(self, kind: str) -> Series:
        """Where calls of `kind` are counted."""
        return self._series[kind]

    def read(self) -> dict[str, Histogram]:
        """What was counted so far, by kind."""
        return {kind: series.read() for kind, series in self._series.items()}

    def pages(self) -> dict[str, Asked]:
        """What each page has asked so far: those that somebody has opened."""
        with self._lock:
            return dict(self._pages)

    def asked(self, page: str, calls: int, seconds: float, statements: int) -> None:
        """Count for a page what was done for it."""
        with self._lock:
            was = self._pages.get(page, Asked())
            self._pages[page] = Asked(was.calls + calls, was.seconds + seconds, was.statements + statements)

    def publication(self) -> dict[str, JSON]:
        """What a pod tells the fleet: by kind [calls, errors, statements, rows, retries, seconds]; its last hour."""
        kinds: dict[str, JSON] = {
            kind: [h.cumulative[-1], h.errors, h.statements, h.rows, h.retries, round(h.sum_s, 3)]
            for kind, h in self.read().items()
            if h.cumulative[-1]
        }
        seconds, statements, awake_s = self.hour.read()
        hour: dict[str, JSON] = {"seconds": round(seconds), "statements": statements, "awake_s": round(awake_s)}
        return {"kinds": kinds, "hour": hour}


@contextmanager
def asking_for(page: str) -> Iterator[None]:
    """What this thread asks of its store meanwhile is asked for that page of the dashboard."""
    outer, _here.page = _page(), page
    try:
        yield
    finally:
        _here.page = outer


def _page() -> str | None:
    return getattr(_here, "page", None)


def timed(method: Callable[..., object], series: Series) -> Callable[..., object]:
    """`method`, counted in `series` with all statements that it runs on this thread."""
    clock, add = time.perf_counter, series.add

    def call(*args: object, **kwargs: object) -> object:
        outer = getattr(_here, "series", None)
        _here.series = series
        started = clock()
        failed = True
        try:
            answer = method(*args, **kwargs)
            failed = False
            return answer
        finally:
            add(clock() - started, failed)
            _here.series = outer

    return call


def ran(seconds: float, rows: int, retries: int, *, awake: bool = True) -> None:
    """An engine has run a statement, after `retries` tries that were refused; `awake` if it needed the warehouse.

    It is counted for the call that is under way on this thread; outside of a metered call nobody counts.
    """
    series = getattr(_here, "series", None)
    if series is not None:
        series.ran(seconds, rows, retries, awake=awake)
