"""What a client asks of its limiter, and the two simplest limiters to compare a throttle with."""

from __future__ import annotations

from typing import Protocol

from fleetq_core.throttle.rule import Flight


class Limiter(Protocol):
    """What a client asks of its limiter; LimitRule and SharedRule are such."""

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
