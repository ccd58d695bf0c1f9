"""How many calls at once a downstream takes, learnt from their outcomes: a pure rule without clock, lock or thread.

AIMD (Chiu & Jain, "Analysis of the Increase and Decrease Algorithms", 1989) with what practice adds: growth only while
the limit is reached (Vector ARC), one decrease for each round trip (Netflix concurrency-limits, WindowedLimit), slow
start (Jacobson 1988), a remembered ceiling that is probed rarely, and a refused call whose slot stays taken for about
one round trip, so that refusals do not buy new refusals.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass

from .changes import Change, Reason
from .config import ThrottleConfig
from .latency import LatencyGauge

PROBE_EVERY_RTT = 7.0  # of 10, 7 and 5 the best on both kinds of server in throttle_simulation with seeds 1 to 5
CEILING_CUT = 0.9
UNKNOWN_RTT_S = 0.1
MOST_DOUBLINGS = 3
RETRY_AFTER_JITTER = 0.25


@dataclass(slots=True)
class Flight:
    """One call under way: its place in the order of starts, how many were under way with it, and after which cut."""

    number: int
    started_s: float
    level: int
    epoch: int
    hold_s: float = 0.0


class LimitRule:
    """Takes events with the caller's time in seconds (any clock that only rises) and says the limit.

    An outcome without a flight is taken literally: it counts whatever was under way, and every throttle cuts.
    Not thread-safe: the throttle around it holds a lock.
    """

    def __init__(self, config: ThrottleConfig, rng: random.Random | None = None) -> None:
        self.config = config
        self.fleet_limit: int | None = None  # of all pods together, where they share one
        self.in_flight = 0
        self.last_end_s = float("-inf")
        self.changes: deque[Change] = deque(maxlen=config.event_log_size)
        self.change_count = 0
        self._rng = rng or random.Random()
        self._number = self._epoch = 0
        self._holds: list[float] = []
        self._forget(float("-inf"))

    def _forget(self, now_s: float) -> None:
        self.limit = self.config.initial_limit
        self.gauge = LatencyGauge(self.config.latency_window_size)
        self.ceiling: int | None = None
        self.shut_until_s = float("-inf")
        self._epoch += 1
        self._holds.clear()
        self._starting = self.config.slow_start
        self._probing = self._paused = False
        self._probe_at_s = self._cut_s = now_s
        self._successes = self._refused_in_a_row = self._full_number = 0

    @property
    def is_slow(self) -> bool:
        """Whether latency is over the threshold; never where it is not tracked."""
        return self.config.enable_latency_tracking and self.gauge.over(self.config.latency_increase_threshold)

    # -- slots --------------------------------------------------------------------------------------------------------

    def open_slots(self, now_s: float) -> int:
        """How many calls may start at this moment."""
        free = self.slots(now_s) - self.in_flight
        return free if free > 0 else 0

    def slots(self, now_s: float) -> int:
        """How many calls may be under way at this moment, with those that are: 0 while the throttle is shut."""
        if now_s < self.shut_until_s:
            return 0
        holds = self._holds
        if not holds:
            return self.limit
        while holds and holds[0] <= now_s:
            heapq.heappop(holds)
        return max(0, self.limit - len(holds))

    def opens_at_s(self, now_s: float) -> float | None:
        """When time alone will open a slot, as far as is known now; None if only the end of a call can."""
        if now_s < self.shut_until_s:
            return self.shut_until_s
        return self._holds[0] if self._holds else None

    def start(self, now_s: float) -> Flight:
        """A call starts. Ask open_slots() first."""
        self.in_flight += 1
        self._number += 1
        if self.in_flight + len(self._holds) >= self.limit:
            self._full_number = self._number
        return Flight(self._number, now_s, self.in_flight, self._epoch)

    def end(self, now_s: float, flight: Flight) -> None:
        """The call is over, whatever came of it; a refused one keeps its slot a while longer."""
        self.in_flight -= 1
        self.last_end_s = now_s
        if flight.hold_s > 0:
            heapq.heappush(self._holds, now_s + flight.hold_s)

    # -- outcomes -----------------------------------------------------------------------------------------------------

    def success(self, now_s: float, flight: Flight | None = None, latency_s: float | None = None) -> None:
        """A call was answered after `latency_s`, or, where that is None and the flight is known, after its flight."""
        self._measure(now_s, flight, latency_s)
        if flight is not None:
            if flight.epoch != self._epoch:
                return
            if self._probing and self.ceiling is not None and flight.level > self.ceiling:
                self._probing, self.ceiling = False, None
            if self._full_number < flight.number:
                return
        self._successes += 1
        if flight is not None and self._starting:
            self._grow(now_s, Reason.SLOW_START)
        elif self._successes >= self.config.success_threshold:
            self._successes = 0
            self._grow(now_s, Reason.INCREASE)

    def throttle(self, now_s: float, flight: Flight | None = None, retry_after_s: float | None = None) -> None:
        """The downstream refused a call, and perhaps said for how long (seconds) to stay away."""
        self._note_refusal(now_s, retry_after_s)
        if flight is None:
            self._cut(now_s, self.config.multiplicative_decrease, Reason.THROTTLE)
            return
        ceiling, probe_refused = self.ceiling, self._probe_refused(flight)
        if not probe_refused:
            flight.hold_s = self._hold_s()
        if self._is_echo(now_s, flight):
            return
        if probe_refused and ceiling is not None:
            self._undo_probe(now_s, ceiling)
            return
        if self.config.ceiling_memory:
            under = flight.level - 1
            self._remember(under if ceiling is None or under >= ceiling else min(under, int(ceiling * CEILING_CUT)))
        self._cut(now_s, self.config.multiplicative_decrease, Reason.THROTTLE)

    def timeout(self, now_s: float, flight: Flight | None = None) -> None:
        """A call was given up by the caller's own time limit."""
        if flight is None or not self._is_echo(now_s, flight):
            self._cut(now_s, self.config.timeout_decrease, Reason.TIMEOUT)

    def ignore(self, now_s: float, flight: Flight | None = None) -> None:
        """A call failed in a way that says nothing about capacity: nothing changes."""

    def shut(self, now_s: float, seconds: float) -> None:
        """Start nothing for `seconds`, and up to a quarter longer: callers told one time must not return as one."""
        until_s = now_s + seconds * (1 + self._rng.uniform(0, RETRY_AFTER_JITTER))
        self.shut_until_s = max(self.shut_until_s, until_s)

    def reset(self, now_s: float) -> None:
        """Back to the start. Calls under way stay counted, and their outcomes no longer move the limit."""
        before = self.limit
        self._forget(now_s)
        self._log(now_s, before, Reason.RESET)

    # -- moves --------------------------------------------------------------------------------------------------------

    def _measure(self, now_s: float, flight: Flight | None, latency_s: float | None) -> None:
        if latency_s is None and flight is not None:
            latency_s = now_s - flight.started_s
        if latency_s is not None:
            self.gauge.add(latency_s)
        self._refused_in_a_row = 0

    def _note_refusal(self, now_s: float, retry_after_s: float | None) -> None:
        self._refused_in_a_row += 1
        if retry_after_s is not None and retry_after_s > 0:
            self.shut(now_s, retry_after_s)

    def _grow(self, now_s: float, reason: Reason) -> None:
        if self._too_slow(now_s):
            return
        before = self.limit
        goal = min(self.config.max_limit, before + self.config.additive_increase)
        if self.ceiling is not None and goal >= self.ceiling:
            if before < self.ceiling:
                goal = self.ceiling
                self._probe_later(now_s)
            elif self._probing or now_s < self._probe_at_s:
                return
            else:
                goal, reason, self._probing = min(goal, before + 1), Reason.PROBE, True
        self.limit = goal
        self._log(now_s, before, reason)

    def _too_slow(self, now_s: float) -> bool:
        slow = self.is_slow
        if slow and not self._paused:
            self._note(Change(now_s, self.limit, self.limit, Reason.LATENCY_HOLD))
        if slow:
            self._starting = False
        self._paused = slow
        return slow

    def _cut(self, now_s: float, factor: float, reason: Reason) -> None:
        before = self.limit
        # The small term keeps 10 × 0.7 at 7 where binary fractions would say 6.999….
        self.limit = max(self.config.min_limit, int(before * factor + 1e-9))
        self._new_epoch(now_s)
        if self.ceiling is not None:
            self._probe_later(now_s)
        self._log(now_s, before, reason)

    def _undo_probe(self, now_s: float, ceiling: int) -> None:
        before, self.limit = self.limit, ceiling
        self._new_epoch(now_s)
        self._probe_later(now_s)
        self._log(now_s, before, Reason.PROBE_UNDONE)

    def _new_epoch(self, now_s: float) -> None:
        self._epoch += 1
        self._cut_s = now_s
        self._successes = 0
        self._starting = self._probing = False

    def _remember(self, ceiling: int) -> None:
        self.ceiling = max(self.config.min_limit, ceiling)

    def _probe_later(self, now_s: float) -> None:
        self._probe_at_s = now_s + PROBE_EVERY_RTT * self.gauge.rtt_s * self._rng.uniform(0.75, 1.25)

    def _probe_refused(self, flight: Flight) -> bool:
        return self._probing and self.ceiling is not None and flight.level > self.ceiling

    def _is_echo(self, now_s: float, flight: Flight) -> bool:
        """Whether the last cut has answered this already: the call started before it, or less than a round trip ago."""
        return flight.epoch != self._epoch or now_s < self._cut_s + self.gauge.rtt_s

    def _hold_s(self) -> float:
        doublings = self._refused_in_a_row - 1 if self.limit <= self.config.min_limit else 0
        rtt_s = self.gauge.rtt_s or UNKNOWN_RTT_S
        return float(rtt_s * self._rng.uniform(0.5, 1.5) * 2 ** max(0, min(MOST_DOUBLINGS, doublings)))

    def _log(self, now_s: float, before: int, reason: Reason) -> None:
        if self.limit != before or reason is Reason.RESET:
            self._note(Change(now_s, before, self.limit, reason))

    def _note(self, change: Change) -> None:
        self.changes.append(change)
        self.change_count += 1
