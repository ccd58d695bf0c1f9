"""Clients that always have work against a downstream whose capacity steps: a seeded discrete-event simulation.

It drives the real rules of fleetq_core.throttle on a virtual clock; what takes an hour takes a second.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence

from fleetq_core.throttle.config import ThrottleConfig
from fleetq_core.throttle.fleet import EXCHANGE_S, Plan, Report
from fleetq_core.throttle.fleet_rule import FleetRule
from fleetq_core.throttle.rule import Flight
from fleetq_core.throttle.shared_rule import SharedRule

from .limiters import Limiter
from .scenario import Mode, Move, Outcome, Scenario

REFUSAL_S = 0.05  # how soon a refusal is back
BURST_S = 2.0  # how much of its rate a token bucket saves up
CLIENT_TIMEOUT_CALLS = 5.0  # a client gives up after as many mean calls
WORKERS = 100  # of each client
RETRY_BASE_S, RETRY_MAX_S = 0.2, 20.0
LEAST_LOOK_S = 0.001  # so that a limiter which names an opening time and then does not open cannot stop the time
DEAD_S = 60.0  # until the fleet has noticed that its leader is dead


class Simulation:
    """Clients of 100 workers each, that back off after a refusal, and one downstream.

    A client that gives a call up does not tell the downstream, which works it off all the same. With SharedRules the
    clients exchange reports and plans through a leader, as pods do with their heartbeats.
    """

    def __init__(self, scenario: Scenario, limiters: Sequence[Limiter], seed: int) -> None:
        self.scenario, self.rng = scenario, random.Random(seed)
        self.limiters = list(limiters)
        self.out = Outcome(scenario, self._lists(), self._lists(), self._lists())
        self.now_s = 0.0
        self._timeout_s = CLIENT_TIMEOUT_CALLS * scenario.mean_call_s
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._under_way = self._busy = 0
        self._idle = [[0] * WORKERS for _ in self.limiters]
        self._looks: list[float | None] = [None] * len(self.limiters)
        self._queue: list[tuple[int, Flight, list[bool]]] = []
        self._tokens, self._filled_s = BURST_S * scenario.capacity_at(0.0), 0.0
        self._dead: set[int] = set()
        self._fleet = _Exchange(self) if any(isinstance(rule, SharedRule) for rule in self.limiters) else None

    def run(self, on_second: Callable[[float], None] | None = None) -> Outcome:
        """From 0 to the end; `on_second` hears of each second that has passed."""
        for at, _ in self.scenario.steps[1:]:
            self.at(at, self._serve)
        if self.scenario.leader_dies_s is not None:
            self.at(self.scenario.leader_dies_s, lambda: self._dead.add(0))
        for client, begins_s, ends_s in self.scenario.presence:
            self._dead.add(client)
            self.at(begins_s, functools.partial(self._join, client))
            self.at(ends_s, functools.partial(self._dead.add, client))
        if self._fleet:
            self._fleet.begin()
        self.at(1.0, lambda: self._second(on_second))
        for client in range(len(self.limiters)):
            self.send(client)
        while self._events and self._events[0][0] < self.scenario.length_s:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
            self.out.levels.append((self.now_s, self._under_way))
        return self.out

    def _lists(self) -> list[list[float]]:
        return [[] for _ in self.limiters]

    def at(self, at_s: float, event: Callable[[], None]) -> None:
        """Have something happen."""
        heapq.heappush(self._events, (at_s, next(self._order), event))

    def _join(self, client: int) -> None:
        self._dead.discard(client)
        if self._fleet:
            self._fleet.join(client)
        self.send(client)

    def is_alive(self, client: int) -> bool:
        """Whether the client works."""
        return client not in self._dead

    def idle(self, client: int) -> int:
        """Workers that would call at once if they might."""
        return len(self._idle[client])

    def send(self, client: int) -> None:
        """Start what may start."""
        limiter, idle = self.limiters[client], self._idle[client]
        if client in self._dead:
            return
        while idle and limiter.open_slots(self.now_s) > 0:
            self._under_way += 1
            self.out.started[client].append(self.now_s)
            self._arrive(client, limiter.start(self.now_s), idle.pop())
        opens_s = limiter.opens_at_s(self.now_s) if idle else None
        known_s = self._looks[client]
        if opens_s is not None and (known_s is None or known_s <= self.now_s or opens_s < known_s):
            self._looks[client] = max(opens_s, self.now_s + LEAST_LOOK_S)
            self.at(max(opens_s, self.now_s + LEAST_LOOK_S), lambda: self.send(client))

    def _second(self, on_second: Callable[[float], None] | None) -> None:
        limits = [getattr(rule, "limit", 0) for client, rule in enumerate(self.limiters) if client not in self._dead]
        self.out.limits.append((self.now_s, int(sum(limits))))
        if on_second:
            on_second(self.now_s)
        self.at(self.now_s + 1.0, lambda: self._second(on_second))

    def _arrive(self, client: int, flight: Flight, refusals: int) -> None:
        if self.scenario.mode is Mode.TIMEOUTS:
            state = [False]
            self._queue.append((client, flight, state))
            self.at(self.now_s + self._timeout_s, lambda: self._time_out(client, flight, state, refusals + 1))
            self._serve()
        elif self._admit():
            self._busy += 1
            self.at(self.now_s + self._call_s(), lambda: self._finish(client, flight))
        else:
            self.at(self.now_s + REFUSAL_S, lambda: self._refuse(client, flight, refusals + 1))

    def _call_s(self) -> float:
        mean_s, spread = self.scenario.mean_call_s, self.scenario.spread
        if spread is None:
            return self.rng.expovariate(1 / mean_s)
        return self.rng.lognormvariate(math.log(mean_s) - spread * spread / 2, spread)

    def _admit(self) -> bool:
        capacity = self.scenario.capacity_at(self.now_s)
        if self.scenario.mode is Mode.HARD:
            return self._busy < capacity
        rate = capacity / self.scenario.mean_call_s
        self._tokens = min(BURST_S * rate, self._tokens + (self.now_s - self._filled_s) * rate)
        self._filled_s = self.now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _serve(self) -> None:
        while self._queue and self._busy < self.scenario.capacity_at(self.now_s):
            client, flight, state = self._queue.pop(0)
            self._busy += 1
            self.at(self.now_s + self._call_s(), functools.partial(self._finish, client, flight, state))

    def _finish(self, client: int, flight: Flight, state: list[bool] | None = None) -> None:
        self._busy -= 1
        self._serve()
        if state is not None:
            if state[0]:
                return
            state[0] = True
        self._under_way -= 1
        self._idle[client].append(0)
        self.out.done[client].append(self.now_s)
        self.limiters[client].success(self.now_s, flight)
        self._end(client, flight)

    def _refuse(self, client: int, flight: Flight, refusals: int) -> None:
        self._back_off(client, refusals)
        self.limiters[client].throttle(self.now_s, flight)
        self._end(client, flight)

    def _time_out(self, client: int, flight: Flight, state: list[bool], refusals: int) -> None:
        if state[0]:
            return
        state[0] = True
        self._back_off(client, refusals)
        self.limiters[client].timeout(self.now_s, flight)
        self._end(client, flight)

    def _back_off(self, client: int, refusals: int) -> None:
        """A worker whose call was lost for the `refusals`th time in a row waits: full jitter, doubling."""
        self.out.refused[client].append(self.now_s)
        self._under_way -= 1
        wait_s = self.rng.uniform(0, min(RETRY_MAX_S, RETRY_BASE_S * 2 ** min(refusals - 1, 10)))
        self.at(self.now_s + wait_s, lambda: self._back(client, refusals))

    def _end(self, client: int, flight: Flight) -> None:
        self.limiters[client].end(self.now_s, flight)
        self.send(client)

    def _back(self, client: int, refusals: int) -> None:
        self._idle[client].append(refusals)
        self.send(client)


class _Exchange:
    """The heartbeats of a fleet: every client reports, hears the last plan, and the oldest that lives plans."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._rules = {n: rule for n, rule in enumerate(simulation.limiters) if isinstance(rule, SharedRule)}
        self._reports: dict[int, Report] = {}
        self._died_s: dict[int, float] = {}
        self._plan: Plan | None = None
        self._planners: dict[int, FleetRule] = {}

    def begin(self) -> None:
        """Each client at a time of its own."""
        for client in self._rules:
            if self._simulation.is_alive(client):
                self.join(client)

    def join(self, client: int) -> None:
        """The first beat of a client comes soon."""
        simulation = self._simulation
        simulation.at(simulation.now_s + simulation.rng.uniform(0, EXCHANGE_S), functools.partial(self._beat, client))

    def _beat(self, client: int) -> None:
        simulation, now_s = self._simulation, self._simulation.now_s
        if not simulation.is_alive(client):
            self._died_s[client] = now_s
            return
        simulation.at(now_s + EXCHANGE_S, functools.partial(self._beat, client))
        if simulation.scenario.lost_exchanges and simulation.rng.random() < simulation.scenario.lost_exchanges:
            return
        rule = self._rules[client]
        self._reports[client] = rule.report(now_s, simulation.idle(client))
        living = [n for n in sorted(self._reports) if now_s - self._died_s.get(n, now_s) < DEAD_S]
        if client == living[0]:
            planner = self._planners.get(client)
            if planner is None:
                planner = FleetRule(rule.config, random.Random(simulation.rng.random()))
                self._planners[client] = planner
            before = self._plan.limit if self._plan else None
            self._plan = planner.plan(now_s, {str(n): self._reports[n] for n in living})
            if self._plan.limit is not None and self._plan.limit != before:
                simulation.out.moves.append(Move(now_s, before or 0, self._plan.limit, self._plan.reason))
        if self._plan is not None:
            rule.adopt(now_s, self._plan, str(client))
        simulation.out.exchanges += 1
        simulation.send(client)


def limiters_of(scenario: Scenario, make: Callable[[random.Random], Limiter], seed: int) -> list[Limiter]:
    """A limiter for each client, each with chance of its own."""
    return [make(random.Random(f"{seed}/{client}")) for client in range(scenario.clients)]


def shared(config: ThrottleConfig | None = None) -> Callable[[random.Random], Limiter]:
    """A maker of rules that share the fleet's limit."""
    return lambda rng: SharedRule(config or ThrottleConfig(), rng)
