"""The contract of throttles that the fleet shares: reports go up with the heartbeat, the leader's plans come back."""

from __future__ import annotations

from typing import Any

import pytest

from fleetq_core.model import Identity
from tests.support.clock import FakeClock

A, B, C = (Identity(f"pod-{x}", f"inc-{x}") for x in "abc")
THRESHOLD = 60.0
REPORTS = {"api": {"report": {"number": 1}}}
PLANS = {"api": {"seq": 3, "shares": {"pod-b": 4}}}


@pytest.fixture
def s(any_store: Any, clock: FakeClock) -> Any:
    for who in (A, B, C):
        any_store.register_pod(who, {})
        clock.advance(1)
    return any_store


def test_every_pod_hears_the_plans_of_the_leader_and_of_no_other(s: Any) -> None:
    s.beat(B, {"throttle_plans": {"api": {"seq": 99}}}, THRESHOLD)
    assert s.beat(C, {}, THRESHOLD).throttle_plans == {}
    s.beat(A, {"throttle_plans": PLANS}, THRESHOLD)
    for who in (B, C):
        assert s.beat(who, {}, THRESHOLD).throttle_plans == PLANS
    s.mark_down(A)
    assert s.beat(C, {}, THRESHOLD).throttle_plans == {}


def test_the_leader_is_told_that_somebody_reports_and_reads_what(s: Any, clock: FakeClock) -> None:
    assert not s.beat(A, {}, THRESHOLD).throttles_reported
    assert s.throttle_reports(THRESHOLD) == {}
    s.beat(B, {"throttle_reports": REPORTS}, THRESHOLD)
    assert s.beat(A, {}, THRESHOLD).throttles_reported
    assert not s.beat(C, {}, THRESHOLD).throttles_reported  # it does not lead
    assert s.throttle_reports(THRESHOLD) == {"pod-b": REPORTS}
    s.beat(B, {}, THRESHOLD)
    assert s.throttle_reports(THRESHOLD) == {}


def test_the_dead_report_nothing(s: Any, clock: FakeClock) -> None:
    s.beat(B, {"throttle_reports": REPORTS}, THRESHOLD)
    s.beat(C, {"throttle_reports": REPORTS}, THRESHOLD)
    s.mark_down(C)
    assert set(s.throttle_reports(THRESHOLD)) == {"pod-b"}
    clock.advance(THRESHOLD + 1)
    assert s.throttle_reports(THRESHOLD) == {}


@pytest.mark.parametrize("nonsense", [7, "x", [1], None])
def test_nonsense_of_another_version_is_an_empty_report(s: Any, nonsense: Any) -> None:
    s.beat(A, {"throttle_plans": nonsense, "throttle_reports": nonsense}, THRESHOLD)
    assert s.beat(B, {}, THRESHOLD).throttle_plans == {}
    assert s.throttle_reports(THRESHOLD).get("pod-a", {}) == {}
