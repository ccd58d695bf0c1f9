"""The rule alone: events with explicit times in, a limit and its reasons out."""

from __future__ import annotations

import math
import os
import random

import pytest

from fleetq_core.playground.simulation import Mode, Scenario, Simulation
from fleetq_core.throttle import LimitRule, Reason, ThrottleConfig, ThrottleConfigError
from fleetq_core.throttle.rule import Flight


def rule(**settings: object) -> LimitRule:
    return LimitRule(ThrottleConfig(**{"slow_start": False, **settings}), random.Random(1))  # type: ignore[arg-type]


def fill(r: LimitRule, now_s: float) -> list[Flight]:
    return [r.start(now_s) for _ in range(r.open_slots(now_s))]


def wave(r: LimitRule, now_s: float, call_s: float = 1.0) -> float:
    """Everything that may start does, and is answered after `call_s`."""
    flights = fill(r, now_s)
    for flight in flights:
        r.success(now_s + call_s, flight)
        r.end(now_s + call_s, flight)
    return now_s + call_s


def reasons(r: LimitRule) -> list[Reason]:
    return [change.reason for change in r.changes]


# -- the table of the specification -----------------------------------------------------------------------------------


def test_without_flights_the_specification_is_taken_literally() -> None:
    r = rule(initial_limit=10)
    for want in (11, 12, 13):
        for _ in range(10):
            r.success(0.0)
        assert r.limit == want
    r.throttle(0.0)
    assert r.limit == 6
    r.throttle(0.0)
    assert r.limit == 3
    r = rule(initial_limit=10)
    r.timeout(0.0)
    assert r.limit == 7
    assert [(c.before, c.after, c.reason) for c in r.changes] == [(10, 7, Reason.TIMEOUT)]


def test_the_limit_stays_within_its_bounds() -> None:
    r = rule(initial_limit=3, min_limit=2, max_limit=4)
    for _ in range(50):
        r.success(0.0)
    assert r.limit == 4
    for _ in range(5):
        r.throttle(0.0)
    assert r.limit == 2


# -- increases --------------------------------------------------------------------------------------------------------


def test_a_limit_that_is_not_reached_does_not_grow() -> None:
    r, now_s = rule(initial_limit=10), 0.0
    for _ in range(500):
        flights = [r.start(now_s) for _ in range(9)]
        now_s += 1
        for flight in flights:
            r.success(now_s, flight)
            r.end(now_s, flight)
    assert r.limit == 10
    wave(r, now_s)
    assert r.limit == 11


def test_slow_start_doubles_until_the_first_refusal() -> None:
    r = rule(initial_limit=10, slow_start=True)
    now_s = wave(r, wave(r, 0.0))
    assert r.limit == 40
    flights = fill(r, now_s)
    r.throttle(now_s, flights[-1])
    assert (r.limit, r.ceiling) == (20, 39)
    assert reasons(r)[-1] is Reason.THROTTLE
    assert set(reasons(r)[:-1]) == {Reason.SLOW_START}


def test_only_calls_that_started_after_the_cut_count_towards_the_next_increase() -> None:
    r = rule(initial_limit=12, ceiling_memory=False)
    flights = fill(r, 0.0)
    r.throttle(0.1, flights[0])
    for flight in flights[1:]:
        r.success(1.0, flight)
    assert r.limit == 6


# -- decreases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("event", "want"), [("throttle", 20), ("timeout", 28)])
def test_calls_under_way_together_cut_once(event: str, want: int) -> None:
    r = rule(initial_limit=40)
    for flight in fill(r, 0.0):
        getattr(r, event)(0.1, flight)
    assert r.limit == want


def test_within_a_round_trip_of_a_cut_new_calls_do_not_cut_again() -> None:
    r = rule(initial_limit=40)
    now_s = wave(r, 0.0)
    r.throttle(now_s, r.start(now_s))
    cut = r.limit
    r.throttle(now_s + 0.5, r.start(now_s + 0.4))
    assert r.limit == cut
    r.throttle(now_s + 1.5, r.start(now_s + 1.4))
    assert r.limit == cut // 2


def test_an_ignored_error_changes_nothing() -> None:
    r = rule()
    flight = r.start(0.0)
    r.ignore(1.0, flight)
    r.end(1.0, flight)
    assert (r.limit, r.in_flight, list(r.changes)) == (10, 0, [])


def test_a_refused_call_keeps_its_slot_for_about_a_round_trip() -> None:
    r = rule(initial_limit=10)
    now_s = wave(r, 0.0)
    flight = r.start(now_s)
    r.throttle(now_s, flight)
    r.end(now_s, flight)
    assert r.open_slots(now_s) == r.limit - 1
    opens_s = r.opens_at_s(now_s)
    assert opens_s is not None
    assert 0.5 <= opens_s - now_s <= 1.5
    assert r.open_slots(opens_s) == r.limit


def test_retry_after_shuts_and_its_jitter_only_adds() -> None:
    r = rule()
    flight = r.start(0.0)
    r.throttle(0.0, flight, retry_after_s=8.0)
    r.end(0.0, flight)
    opens_s = r.opens_at_s(0.0)
    assert opens_s is not None
    assert 8.0 <= opens_s <= 10.0
    assert r.open_slots(7.99) == 0
    assert r.open_slots(10.0) == r.limit


# -- the ceiling ------------------------------------------------------------------------------------------------------


def at_ceiling(**settings: object) -> tuple[LimitRule, float]:
    """A rule that was refused at 21 calls and has climbed back to its ceiling of 20."""
    r = rule(initial_limit=21, enable_latency_tracking=False, **settings)
    now_s = wave(r, 0.0)
    while r.ceiling is None and r.config.ceiling_memory:
        flights = fill(r, now_s)
        r.throttle(now_s, flights[20])
        for flight in flights:
            r.end(now_s, flight)
        now_s += 2
    while r.limit < 20:
        now_s = wave(r, now_s)
    return r, now_s


def test_it_waits_under_a_known_ceiling_and_a_refused_probe_is_only_undone() -> None:
    r, now_s = at_ceiling()
    reached_s = now_s
    while r.limit == 20:
        now_s = wave(r, now_s)
    assert 5.0 <= now_s - reached_s <= 10.0
    assert (r.limit, reasons(r)[-1]) == (21, Reason.PROBE)
    flights = fill(r, now_s)
    r.throttle(now_s + 1.1, flights[-1])
    assert (r.limit, r.ceiling, reasons(r)[-1]) == (20, 20, Reason.PROBE_UNDONE)


def test_an_answered_probe_forgets_the_ceiling() -> None:
    r, now_s = at_ceiling()
    while r.limit == 20:
        now_s = wave(r, now_s)
    wave(r, wave(r, now_s))
    assert r.ceiling is None
    assert r.limit >= 22


def test_a_refusal_under_the_ceiling_lowers_it_and_halves() -> None:
    r, now_s = at_ceiling()
    flights = fill(r, now_s)
    r.throttle(now_s + 1.1, flights[-1])
    assert (r.limit, r.ceiling) == (10, 18)


def test_without_ceiling_memory_each_refusal_halves() -> None:
    r = rule(initial_limit=21, ceiling_memory=False)
    r.throttle(0.0, fill(r, 0.0)[-1])
    assert (r.limit, r.ceiling) == (10, None)


# -- latency ----------------------------------------------------------------------------------------------------------


def test_rising_latency_pauses_and_a_downstream_that_stays_slower_is_the_new_normal() -> None:
    r = rule(initial_limit=10, latency_window_size=20)
    for _ in range(200):
        r.success(0.0, latency_s=0.1)
    grown = r.limit
    for _ in range(60):
        r.success(0.0, latency_s=0.2)
    assert r.limit <= grown + 1
    assert reasons(r)[-1] is Reason.LATENCY_HOLD
    assert reasons(r).count(Reason.LATENCY_HOLD) == 1
    for _ in range(200):
        r.success(0.0, latency_s=0.2)
    assert r.limit > grown + 1


@pytest.mark.parametrize("latency_s", [-1.0, math.nan, math.inf])
def test_a_nonsense_latency_is_ignored_and_counted(latency_s: float) -> None:
    r = rule()
    r.success(0.0, latency_s=latency_s)
    assert (r.gauge.ignored, r.gauge.rtt_s, r.gauge.current_p95_s) == (1, 0.0, None)


# -- reset, chance, settings ------------------------------------------------------------------------------------------


def test_a_reset_keeps_the_calls_under_way_and_ignores_what_they_say() -> None:
    r = rule(initial_limit=4)
    flights = fill(r, 0.0)
    r.throttle(0.0, flights[0])
    r.reset(1.0)
    assert (r.limit, r.in_flight, reasons(r)[-1]) == (4, 4, Reason.RESET)
    for flight in flights:
        r.throttle(2.0, flight)
        r.end(2.0, flight)
    assert (r.limit, r.in_flight) == (4, 0)


def test_any_history_keeps_the_counts_and_the_bounds() -> None:
    seed = int(os.environ.get("THROTTLE_SEED", random.randrange(10**9)))
    print(f"THROTTLE_SEED={seed}")
    rng = random.Random(seed)
    r, now_s, flights = rule(min_limit=2, max_limit=30, slow_start=True), 0.0, []
    for _ in range(20_000):
        now_s += rng.expovariate(20)
        if r.open_slots(now_s) and rng.random() < 0.6:
            flights.append(r.start(now_s))
            assert r.in_flight <= r.limit
        elif flights:
            flight = flights.pop(rng.randrange(len(flights)))
            rng.choice([r.success, r.success, r.success, r.throttle, r.timeout, r.ignore])(now_s, flight)
            r.end(now_s, flight)
        elif rng.random() < 0.01:
            r.reset(now_s)
        assert r.in_flight == len(flights)
        assert 2 <= r.limit <= 30


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"min_limit": 20, "initial_limit": 20, "max_limit": 10}, "min_limit"),
        ({"initial_limit": 200}, "initial_limit"),
        ({"multiplicative_decrease": 1.5}, "multiplicative_decrease"),
        ({"multiplicative_decrease": math.nan}, "multiplicative_decrease"),
        ({"timeout_decrease": 0}, "timeout_decrease"),
        ({"latency_window_size": 0}, "latency_window_size"),
        ({"latency_increase_threshold": 0.5}, "latency_increase_threshold"),
        ({"success_threshold": 0}, "success_threshold"),
        ({"additive_increase": 0.5}, "additive_increase"),
        ({"slow_start": 1}, "slow_start"),
    ],
)
def test_nonsense_is_refused_by_name(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ThrottleConfigError) as caught:
        ThrottleConfig(**settings)  # type: ignore[arg-type]
    assert [problem.split(":")[0] for problem in caught.value.problems] == [named]


def test_every_nonsense_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"max_limit.*\n.*success_threshold"):
        ThrottleConfig(max_limit=0, success_threshold=-1)


# -- the figures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "least", "most"), [("hard", 0.93, 0.007), ("rate", 0.94, 0.011)])
def test_one_client_uses_a_changing_server(mode: str, least: float, most: float) -> None:
    out = Simulation(Scenario(mode=Mode(mode)), [LimitRule(ThrottleConfig(), random.Random(7))], 7).run()
    assert out.utilisation() >= least
    assert out.refusal_share() <= most
    if mode == "hard":
        assert out.seconds_down(300.0) <= 3
        assert out.seconds_up(600.0) <= 40
