"""The limiters that FLEET-Q's rule is compared with, written from the specification and from published sources."""

from __future__ import annotations

from typing import Protocol

from fleetq_core.throttle.rule import Flight


class Limiter(Protocol):
    """What the simulation asks of a limiter; fleetq_core.throttle.LimitRule is one."""

    def open_slots(self, now_s: float) -> int: ...
    def opens_at_s(self, now_s: float) -> float | None: ...
    def start(self, now_s: float) -> Flight: ...
    def end(self, now_s: float, flight: Flight) -> None: ...
    def success(self, now_s: float, flight: Flight | None = None, latency_s: float | None = None) -> None: ...
    def throttle(self, now_s: float, flight: Flight | None = None, retry_after_s: float | None = None) -> None: ...
    def timeout(self, now_s: float, flight: Flight | None = None) -> None: ...


class Fixed:
    """A limit that never moves; the base of the others."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.in_flight = 0

    def open_slots(self, now_s: float) -> int:
        """Slots that are free."""
        return max(0, int(self.limit) - self.in_flight)

    def opens_at_s(self, now_s: float) -> float | None:
        """Time opens nothing."""
        return None

    def start(self, now_s: float) -> Flight:
        """A call starts."""
        self.in_flight += 1
        return Flight(0, now_s, self.in_flight, 0)

    def end(self, now_s: float, flight: Flight) -> None:
        """A call is over."""
        self.in_flight -= 1

    def success(self, now_s: float, flight: Flight | None = None, latency_s: float | None = None) -> None:
        """Nothing changes."""

    def throttle(self, now_s: float, flight: Flight | None = None, retry_after_s: float | None = None) -> None:
        """Nothing changes."""

    def timeout(self, now_s: float, flight: Flight | None = None) -> None:
        """Nothing changes."""


class LiteralAimd(Fixed):
    """The specification to the letter: +1 for 10 successes, × 0.5 for every refusal, × 0.7 for every timeout."""

    def __init__(self) -> None:
        super().__init__(10)
        self._successes = 0

    def success(self, now_s: float, flight: Flight | None = None, latency_s: float | None = None) -> None:
        """One in ten counts."""
        self._successes += 1
        if self._successes >= 10:
            self._successes = 0
            self.limit = min(100, int(self.limit) + 1)

    def throttle(self, now_s: float, flight: Flight | None = None, retry_after_s: float | None = None) -> None:
        """Halve, each time."""
        self.limit, self._successes = max(1, int(self.limit * 0.5)), 0

    def timeout(self, now_s: float, flight: Flight | None = None) -> None:
        """Three tenths less, each time."""
        self.limit, self._successes = max(1, int(self.limit * 0.7)), 0


class Gradient2(Fixed):
    """Netflix concurrency-limits, Gradient2Limit in a WindowedLimit, at its published defaults; not tuned.

    limit × clamp(1.5 · long RTT ÷ short RTT, 0.5, 1) + 4, smoothed by 0.2, once for each window of a second and ten
    samples. A refusal is a sample like any other: the original never reads its `didDrop`.
    """

    def __init__(self) -> None:
        super().__init__(10)
        self._window: list[float] = []
        self._level = 0
        self._due_s = self._long_s = 0.0

    def success(self, now_s: float, flight: Flight | None = None, latency_s: float | None = None) -> None:
        """One sample."""
        if flight is None:
            return
        self._window.append(now_s - flight.started_s)
        self._level = max(self._level, flight.level)
        if now_s >= self._due_s and len(self._window) >= 10:
            self._update(sum(self._window) / len(self._window))
            self._window.clear()
            self._level, self._due_s = 0, now_s + 1.0

    def _update(self, short_s: float) -> None:
        self._long_s = short_s if not self._long_s else self._long_s + (short_s - self._long_s) * 2 / 601
        if self._long_s > 2 * short_s:
            self._long_s *= 0.95
        if self._level >= self.limit / 2:
            gradient = max(0.5, min(1.0, 1.5 * self._long_s / short_s))
            self.limit = min(100.0, max(1.0, 0.8 * self.limit + 0.2 * (self.limit * gradient + 4)))

    def throttle(self, now_s: float, flight: Flight | None = None, retry_after_s: float | None = None) -> None:
        """A sample like any other."""
        self.success(now_s, flight)

    def timeout(self, now_s: float, flight: Flight | None = None) -> None:
        """A sample like any other."""
        self.success(now_s, flight)
