"""One throttle for the whole fleet: the rule of a pod with a share, the rule of the leader, and what they exchange."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fleetq_core.exchange import IN_USE_S, Exchange
from fleetq_core.leader.planner import Planner
from fleetq_core.model import Beat, BeatState, Identity
from fleetq_core.playground.simulation import Scenario, Simulation, limiters_of, shared
from fleetq_core.throttle import (
    AdaptiveThrottle,
    Reason,
    ThrottleConfig,
    ThrottleConfigError,
    ThrottleTimeout,
    get_or_create_throttle,
)
from fleetq_core.throttle.fleet import EXCHANGE_S, LEASE_S, Plan, Report
from fleetq_core.throttle.fleet_rule import FleetRule
from fleetq_core.throttle.rule import Flight
from fleetq_core.throttle.shared_rule import SharedRule
from fleetq_core.throttle.wake import on_wake
from tests.support.clock import FakeClock
from tests.support.waiting import eventually

FLEET = ThrottleConfig(initial_limit=10, scope="fleet")


def plan(seq: int, share: int, *, epoch: int = 1, limit: int | None = 10, seen: int = 0) -> Plan:
    return Plan(seq, epoch, limit, {"a": share}, {"a": seen})


def planned(share: int) -> SharedRule:
    rule = SharedRule(FLEET, random.Random(1))
    rule.report(0.0, 0)
    rule.adopt(0.0, plan(1, share, seen=1), "a")
    return rule


def fill(rule: SharedRule, now_s: float) -> list[Flight]:
    return [rule.start(now_s) for _ in range(rule.open_slots(now_s))]


def report(number: int, *, seq: int = 0, epoch: int = 0, limit: int = 1, wanted: int = 50, **other: Any) -> Report:
    values: dict[str, Any] = {
        "age_s": 5.0, "in_flight": limit, "full": True, "slow": False, "rtt_s": 1.0, "ok": 0, "refused": 0, "timed_out": 0,
    }  # fmt: skip
    return Report(number=number, seq=seq, epoch=epoch, limit=limit, wanted=wanted, **(values | other))


# -- a pod with a share -----------------------------------------------------------------------------------------------


def test_a_pod_keeps_to_its_share_and_takes_the_next() -> None:
    rule = planned(4)
    assert len(fill(rule, 0.0)) == 4
    rule.adopt(2.0, plan(2, 2), "a")
    assert (rule.limit, rule.open_slots(2.0)) == (2, 0)
    rule.adopt(4.0, plan(3, 7), "a")
    assert rule.open_slots(4.0) == 3
    assert [change.reason for change in rule.changes] == [Reason.FLEET_SHARE] * 3


def test_successes_do_not_move_a_share() -> None:
    rule = planned(4)
    for number in range(200):
        flight = rule.start(number / 100)
        rule.success(number / 100, flight)
        rule.end(number / 100, flight)
    assert rule.limit == 4
    assert rule.report(2.0, 0).ok == 200


def test_each_refused_slot_is_given_up_until_the_leader_has_heard_of_it() -> None:
    rule = planned(4)
    first, second, *_ = fill(rule, 0.0)
    rule.throttle(1.0, first)
    rule.end(1.0, first)
    assert (rule.limit, rule.open_slots(1.0)) == (3, 0)
    told = rule.report(2.0, 0)
    rule.throttle(2.5, second)
    rule.end(2.5, second)
    assert (told.refused, rule.limit) == (1, 2)
    # This plan knows of the first refusal only: of its 3 slots the second stays given up.
    rule.adopt(4.0, plan(2, 3, seen=told.number), "a")
    assert rule.limit == 2
    rule.adopt(6.0, plan(3, 2, seen=rule.report(5.0, 0).number), "a")
    assert rule.limit == 2


def test_a_call_of_an_earlier_limit_that_is_refused_holds_its_slot_but_gives_up_none() -> None:
    rule = planned(4)
    old, *_ = fill(rule, 0.0)
    rule.adopt(1.0, plan(2, 4, epoch=2), "a")
    rule.throttle(1.1, old)
    rule.end(1.1, old)
    assert (rule.limit, rule.report(2.0, 0).refused, rule.open_slots(1.1)) == (4, 0, 0)


def test_a_timeout_moves_nothing_here_and_is_told() -> None:
    rule = planned(4)
    flight, *_ = fill(rule, 0.0)
    rule.timeout(5.0, flight)
    assert (rule.limit, rule.report(5.0, 0).timed_out) == (4, 1)


def test_a_new_limit_counts_as_reached_only_when_it_is() -> None:
    rule = planned(4)
    fill(rule, 0.0)
    assert rule.report(1.0, 0).full
    rule.adopt(2.0, plan(2, 6, epoch=2), "a")
    told = rule.report(3.0, 0)
    assert (told.full, told.age_s, told.epoch) == (False, 1.0, 2)
    fill(rule, 3.0)
    assert rule.report(4.0, 0).full


def test_a_plan_that_is_known_renews_nothing() -> None:
    rule = planned(4)
    rule.adopt(LEASE_S - 1, plan(1, 9), "a")
    assert rule.open_slots(LEASE_S - 0.1) == 4
    assert rule.opens_at_s(LEASE_S - 0.1) == LEASE_S
    rule.open_slots(LEASE_S)
    assert rule.changes[-1].reason is not Reason.RESET
    assert rule.ceiling == 4  # by its own rule, from its share


def test_without_fresh_word_a_pod_goes_on_by_its_own_rule_from_its_share() -> None:
    rule = planned(4)
    flights = fill(rule, LEASE_S)
    assert len(flights) == 4
    rule.throttle(LEASE_S + 1, flights[0])
    assert (rule.limit, rule.changes[-1].reason) == (2, Reason.THROTTLE)
    # The next leader's word counts again.
    rule.adopt(LEASE_S + 5, plan(9, 6, epoch=4), "a")
    assert rule.limit == 6


def test_a_share_of_nothing_starts_nothing_until_the_lease_is_over() -> None:
    rule = planned(0)
    assert rule.open_slots(LEASE_S - 0.1) == 0
    assert rule.open_slots(LEASE_S) == FLEET.min_limit


def test_before_any_word_only_the_least_is_started() -> None:
    rule = SharedRule(FLEET)
    assert len(fill(rule, 0.0)) == FLEET.min_limit
    assert rule.open_slots(LEASE_S) == 0


def test_a_single_pod_goes_by_its_own_rule() -> None:
    rule = SharedRule(FLEET, random.Random(1))
    rule.adopt(0.0, plan(1, 0, limit=None), "a")
    assert rule.limit == FLEET.initial_limit
    for flight in fill(rule, 0.0) + fill(rule, 1.0):
        rule.success(2.0, flight)
        rule.end(2.0, flight)
    for flight in fill(rule, 3.0):
        rule.success(4.0, flight)
        rule.end(4.0, flight)
    assert rule.limit > 20  # slow start
    rule.adopt(40.0, plan(2, 0, limit=None), "a")
    assert rule.limit > 20


def test_a_reset_goes_back_and_hears_the_next_plan() -> None:
    rule = planned(4)
    flights = fill(rule, 0.0)
    rule.throttle(1.0, flights[0])
    rule.reset(1.0)
    assert (rule.limit, rule.in_flight) == (FLEET.min_limit, 4)
    rule.adopt(2.0, plan(2, 5), "a")
    assert rule.limit == 5


def test_retry_after_shuts_a_share_too() -> None:
    rule = planned(4)
    flight, *_ = fill(rule, 0.0)
    rule.throttle(0.0, flight, retry_after_s=30.0)
    assert (rule.slots(1.0), rule.slots(29.0)) == (0, 0)


@pytest.mark.parametrize("value", [None, 7, {}, {"number": "x"}, {"seq": 1}, [], {"shares": []}])
def test_what_is_no_report_or_plan_is_none(value: object) -> None:
    assert Report.from_json(value) is None
    assert Plan.from_json(value) is None


def test_reports_and_plans_survive_json() -> None:
    told = report(3, seq=2)
    assert Report.from_json(told.to_json()) == told
    made = plan(3, 4)
    assert Plan.from_json(made.to_json()) == made


# -- the leader -------------------------------------------------------------------------------------------------------


class Leader:
    """A FleetRule with pods that do at once what the plan says."""

    def __init__(self, config: ThrottleConfig = FLEET, pods: str = "ab") -> None:
        self.rule = FleetRule(config, random.Random(1))
        self.reports = {pod: report(1) for pod in pods}
        self.now_s = 0.0
        self.plan = self.rule.plan(0.0, self.reports)

    def turn(self, seconds: float = EXCHANGE_S, **changes: Mapping[str, Any]) -> Plan:
        """Every pod reports under the last plan; `changes` by pod."""
        self.now_s += seconds
        for pod, last in self.reports.items():
            share = self.plan.shares.get(pod, 0)
            now = replace(
                last, number=last.number + 1, seq=self.plan.seq, epoch=self.plan.epoch, limit=share, in_flight=share
            )
            self.reports[pod] = replace(now, **changes.get(pod, {}))
        self.plan = self.rule.plan(self.now_s, self.reports)
        return self.plan


def test_the_limit_is_shared_out_whole() -> None:
    leader = Leader(pods="abc")
    assert (leader.plan.limit, sorted(leader.plan.shares.values())) == (10, [3, 3, 4])


def test_a_pod_that_wants_less_leaves_the_rest_to_the_others() -> None:
    leader = Leader(pods="abc")
    leader.turn(a={"wanted": 1, "in_flight": 1})
    shares = leader.turn(a={"wanted": 1, "in_flight": 1}).shares
    assert shares["a"] == 2  # what it wants, and one to grow into
    assert shares["b"] + shares["c"] == leader.plan.limit - 2  # type: ignore[operator]


def test_a_proven_limit_is_raised_by_steps_that_grow() -> None:
    leader = Leader()
    limits = [leader.turn().limit for _ in range(6)]
    assert limits[0] == 20
    assert limits == sorted(limits)  # type: ignore[type-var]
    assert leader.plan.limit == FLEET.max_limit


@pytest.mark.parametrize(
    "doubt",
    [{"full": False}, {"epoch": 0}, {"age_s": 0.5}, {"in_flight": 1}],
    ids=["unused", "unheard", "too new", "idle"],
)
def test_a_limit_is_not_raised_on_a_doubt(doubt: dict[str, Any]) -> None:
    leader = Leader()
    assert leader.turn(a=doubt).limit == 10


def test_a_limit_is_not_raised_before_every_pod_goes_by_it() -> None:
    leader = Leader(pods="abc")
    assert leader.turn(a={"epoch": 0}, b={"in_flight": 10}).limit == 10


def test_a_limit_is_not_raised_while_most_pods_are_slow() -> None:
    leader = Leader(pods="abc")
    assert leader.turn(a={"slow": True}, b={"slow": True}).limit == 10
    assert leader.turn(b={"slow": False}, a={"slow": True}).limit == 20


def test_the_limit_falls_by_what_was_refused_and_each_refusal_counts_once() -> None:
    leader = Leader()
    leader.turn()
    assert leader.turn(a={"refused": 3}, b={"refused": 1}).limit == 16
    assert leader.plan.reason == "throttle"
    # The counters still stand at 3 and 1. It waits a while, and then tries one more.
    limits = [leader.turn().limit or 0 for _ in range(25)]
    assert limits[:2] == [16, 16]
    assert 17 in limits
    # Up to 20, which was refused, one by one; beyond it by steps that grow.
    steps = {after: after - before for before, after in itertools.pairwise(limits) if after != before}
    assert {step for after, step in steps.items() if after <= 20} == {1}
    assert max(steps.values()) > 3


def test_a_pod_that_has_started_anew_is_counted_from_then_on() -> None:
    leader = Leader()
    leader.turn(a={"refused": 4})
    limit = leader.plan.limit
    leader.reports["a"] = replace(leader.reports["a"], number=0)
    assert leader.turn(a={"refused": 1}).limit == limit


def test_a_few_timeouts_are_bad_luck_and_many_are_not() -> None:
    leader = Leader()
    assert leader.turn(a={"ok": 100, "timed_out": 1, "full": False}).limit == 10
    assert leader.turn(a={"ok": 200, "timed_out": 20, "full": False}).limit == 7
    assert leader.plan.reason == "timeout"


def test_a_slot_moves_only_when_the_pod_that_had_it_has_let_go() -> None:
    leader = Leader()
    shares = leader.plan.shares
    assert sorted(shares.values()) == [5, 5]
    # A third pod comes; until the others are known to go by their lower shares nothing is free.
    leader.reports["c"] = report(1, limit=0, in_flight=0)
    leader.now_s += EXCHANGE_S
    for pod in "ab":
        leader.reports[pod] = replace(
            leader.reports[pod],
            number=9,
            seq=leader.plan.seq,
            epoch=leader.plan.epoch,
            limit=5,
            in_flight=5,
            full=False,
        )
    cut = leader.rule.plan(leader.now_s, leader.reports)
    assert (cut.shares["c"], cut.shares["a"] + cut.shares["b"]) == (0, 7)
    # They go by it, but calls of before are still under way.
    for pod in "ab":
        leader.reports[pod] = replace(leader.reports[pod], number=10, seq=cut.seq, limit=cut.shares[pod], in_flight=5)
    assert leader.rule.plan(leader.now_s + 2, leader.reports).shares["c"] == 0
    for pod in "ab":
        leader.reports[pod] = replace(leader.reports[pod], number=11, in_flight=cut.shares[pod])
    assert leader.rule.plan(leader.now_s + 4, leader.reports).shares["c"] == 3


def test_slots_that_do_not_divide_go_round() -> None:
    leader = Leader(ThrottleConfig(initial_limit=3, max_limit=3, scope="fleet"), pods="abcd")
    had: dict[str, int] = dict.fromkeys("abcd", 0)
    for _ in range(300):
        for pod, share in leader.turn().shares.items():
            had[pod] += share
        assert sum(leader.plan.shares.values()) <= 3
    assert min(had.values()) > 0.75 * max(had.values())


def test_a_new_leader_goes_on_from_what_the_pods_go_by() -> None:
    leader = Leader()
    for _ in range(3):
        leader.turn()
    heir = FleetRule(FLEET, random.Random(2))
    inherited = heir.plan(0.0, leader.reports)
    total = sum(told.limit for told in leader.reports.values())
    assert (inherited.limit, sum(inherited.shares.values())) == (total, total)
    assert inherited.seq > max(told.seq for told in leader.reports.values())


def test_a_reset_starts_from_the_initial_limit() -> None:
    leader = Leader()
    for _ in range(3):
        leader.turn()
    leader.rule.reset()
    leader.reports = {pod: replace(told, full=False) for pod, told in leader.reports.items()}
    assert leader.turn().limit == FLEET.initial_limit


@pytest.mark.parametrize("seed", range(20))
def test_random_fleets_never_hold_more_than_the_limit(seed: int) -> None:
    """Pods come, go, miss plans, use them late; what they may be using stays within the highest limit still about."""
    chance = random.Random(seed)
    print(f"seed {seed}")
    rule = FleetRule(ThrottleConfig(initial_limit=8, max_limit=8, scope="fleet"), random.Random(seed))
    pods = {f"p{n}": SharedRule(FLEET, random.Random(seed * 100 + n)) for n in range(5)}
    published: Plan | None = None
    reports: dict[str, Report] = {}
    flights: list[tuple[str, Flight]] = []
    for turn in range(200):
        now_s = float(turn)
        for name, pod in pods.items():
            if chance.random() < 0.7:
                reports[name] = pod.report(now_s, chance.choice([0, 1, 20]))
                if published:
                    pod.adopt(now_s, published, name)
        published = rule.plan(now_s, reports) if len(reports) > 1 else published
        for name, pod in pods.items():
            if published and pod.fleet_limit is not None and chance.random() < 0.8:
                flights += [(name, flight) for flight in fill(pod, now_s)]
        if published and all(pod.fleet_limit is not None for pod in pods.values()) and turn > 30:
            assert sum(pod.in_flight for pod in pods.values()) <= 8
        for name, flight in [each for each in flights if chance.random() < 0.5]:
            flights.remove((name, flight))
            pods[name].success(now_s, flight)
            pods[name].end(now_s, flight)


@pytest.mark.parametrize("clients", [4, 16])
def test_a_simulated_fleet_uses_what_there_is_and_is_seldom_refused(clients: int) -> None:
    scenario = Scenario(steps=((0.0, 40), (150.0, 10), (300.0, 60)), length_s=450.0, clients=clients)
    out = Simulation(scenario, limiters_of(scenario, shared(), 7), 7).run()
    assert out.utilisation(75) > 0.93
    assert out.refusal_share() < 0.03
    assert out.fairness(75) > 0.95


def test_a_simulated_fleet_bears_pods_that_come_and_go_and_a_store_that_loses_beats() -> None:
    presence = tuple((n, 100.0 * n, 100.0 * n + 450.0) for n in range(2, 8))
    scenario = Scenario(steps=((0.0, 40),), clients=8, presence=presence, lost_exchanges=0.3)
    out = Simulation(scenario, limiters_of(scenario, shared(), 7), 7).run()
    assert out.utilisation(60) > 0.9
    assert out.refusal_share() < 0.03


def test_a_simulated_fleet_outlives_its_leader() -> None:
    scenario = Scenario(clients=8, leader_dies_s=450.0)
    out = Simulation(scenario, limiters_of(scenario, shared(), 7), 7).run()
    assert out.utilisation() > 0.9


# -- the exchange -----------------------------------------------------------------------------------------------------


class Reports:
    """A store that only knows what pods have reported."""

    def __init__(self) -> None:
        self.reported: dict[str, Any] = {}
        self.reads = 0

    def throttle_reports(self, threshold_s: float) -> dict[str, Any]:
        self.reads += 1
        return dict(self.reported)


def exchange_of(store: Reports, clock: FakeClock, leads: bool) -> Exchange:
    return Exchange(store, Identity("a", "i"), Planner(clock), lambda: leads, EXCHANGE_S, 60.0)  # type: ignore[arg-type]


def fleet_throttle(name: str = "api") -> AdaptiveThrottle:
    return get_or_create_throttle(name, FLEET)


def test_who_uses_no_throttle_of_the_fleet_exchanges_nothing(clock: FakeClock) -> None:
    store = Reports()
    get_or_create_throttle("own")
    fleet_throttle()  # not used yet
    for leads in (True, False):
        exchange = exchange_of(store, clock, leads)
        assert (exchange.prepare(), exchange.interval_s, store.reads) == ({}, None, 0)


def test_a_pod_that_uses_one_reports_it_and_beats_more_often(clock: FakeClock) -> None:
    throttle, exchange = fleet_throttle(), exchange_of(Reports(), clock, leads=False)
    with throttle.acquire_sync():
        entry = exchange.prepare()["throttle_reports"]["api"]
        assert (entry["report"]["in_flight"], entry["config"]["initial_limit"]) == (1, 10)
        assert exchange.interval_s == EXCHANGE_S


def test_the_leader_plans_for_pods_whose_throttle_it_does_not_have(clock: FakeClock) -> None:
    store = Reports()
    exchange = exchange_of(store, clock, leads=True)
    config = {"initial_limit": 12, "min_limit": 1, "max_limit": 50, "timeout_decrease": 0.7}
    for pod in "bc":
        store.reported[pod] = {"api": {"report": report(1).to_json(), "config": config}}
    exchange.adopt(Beat(0.0, BeatState.ALIVE, throttles_reported=True))
    assert exchange.interval_s == EXCHANGE_S
    made = exchange.prepare()["throttle_plans"]["api"]
    assert (made["limit"], made["shares"]) == (12, {"b": 6, "c": 6})


def test_a_reset_of_the_fleet_reaches_the_leaders_rule_and_a_lost_leadership_ends_it(clock: FakeClock) -> None:
    planner = Planner(clock)
    config = {"initial_limit": 12, "min_limit": 1, "max_limit": 50, "timeout_decrease": 0.7}

    def plans(number: int, **changes: Any) -> Plan:
        told = {pod: report(number, **changes).to_json() for pod in "bc"}
        return planner.plans({pod: {"api": {"report": told[pod], "config": config}} for pod in "bc"})["api"]

    first = plans(1)
    assert first.limit == 12
    assert plans(2, seq=first.seq, epoch=first.epoch, limit=6, in_flight=6).limit == 24
    planner.reset("api")
    planner.reset("unknown")
    assert plans(3, full=False).limit == 12
    planner.forget()
    assert plans(4, seq=9, limit=5).limit == 10  # a new leader goes on from what the pods go by


@pytest.mark.parametrize("nonsense", [7, None, {"api": 3}, {"api": {"report": {"seq": 1}}}, {"api": {}}])
def test_nonsense_of_another_version_is_passed_over(nonsense: Any, clock: FakeClock) -> None:
    store = Reports()
    exchange = exchange_of(store, clock, leads=True)
    store.reported = {"b": nonsense}
    exchange.adopt(Beat(0.0, BeatState.ALIVE, throttles_reported=True, throttle_plans={"api": nonsense}))
    assert exchange.prepare()["throttle_plans"] == {}


def test_settings_that_are_nonsense_are_named_and_passed_over(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Reports()
    exchange = exchange_of(store, clock, leads=True)
    store.reported = {"b": {"api": {"report": report(1).to_json(), "config": {"initial_limit": -3}}}}
    exchange.adopt(Beat(0.0, BeatState.ALIVE, throttles_reported=True))
    assert exchange.prepare()["throttle_plans"] == {}
    assert "throttle api" in caplog.text


def test_a_pod_goes_by_what_the_leader_has_published(clock: FakeClock) -> None:
    throttle, exchange = fleet_throttle(), exchange_of(Reports(), clock, leads=False)
    published = {"api": plan(1, 3).to_json(), "another": plan(1, 9).to_json()}
    exchange.adopt(Beat(0.0, BeatState.ALIVE, throttle_plans=published))
    assert (throttle.max_inflight, throttle.publication()["fleet_limit"]) == (3, 10)


def test_a_plan_wakes_those_who_wait() -> None:
    throttle = fleet_throttle()
    throttle.adopt(plan(1, 1), "a")
    got_in = threading.Event()

    def wait() -> None:
        with throttle.acquire_sync(timeout_s=10.0):
            got_in.set()

    with throttle.acquire_sync():
        with pytest.raises(ThrottleTimeout):
            throttle.acquire_sync(timeout_s=0.0).__enter__()
        waiter = threading.Thread(target=wait)
        waiter.start()
        eventually(lambda: throttle.waiting == 1)
        throttle.adopt(plan(2, 2), "a")
        assert got_in.wait(5.0)  # long before its lease or its patience is over
        waiter.join(10.0)


def test_who_leads_no_more_forgets_what_it_planned(clock: FakeClock) -> None:
    store, leads = Reports(), [True]
    exchange = Exchange(store, Identity("a", "i"), Planner(clock), lambda: leads[0], EXCHANGE_S, 60.0)  # type: ignore[arg-type]
    config = {"initial_limit": 12, "min_limit": 1, "max_limit": 50, "timeout_decrease": 0.7}
    told = {"report": report(1, seq=40, limit=3).to_json(), "config": config}
    store.reported = {pod: {"api": told} for pod in "bc"}
    exchange.adopt(Beat(0.0, BeatState.ALIVE, throttles_reported=True))
    assert exchange.prepare()["throttle_plans"]["api"]["limit"] == 6
    leads[0] = False
    assert exchange.prepare() == {}
    leads[0] = True
    told["report"] = report(9, seq=80, limit=4, full=False).to_json()
    again = exchange.prepare()["throttle_plans"]["api"]
    assert again["limit"] == 8
    assert again["seq"] > 80


def test_the_first_call_after_a_while_is_told_to_who_wants_to_know(clock: FakeClock) -> None:
    heard: list[int] = []
    listener = lambda: heard.append(1)  # noqa: E731
    on_wake.add(listener)
    try:
        throttle = AdaptiveThrottle("api", FLEET, clock=clock)
        with throttle.acquire_sync():
            assert heard == [1]
        with throttle.acquire_sync():
            assert heard == [1]  # still warm
        assert throttle.idle_s() == 0.0
        clock.advance(IN_USE_S)
        assert throttle.idle_s() == IN_USE_S
        with throttle.acquire_sync():
            assert heard == [1, 1]
    finally:
        on_wake.discard(listener)
    with AdaptiveThrottle("other", FLEET).acquire_sync():
        assert heard == [1, 1]


@pytest.mark.parametrize("scope", ["galaxy", "", None, 1])
def test_a_scope_that_there_is_not_is_refused(scope: Any) -> None:
    with pytest.raises(ThrottleConfigError, match="scope"):
        ThrottleConfig(scope=scope)
