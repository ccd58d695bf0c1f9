"""What is simulated, a downstream whose capacity steps, and what came of a run."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Mode(StrEnum):
    """How the downstream says no: at once above its capacity, from a token bucket, or never, with an endless queue."""

    HARD = "hard"
    RATE = "rate"
    TIMEOUTS = "timeouts"


@dataclass(frozen=True, slots=True)
class Move:
    """At `at_s` a limit went `before` → `after`."""

    at_s: float
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """`steps` are (from second, capacity): calls at once, or calls in `mean_call_s`. Times are seconds.

    Calls are lognormal with `spread` as sigma, or exponential where that is None: then 0.7 % of the calls of an idle
    downstream already pass the clients' time limit. `presence` is (client, from, until) for those that do not work all
    the time; `lost_exchanges` is the share of heartbeats that the store does not take.
    """

    steps: tuple[tuple[float, int], ...] = ((0.0, 40), (300.0, 10), (600.0, 60))
    length_s: float = 900.0
    mean_call_s: float = 1.0
    mode: Mode = Mode.HARD
    clients: int = 1
    spread: float | None = 0.3
    leader_dies_s: float | None = None
    presence: tuple[tuple[int, float, float], ...] = ()
    lost_exchanges: float = 0.0

    def capacity_at(self, now_s: float) -> int:
        """The capacity of the downstream."""
        return self.steps[bisect_right([at for at, _ in self.steps], now_s) - 1][1]

    def possible(self, begin_s: float, end_s: float) -> float:
        """Calls of mean length that the capacity allows between two times."""
        bounds = [(at, capacity) for at, capacity in self.steps] + [(self.length_s, 0)]
        room = sum(
            max(0.0, min(end_s, until) - max(begin_s, at)) * capacity
            for (at, capacity), (until, _) in itertools.pairwise(bounds)
        )
        return room / self.mean_call_s


@dataclass(slots=True)
class Outcome:
    """One run: for each client when its calls were answered, started and refused; and the limits over time.

    `levels` are the calls under way after each event, `limits` the sum of the clients' limits each second, `moves` what
    the leader decided.
    """

    scenario: Scenario
    done: Sequence[list[float]]
    started: Sequence[list[float]]
    refused: Sequence[list[float]]
    levels: list[tuple[float, int]] = field(default_factory=list)
    limits: list[tuple[float, int]] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    exchanges: int = 0

    def windows(self, settled_s: float = 0.0) -> list[tuple[float, float]]:
        """The phases between steps of capacity, each without its first `settled_s`; one that is shorter is left out."""
        ends = [at for at, _ in self.scenario.steps[1:]] + [self.scenario.length_s]
        phases = zip(self.scenario.steps, ends, strict=True)
        return [(at + settled_s, end) for (at, _), end in phases if at + settled_s < end]

    def utilisation(self, settled_s: float = 0.0) -> float:
        """Calls answered in time ÷ calls that the capacity allowed, without the first `settled_s` after each step."""
        windows = self.windows(settled_s)
        done = sum(count(times, *window) for times in self.done for window in windows)
        possible = sum(self.scenario.possible(*window) for window in windows)
        return done / possible if possible else 0.0

    def refusal_share(self, settled_s: float = 0.0) -> float:
        """Refused (or timed out) calls ÷ calls, over the same time."""
        windows = self.windows(settled_s)
        refused = sum(count(times, *window) for times in self.refused for window in windows)
        return refused / max(1, sum(count(times, *window) for times in self.started for window in windows))

    def fairness(self, settled_s: float = 0.0) -> float:
        """Jain's index of the calls answered by client: the mean of the phases between steps (1 is even)."""
        found = []
        for window in self.windows(settled_s):
            counts = [count(times, *window) for times in self.done]
            squares = sum(answered * answered for answered in counts)
            found.append(sum(counts) ** 2 / (len(counts) * squares) if squares else 0.0)
        return sum(found) / max(1, len(found))

    def seconds_down(self, step_s: float) -> float:
        """Seconds from a step down until no more than the capacity is under way for the first time."""
        capacity = self.scenario.capacity_at(step_s)
        return next((at - step_s for at, level in self.levels if at > step_s and level <= capacity), float("inf"))

    def seconds_up(self, step_s: float, look_s: float = 10.0) -> float:
        """Seconds from a step up until the start of the first `look_s` with 0.9 of the calls that it allows."""
        end_s = next((at for at, _ in self.scenario.steps if at > step_s), self.scenario.length_s)
        for second in range(int(end_s - step_s - look_s) + 1):
            begin_s = step_s + second
            answered = sum(count(times, begin_s, begin_s + look_s) for times in self.done)
            if answered >= 0.9 * self.scenario.possible(begin_s, begin_s + look_s):
                return second
        return float("inf")


def count(times: Sequence[float], begin_s: float, end_s: float) -> int:
    """How many of the rising `times` lie between two."""
    return bisect_left(times, end_s) - bisect_left(times, begin_s)
