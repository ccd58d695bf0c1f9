"""The limiters that FLEET-Q's rule is compared with keep to their published rules."""

from __future__ import annotations

import math
import random
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.throttle_rivals import AwsAdaptive, Gradient2, PalantirCiad
from fleetq_core.playground.limiters import Limiter
from fleetq_core.throttle.rule import Flight


def flight(level: int) -> Flight:
    return Flight(0, 0.0, level, 0)


# -- Palantir Dialogue ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(10, 9), (9, 8), (19, 17), (20, 18), (2, 1), (1, 1), (10.9, 9)])
@pytest.mark.parametrize("outcome", ["throttle", "timeout"])
def test_palantir_takes_a_tenth_off_rounds_down_and_stops_at_one(before: float, after: int, outcome: str) -> None:
    limiter = PalantirCiad()
    limiter.limit = before
    getattr(limiter, outcome)(1.0, flight(1))
    assert limiter.limit == after


def test_palantir_cuts_for_every_drop_of_one_overload() -> None:
    limiter = PalantirCiad()
    for _ in range(3):
        limiter.throttle(1.0, flight(10))
    assert limiter.limit == 7


@pytest.mark.parametrize(("level", "grows"), [(8, False), (9, True), (10, True)])
def test_palantir_grows_only_for_calls_that_started_with_nine_tenths_in_use(level: int, grows: bool) -> None:
    limiter = PalantirCiad()
    limiter.success(1.0, flight(level))
    assert limiter.limit == (10.1 if grows else 10)


def test_palantir_grows_by_one_for_a_limit_full_of_answers_whatever_the_limit() -> None:
    for limit in (10, 40, 80):
        limiter = PalantirCiad()
        limiter.limit = limit
        for _ in range(limit):
            limiter.success(1.0, flight(limit))
        assert limit + 0.9 < limiter.limit <= limit + 1


def test_palantir_gives_whole_slots_only_and_a_hundred_at_most() -> None:
    limiter = PalantirCiad()
    limiter.limit = 4.9
    assert [limiter.start(0.0).level for _ in range(4)] == [1, 2, 3, 4]
    assert limiter.open_slots(0.0) == 0
    limiter.limit = 99.995
    limiter.success(1.0, flight(100))
    assert limiter.limit == 100


# -- AWS adaptive -----------------------------------------------------------------------------------------------------


def answered(per_s: int, seconds: int) -> AwsAdaptive:
    """After `seconds` of good answers at a steady pace."""
    limiter = AwsAdaptive()
    for number in range(1, per_s * seconds + 1):
        limiter.success(number / per_s)
    return limiter


def test_aws_bounds_nothing_but_the_workers_before_the_first_refusal() -> None:
    limiter = AwsAdaptive()
    for number in range(1, 200):
        (limiter.timeout if number % 2 else limiter.success)(number / 10)
    assert (limiter.open_slots(20.0), limiter.opens_at_s(20.0)) == (100, None)
    limiter.start(20.0)
    assert limiter.open_slots(20.0) == 99
    limiter.throttle(20.0)
    assert limiter.open_slots(20.0) < 99


def test_aws_measures_answers_in_half_seconds_smoothed_by_four_fifths() -> None:
    limiter = answered(per_s=20, seconds=20)
    assert limiter.measured_per_s == pytest.approx(20)
    for number in range(1, 6):  # half a second at 10, closed by the answer that begins the next
        limiter.success(20 + number / 10)
    assert limiter.measured_per_s == pytest.approx(0.8 * 10 + 0.2 * 20)


def test_aws_falls_to_seven_tenths_and_is_back_when_the_cubic_says() -> None:
    limiter = answered(per_s=20, seconds=20)
    limiter.throttle(20.0)
    assert limiter.rate_per_s == pytest.approx(14)
    back_s = 20 + math.cbrt(20 * 0.3 / 0.4)
    for number in range(1, 1000):
        if 20 + number / 20 >= back_s:
            break
        limiter.success(20 + number / 20)
        assert limiter.rate_per_s < 20
    limiter.success(back_s)
    assert limiter.rate_per_s == pytest.approx(20)
    limiter.success(back_s + 1)
    assert limiter.rate_per_s == pytest.approx(20 + 0.4)


def test_aws_never_allows_more_than_twice_what_it_measures() -> None:
    limiter = answered(per_s=20, seconds=20)
    limiter.throttle(20.0)
    for number in range(1, 400):
        limiter.success(20 + number / 20)
    assert limiter.rate_per_s == pytest.approx(40)


def test_aws_never_falls_below_one_call_in_two_seconds() -> None:
    limiter = AwsAdaptive()
    for number in range(50):
        limiter.throttle(100 + number / 100)
    assert limiter.rate_per_s == 0.5
    limiter = AwsAdaptive()
    limiter.throttle(0.0)
    assert limiter.open_slots(1.9) == 0
    assert limiter.opens_at_s(1.9) == pytest.approx(2.0)
    assert limiter.open_slots(2.0) == 1
    assert limiter.opens_at_s(2.0) is None
    limiter.start(2.0)
    assert limiter.open_slots(2.0) == 0
    assert limiter.opens_at_s(2.0) == pytest.approx(4.0)
    assert limiter.open_slots(1000.0) == 1  # a slow bucket holds one token


def test_aws_opens_at_the_moment_that_it_names() -> None:
    limiter = answered(per_s=20, seconds=20)
    limiter.throttle(20.0)
    now_s, taken = 20.0, 0
    while now_s < 30:
        while limiter.open_slots(now_s):
            limiter.end(now_s, limiter.start(now_s))
            taken += 1
        opens_s = limiter.opens_at_s(now_s)
        assert opens_s is not None
        assert opens_s > now_s
        assert limiter.open_slots(opens_s) == 1
        now_s = opens_s
    assert taken == pytest.approx(14 * 10, abs=14)  # 14 a second, and at most one second's worth in hand


def test_aws_decides_as_botocore_itself() -> None:
    clock = SimpleNamespace(now=0.0)
    clock.current_time = lambda: clock.now
    adaptive, bucket, throttling = (
        import_module(f"botocore.retries.{name}") for name in ("adaptive", "bucket", "throttling")
    )
    tokens = bucket.TokenBucket(max_rate=1, clock=clock)
    original: Any = adaptive.ClientRateLimiter(
        rate_adjustor=throttling.CubicCalculator(starting_max_rate=0, start_time=0.0),
        rate_clocker=adaptive.RateClocker(clock),
        token_bucket=tokens,
        throttling_detector=SimpleNamespace(is_throttling_error=lambda refused: refused),
        clock=clock,
    )
    too_many = import_module("botocore.exceptions").CapacityNotAvailableError
    ours, rng, enabled = AwsAdaptive(), random.Random(20), False
    for _ in range(20_000):
        clock.now += rng.expovariate(20)
        if rng.random() < 0.5:
            taken = ours.open_slots(clock.now) > 0
            if taken:
                ours.end(clock.now, ours.start(clock.now))
            if enabled:
                try:
                    tokens.acquire(block=False)
                    assert taken
                except too_many:
                    assert not taken
        else:
            refused = rng.random() < 0.03
            original.on_receiving_response(refused=refused)
            (ours.throttle if refused else ours.success)(clock.now)
            enabled = enabled or refused
            assert ours.rate_per_s == pytest.approx(tokens.max_rate, rel=1e-9)
    assert enabled


# -- Netflix Gradient2 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("drops", "falls"), [(True, True), (False, False)])
def test_quick_refusals_bring_the_round_trip_of_gradient2_down_only_as_samples(drops: bool, falls: bool) -> None:
    limiter = Gradient2(drops=drops)
    for number in range(200):
        now_s = number / 10
        limiter.success(now_s, Flight(0, now_s - 1.0, 10, 0))
        for _ in range(4):
            limiter.throttle(now_s, Flight(0, now_s - 0.05, 10, 0))
    before = limiter.limit
    for number in range(200, 300):  # no more refusals: answers of the usual second look slow to the first
        now_s = number / 10
        limiter.success(now_s, Flight(0, now_s - 1.0, 100, 0))
    assert (limiter.limit < before) is falls


@pytest.mark.parametrize("limiter", [PalantirCiad(), AwsAdaptive(), Gradient2()])
def test_all_are_limiters_and_count_the_calls_under_way(limiter: Limiter) -> None:
    before = limiter.open_slots(0.0)
    one = limiter.start(0.0)
    assert limiter.open_slots(0.0) == before - 1
    limiter.end(1.0, one)
    assert limiter.open_slots(1.0) == before
