"""A client that always has work against a server whose capacity steps 40 → 10 → 60: a seeded discrete-event simulation.

It drives the real rule of fleetq_core.throttle on a virtual clock, beside a fixed limit, AIMD taken literally from the
specification and Netflix Gradient2. Seeds are not those that any setting was tuned with.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.throttle_rivals import Fixed, Gradient2, Limiter, LiteralAimd
from fleetq_core.throttle import LimitRule, ThrottleConfig
from fleetq_core.throttle.rule import Flight

from . import harness

SEEDS = (301, 302, 303, 304, 305)
LENGTH_S = 900.0
STEPS: tuple[tuple[float, int], ...] = ((0.0, 40), (300.0, 10), (600.0, 60))
MEAN_CALL_S = 1.0
REFUSAL_S = 0.05
BURST_S = 2.0
CLIENT_TIMEOUT_S = 5.0
WORKERS = 100
RETRY_BASE_S, RETRY_MAX_S = 1.0, 20.0
LOOK_S = 10.0


def capacity_at(now_s: float) -> int:
    """The server's capacity: calls at once, or calls a second of mean length."""
    return STEPS[bisect_right([at for at, _ in STEPS], now_s) - 1][1]


@dataclass(slots=True)
class Outcome:
    """One run: when calls were answered, started and refused, and how many were under way by time."""

    done: list[float] = field(default_factory=list)
    starts: int = 0
    refused: int = 0
    levels: list[tuple[float, int]] = field(default_factory=list)

    @property
    def utilisation(self) -> float:
        """Calls answered in time ÷ calls of mean length that the capacity allowed."""
        ends = [at for at, _ in STEPS[1:]] + [LENGTH_S]
        possible = sum((end - at) * capacity for (at, capacity), end in zip(STEPS, ends, strict=True))
        return len(self.done) / (possible / MEAN_CALL_S)

    @property
    def refusal_share(self) -> float:
        """Refused (or timed out) calls ÷ calls."""
        return self.refused / max(1, self.starts)

    def seconds_down(self, step_s: float) -> float:
        """Seconds from a step down until no more than the capacity is under way for the first time."""
        capacity = capacity_at(step_s)
        return next((at - step_s for at, level in self.levels if at > step_s and level <= capacity), LENGTH_S)

    def seconds_up(self, step_s: float) -> float:
        """Seconds from a step up until the start of the first ten with 0.9 of the calls that the capacity allows."""
        goal = 0.9 * capacity_at(step_s) * LOOK_S / MEAN_CALL_S
        for second in range(int(LENGTH_S - step_s - LOOK_S) + 1):
            low = bisect_left(self.done, step_s + second)
            if bisect_left(self.done, step_s + second + LOOK_S) - low >= goal:
                return second
        return LENGTH_S


class Simulation:
    """One client of 100 workers, each backing off after a refusal, and one server.

    `mode` is hard (refuse above capacity), rate (token bucket) or timeouts (an endless queue; nobody tells the server
    that a client has given up).
    """

    def __init__(self, limiter: Limiter, mode: str, seed: int) -> None:
        self.limiter, self.mode, self.rng = limiter, mode, random.Random(seed)
        self.out = Outcome()
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._under_way = self._busy = 0
        self._idle = [0] * WORKERS
        self._queue: list[tuple[Flight, list[bool]]] = []
        self._tokens, self._filled_s = BURST_S * capacity_at(0.0), 0.0

    def run(self) -> Outcome:
        """From 0 to LENGTH_S."""
        for at, _ in STEPS[1:]:
            self._at(at, self._serve)
        self._send()
        while self._events and self._events[0][0] < LENGTH_S:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
            self._send()
            self.out.levels.append((self.now_s, self._under_way))
        return self.out

    def _at(self, at_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), event))

    def _send(self) -> None:
        while self._idle and self.limiter.open_slots(self.now_s) > 0:
            self._under_way += 1
            self.out.starts += 1
            self._arrive(self.limiter.start(self.now_s), self._idle.pop())
        opens_s = self.limiter.opens_at_s(self.now_s)
        if opens_s is not None and not (self._events and self._events[0][0] <= opens_s):
            self._at(opens_s, lambda: None)

    def _arrive(self, flight: Flight, refusals: int) -> None:
        if self.mode == "timeouts":
            state = [False]
            self._queue.append((flight, state))
            self._at(self.now_s + CLIENT_TIMEOUT_S, lambda: self._time_out(flight, state))
            self._serve()
        elif self._admit():
            self._busy += 1
            call_s = self.rng.expovariate(1 / MEAN_CALL_S)
            self._at(self.now_s + call_s, lambda: self._finish(flight))
        else:
            self._at(self.now_s + REFUSAL_S, lambda: self._refuse(flight, refusals + 1))

    def _admit(self) -> bool:
        capacity = capacity_at(self.now_s)
        if self.mode == "hard":
            return self._busy < capacity
        self._tokens = min(BURST_S * capacity, self._tokens + (self.now_s - self._filled_s) * capacity / MEAN_CALL_S)
        self._filled_s = self.now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _serve(self) -> None:
        while self._queue and self._busy < capacity_at(self.now_s):
            flight, state = self._queue.pop(0)
            call_s = self.rng.expovariate(1 / MEAN_CALL_S)
            self._busy += 1
            self._at(self.now_s + call_s, functools.partial(self._finish, flight, state))

    def _finish(self, flight: Flight, state: list[bool] | None = None) -> None:
        self._busy -= 1
        self._serve()
        if state is not None:
            if state[0]:
                return
            state[0] = True
        self._under_way -= 1
        self._idle.append(0)
        self.out.done.append(self.now_s)
        self.limiter.success(self.now_s, flight)
        self.limiter.end(self.now_s, flight)

    def _refuse(self, flight: Flight, refusals: int) -> None:
        self._under_way -= 1
        self.out.refused += 1
        wait_s = self.rng.uniform(0, min(RETRY_MAX_S, RETRY_BASE_S * 2 ** min(refusals - 1, 10)))
        self._at(self.now_s + wait_s, lambda: self._idle.append(refusals))
        self.limiter.throttle(self.now_s, flight)
        self.limiter.end(self.now_s, flight)

    def _time_out(self, flight: Flight, state: list[bool]) -> None:
        if state[0]:
            return
        state[0] = True
        self._under_way -= 1
        self.out.refused += 1
        self._idle.append(0)
        self.limiter.timeout(self.now_s, flight)
        self.limiter.end(self.now_s, flight)


LIMITERS: dict[str, Callable[[int], Limiter]] = {
    "FLEET-Q": lambda seed: LimitRule(ThrottleConfig(), random.Random(seed)),
    "AIMD, literal": lambda _: LiteralAimd(),
    "Gradient2": lambda _: Gradient2(),
    "fixed 10": lambda _: Fixed(10),
}
# mode → (least utilisation, most refusals)
TARGETS = {"hard": (0.94, 0.006), "rate": (0.95, 0.01), "timeouts": (0.92, None)}


def simulate(name: str, mode: str, seed: int) -> Outcome:
    """One run of a named limiter."""
    return Simulation(LIMITERS[name](seed), mode, seed).run()


def run(seeds: tuple[int, ...] = SEEDS) -> harness.Report:
    """Means over the seeds for utilisation and refusals, medians for the seconds to adapt (as the published ones)."""
    report = harness.Report(f"One client, capacity 40 → 10 → 60, {LENGTH_S:g} s, mean call {MEAN_CALL_S:g} s")
    for mode, (least, most) in TARGETS.items():
        for name in LIMITERS:
            runs = [simulate(name, mode, seed) for seed in seeds]
            ours = name == "FLEET-Q"
            lost = "timeouts" if mode == "timeouts" else "refused"
            report.add(
                f"{mode}: {name}: utilisation",
                statistics.fmean(out.utilisation for out in runs),
                "",
                least if ours else None,
            )
            share = 100 * statistics.fmean(out.refusal_share for out in runs)
            report.add(f"{mode}: {name}: {lost}", share, "%", 100 * most if ours and most else None, at_least=False)
            if mode == "hard":
                down = statistics.median(out.seconds_down(300.0) for out in runs)
                report.add(f"hard: {name}: under after a step down", down, "s", 3.0 if ours else None, at_least=False)
                up = statistics.median(out.seconds_up(600.0) for out in runs)
                report.add(f"hard: {name}: 90 % after a step up", up, "s", 35.0 if ours else None, at_least=False)
    return report


if __name__ == "__main__":
    print("\n".join(run().lines()))
