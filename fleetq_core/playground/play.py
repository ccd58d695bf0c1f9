"""One run of the playground: from what a person chose to a timeline, figures and the decisions that mattered."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fleetq_core.throttle.config import ThrottleConfig
from fleetq_core.throttle.rule import LimitRule

from .limiters import Limiter, LiteralAimd
from .scenario import Mode, Move, Outcome, Scenario, count
from .simulation import Simulation, limiters_of, shared

SETTLED_S = 60.0  # how much of each phase the steady figures leave out
MOST_CLIENTS, MOST_STEPS, MOST_CAPACITY = 50, 20, 1000
SHORTEST_S, LONGEST_S = 30.0, 7200.0
SHORTEST_CALL_S, LONGEST_CALL_S = 0.01, 60.0
MOST_CALLS = 200_000  # about three seconds of a processor
MOST_CLIENT_S = 45_000.0  # clients × length: refusals cost time too, however small the capacity
MOST_MOMENTS = 16
# Shares of the limit: what moves it less is told in a sum. The least is taken that is brief.
SMALL_MOVES = (0.1, 0.2, 0.35, 0.5, 0.7, 0.9)


class Kind(StrEnum):
    """What keeps the clients to the capacity: a throttle of each pod, one of the fleet, or the plain AIMD of before."""

    POD = "pod"
    FLEET = "fleet"
    LITERAL = "literal"


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the run: capacity and limit (of all clients together), and calls each second."""

    at_s: float
    until_s: float
    capacity: int
    limit: int
    answered_per_s: float
    lost_per_s: float


@dataclass(frozen=True, slots=True)
class Moment:
    """One decision that mattered, or many small ones together (`reason` says which)."""

    at_s: float
    until_s: float
    before: int
    after: int
    reason: str
    times: int


@dataclass(frozen=True, slots=True)
class Adaption:
    """A step of the capacity, and how many seconds it took to follow; None if that never happened."""

    at_s: float
    before: int
    after: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Played:
    """A run, told. Shares lie between 0 and 1; `lost` are calls refused or timed out; None: it cannot be said."""

    scenario: Scenario
    kind: Kind
    seed: int
    slices: list[Slice]
    moments: list[Moment]
    utilisation: float
    lost_share: float
    steady_utilisation: float | None
    steady_lost_share: float | None
    fairness: float | None
    adaptions: list[Adaption]


def capacities_of(text: str) -> list[int]:
    """Capacities from `40,10,60`. Raises ValueError with a sentence."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part[:9]) <= MOST_CAPACITY for part in parts):
        raise ValueError(
            f"{text!r} is not a list of capacities such as 40,10,60: whole numbers from 1 to {MOST_CAPACITY:,}"
        )
    if len(parts) > MOST_STEPS:
        raise ValueError(f"{len(parts)} capacities are too many: {MOST_STEPS} at most")
    return [int(part) for part in parts]


def scenario_of(
    capacities: Sequence[int], mode: Mode, clients: int, length_s: float = 900.0, mean_call_s: float = 1.0
) -> Scenario:
    """The capacities one after another, each for the same time. Raises ValueError for a run that would take long."""
    # A range by itself does not keep NaN out.
    if not SHORTEST_S <= length_s <= LONGEST_S:
        raise ValueError(f"a run of {length_s} s: it may be {SHORTEST_S:g} to {LONGEST_S:g} s long")
    if not SHORTEST_CALL_S <= mean_call_s <= LONGEST_CALL_S:
        raise ValueError(f"calls of {mean_call_s} s: they may last {SHORTEST_CALL_S:g} to {LONGEST_CALL_S:g} s")
    each_s = length_s / len(capacities)
    steps = tuple((number * each_s, capacity) for number, capacity in enumerate(capacities))
    scenario = Scenario(steps, length_s, mean_call_s, mode, clients)
    if clients * length_s > MOST_CLIENT_S:
        raise ValueError(
            f"{clients} clients for {length_s:g} s are too much; at most {MOST_CLIENT_S:,.0f} seconds of all clients "
            "together are simulated: choose a shorter run or fewer clients"
        )
    calls = scenario.possible(0.0, length_s)
    if calls > MOST_CALLS:
        raise ValueError(
            f"that would be up to {calls:,.0f} calls; at most {MOST_CALLS:,} are simulated: "
            "choose a shorter run, longer calls or smaller capacities"
        )
    return scenario


def play(scenario: Scenario, kind: Kind, seed: int, slice_s: float | None = None) -> Played:
    """Run it. `slice_s` is the length of a part of the timeline, by default a thirtieth of the run."""
    config = ThrottleConfig(event_log_size=MOST_CALLS)
    make = {
        Kind.POD: lambda rng: LimitRule(config, rng),
        Kind.FLEET: shared(config),
        Kind.LITERAL: lambda _: LiteralAimd(),
    }[kind]
    limiters = limiters_of(scenario, make, seed)
    out = Simulation(scenario, limiters, seed).run()
    settled = len(out.windows(SETTLED_S)) == len(scenario.steps)
    return Played(
        scenario, kind, seed,
        slices=slices_of(out, slice_s or scenario.length_s / 30),
        moments=moments_of(out.moves or _moves_of(limiters[0])),
        utilisation=out.utilisation(),
        lost_share=out.refusal_share(),
        steady_utilisation=out.utilisation(SETTLED_S) if settled else None,
        steady_lost_share=out.refusal_share(SETTLED_S) if settled else None,
        fairness=out.fairness(SETTLED_S if settled else 0.0) if scenario.clients > 1 else None,
        adaptions=_adaptions(out),
    )  # fmt: skip


def slices_of(out: Outcome, slice_s: float) -> list[Slice]:
    """The run in parts of equal length (the last may be shorter)."""
    found: list[Slice] = []
    length_s, limits, last = out.scenario.length_s, iter([*out.limits, (out.scenario.length_s, 0)]), (0.0, 0)
    following = next(limits)
    for number in itertools.count():
        begin_s = number * slice_s
        end_s = min(length_s, begin_s + slice_s)
        if end_s - begin_s < slice_s / 1000:
            return found
        while following[0] <= end_s and following[0] < length_s:
            last, following = following, next(limits)
        answered, lost = (sum(count(times, begin_s, end_s) for times in kind) for kind in (out.done, out.refused))
        spent_s = end_s - begin_s
        capacity = out.scenario.capacity_at(begin_s)
        found.append(Slice(begin_s, end_s, capacity, last[1], answered / spent_s, lost / spent_s))
    raise AssertionError


def moments_of(moves: Sequence[Move]) -> list[Moment]:
    """Moves of the same reason in a row become one; those that hardly moved the limit are summed up between others."""
    runs: list[Moment] = []
    for move in moves:
        last = runs[-1] if runs else None
        if last and last.reason == move.reason and last.after == move.before:
            runs[-1] = Moment(last.at_s, move.at_s, last.before, move.after, move.reason, last.times + 1)
        else:
            runs.append(Moment(move.at_s, move.at_s, move.before, move.after, move.reason, 1))
    for share in SMALL_MOVES:
        told = _told(runs, share)
        if len(told) <= MOST_MOMENTS:
            break
    return told


def _told(runs: Sequence[Moment], share: float) -> list[Moment]:
    def is_small(run: Moment) -> bool:
        return abs(run.after - run.before) < max(4.0, share * max(run.before, run.after))

    told: list[Moment] = []
    for small, group in itertools.groupby(runs, is_small):
        some = list(group)
        if small and len(some) > 1:
            times = sum(run.times for run in some)
            told.append(Moment(some[0].at_s, some[-1].until_s, some[0].before, some[-1].after, "small changes", times))
        else:
            told += some
    return told


def _moves_of(limiter: Limiter) -> list[Move]:
    """What one client's own rule decided."""
    changes = limiter.changes if isinstance(limiter, LimitRule) else ()
    return [Move(change.at_s, change.before, change.after, change.reason.value) for change in changes]


def _adaptions(out: Outcome) -> list[Adaption]:
    found = []
    for (_, before), (at_s, after) in itertools.pairwise(out.scenario.steps):
        if before != after:
            seconds = out.seconds_down(at_s) if after < before else out.seconds_up(at_s)
            found.append(Adaption(at_s, before, after, None if seconds == float("inf") else seconds))
    return found
