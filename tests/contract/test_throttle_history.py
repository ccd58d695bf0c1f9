"""The contract of what throttles leave behind: their figures over time, and why their limits moved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleetq_core.model import Identity
from tests.support.clock import FakeClock

A, B, CLIENT = Identity("pod-a", "inc-a"), Identity("pod-b", "inc-b"), Identity("script", "inc-s", may_lead=False)
THRESHOLD, INTERVAL = 60.0, 10.0
FIGURES: dict[str, Any] = {
    "max_inflight": 8, "current_inflight": 5, "available_capacity": 3, "total_requests": 100, "total_successes": 90,
    "total_throttles": 10, "throttle_rate": 0.1, "current_p95_latency": 0.4, "baseline_latency": 0.2, "scope": "fleet",
    "fleet_limit": 20, "total_timeouts": 3, "waiting": 2, "slow": True, "shut_s": 1.5,
}  # fmt: skip


def change(n: int, before: int, after: int, reason: str = "increase", times: int = 1, ago_s: float = 0.0) -> Any:
    return {"n": n, "before": before, "after": after, "reason": reason, "times": times, "ago_s": ago_s}


def meta(*changes: Any, **figures: Any) -> dict[str, Any]:
    return {"throttles": {"api": FIGURES | figures | {"changes": list(changes)}}}


@pytest.fixture
def s(any_store: Any, clock: FakeClock) -> Any:
    """A was born first and leads."""
    for who in (A, B):
        any_store.register_pod(who, {})
        clock.advance(1)
    return any_store


def sample(store: Any, clock: FakeClock, leader: Identity = A) -> None:
    clock.advance(INTERVAL)
    for pod in store.list_pods():
        if pod.status == "up":
            store.beat(Identity(pod.pod_id, pod.incarnation), pod.meta, THRESHOLD)
    store.take_sample(leader, INTERVAL, THRESHOLD)


def told(store: Any) -> list[tuple[Any, ...]]:
    return [(c.pod_id, c.n, c.before, c.after, c.reason, c.times) for c in store.list_throttle_changes(100)]


def test_each_sample_holds_every_throttle_of_every_living_pod_once(s: Any, clock: FakeClock) -> None:
    s.beat(A, meta(), THRESHOLD)
    s.beat(B, {"throttles": {"api": {}, "other": FIGURES}}, THRESHOLD)
    s.take_sample(A, INTERVAL, THRESHOLD)
    found = s.list_throttle_samples(0, 10)
    assert sorted((x.name, x.pod_id) for x in found) == [("api", "pod-a"), ("api", "pod-b"), ("other", "pod-b")]
    (full,) = [x for x in found if x.pod_id == "pod-a"]
    assert (full.limit, full.in_flight, full.waiting, full.p95_s, full.baseline_s) == (8, 5, 2, 0.4, 0.2)
    assert (full.requests, full.refused, full.timeouts, full.fleet_limit) == (100, 10, 3, 20)
    assert full.sampled_ts == clock.now()
    (bare,) = [x for x in found if (x.name, x.pod_id) == ("api", "pod-b")]
    assert (bare.limit, bare.p95_s, bare.requests, bare.fleet_limit) == (None, None, None, None)


def test_two_leaders_write_the_figures_once(s: Any, clock: FakeClock) -> None:
    clock.advance(INTERVAL - clock.now() % INTERVAL)
    s.beat(A, meta(max_inflight=8), THRESHOLD)
    s.take_sample(A, INTERVAL, THRESHOLD)
    clock.advance(0.6 * INTERVAL)  # the same bucket
    s.mark_down(A)
    s.register_pod(A, meta(max_inflight=9))
    s.take_sample(B, INTERVAL, THRESHOLD)
    assert [x.limit for x in s.list_throttle_samples(0, 10)] == [8]


def test_pods_that_are_dead_or_gone_are_not_sampled(s: Any, clock: FakeClock) -> None:
    s.register_pod(Identity("pod-c", "inc-c"), meta(change(0, 10, 5)))
    s.mark_down(Identity("pod-c", "inc-c"))
    s.beat(B, meta(change(0, 10, 5)), THRESHOLD)
    clock.advance(THRESHOLD + 1)
    s.beat(A, {}, THRESHOLD)
    s.take_sample(A, INTERVAL, THRESHOLD)
    assert s.list_throttle_samples(0, 10) == []
    assert s.list_throttle_changes(10) == []


def test_samples_are_the_newest_and_come_oldest_first(s: Any, clock: FakeClock) -> None:
    s.beat(A, meta(), THRESHOLD)
    s.beat(B, {"throttles": {"other": {}}}, THRESHOLD)
    for _ in range(3):
        sample(s, clock)
    times = [x.sampled_ts for x in s.list_throttle_samples(0, 100, "api")]
    assert times == [clock.now() - 20, clock.now() - 10, clock.now()]
    assert [x.sampled_ts for x in s.list_throttle_samples(0, 2, "api")] == times[1:]
    assert [x.sampled_ts for x in s.list_throttle_samples(times[2], 100)] == times[2:] * 2


def test_a_change_is_told_once_with_the_databases_time_and_grows(s: Any, clock: FakeClock) -> None:
    s.beat(A, meta(change(0, 10, 12, times=2, ago_s=1.5)), THRESHOLD)
    s.take_sample(A, INTERVAL, THRESHOLD)
    first = s.list_throttle_changes(10)[0]
    assert first.at_ts == clock.now() - 1.5
    sample(s, clock)
    assert s.list_throttle_changes(10) == [first]

    s.beat(A, meta(change(0, 10, 13, times=3, ago_s=2.0), change(3, 13, 6, "throttle")), THRESHOLD)
    sample(s, clock)
    assert told(s) == [("pod-a", 3, 13, 6, "throttle", 1), ("pod-a", 0, 10, 13, "increase", 3)]
    assert [c.n for c in s.list_throttle_changes(1)] == [3]
    assert s.list_throttle_changes(10, since_ts=clock.now() + 1) == []
    assert s.list_throttle_changes(10, name="other") == []


def test_a_run_whose_beginning_has_left_the_log_is_still_one_run(s: Any, clock: FakeClock) -> None:
    s.beat(A, meta(change(5, 4, 5, "fleet share", times=100)), THRESHOLD)
    sample(s, clock)
    s.beat(A, meta(change(45, 3, 5, "fleet share", times=80), change(125, 5, 4, "throttle")), THRESHOLD)
    sample(s, clock)
    assert told(s) == [("pod-a", 125, 5, 4, "throttle", 1), ("pod-a", 5, 4, 5, "fleet share", 120)]


def test_a_process_that_started_anew_counts_anew(s: Any, clock: FakeClock) -> None:
    s.beat(A, meta(change(0, 10, 12, times=2)), THRESHOLD)
    sample(s, clock)
    s.register_pod(Identity("pod-a", "inc-2"), meta(change(0, 10, 5, "throttle")))
    sample(s, clock, B)
    assert told(s) == [("pod-a", 0, 10, 5, "throttle", 1), ("pod-a", 0, 10, 12, "increase", 2)]


def test_why_the_fleets_limit_moved_is_told_by_the_leaders_plans(s: Any, clock: FakeClock) -> None:
    def plan(who: Identity, epoch: int, limit: int | None, reason: str) -> None:
        entry = {"seq": 9, "epoch": epoch, "limit": limit, "shares": {"pod-a": 3}, "seen": {}, "reason": reason}
        s.beat(who, {"throttle_plans": {"api": entry}}, THRESHOLD)
        sample(s, clock, who)

    plan(B, 1, 99, "start")  # B does not lead: nothing
    for epoch, limit, reason in ((1, 10, "start"), (1, 10, "start"), (4, 16, "probe"), (5, None, "one pod")):
        plan(A, epoch, limit, reason)
    assert told(s) == [("*", 4, 10, 16, "probe", 3), ("*", 1, None, 10, "start", 1)]
    s.mark_down(A)
    plan(B, 6, 9, "throttle")
    assert told(s)[0] == ("*", 6, 16, 9, "throttle", 2)


NONSENSE: list[Any] = [
    {"throttles": None}, {"throttles": "api"}, {"throttles": 3}, {"throttles": ["api"]}, {"throttles": {"api": None}},
    {"throttles": {"api": "fast"}}, {"throttles": {"api": [1]}}, {"throttles": {"api": {"changes": None}}},
    {"throttles": {"api": {"changes": "none"}}}, {"throttles": {"api": {"changes": {"n": 1}}}},
    meta(None, 3, "x", [], {}, {"n": 0}, change(0, 1, 2) | {"n": "zero"}, change(0, 1, 2) | {"ago_s": "late"}),
    meta(change(0, 1, 2) | {"reason": 3}, change(0, 1, 2) | {"reason": "x" * 99}, change(0, 1, 2) | {"times": 0}),
    meta(change(0, 1, 2) | {"before": None}, change(-1, 1, 2), change(0, 1, 2) | {"after": 1.5}),
    meta(max_inflight="ten", current_inflight=None, waiting=True, current_p95_latency={"p": 1}, total_requests=-5),
    meta(max_inflight=10**30, current_p95_latency=float("inf")), meta(current_p95_latency=float("nan")),
    {"running_count": "many"},
]  # fmt: skip
PLANS: list[Any] = [
    {"throttle_plans": None}, {"throttle_plans": []}, {"throttle_plans": {"api": 4}},
    {"throttle_plans": {"api": {"epoch": "x", "limit": [], "reason": None}}},
]  # fmt: skip


@pytest.mark.parametrize("published", NONSENSE, ids=lambda value: json.dumps(value)[:60])
def test_what_another_version_publishes_never_fails_the_sample(s: Any, published: Any) -> None:
    s.beat(A, meta(change(7, 2, 3)), THRESHOLD)
    s.register_pod(B, published)
    s.take_sample(A, INTERVAL, THRESHOLD)
    assert len(s.list_samples(0, 10)) == 1
    assert [x.limit for x in s.list_throttle_samples(0, 10) if x.pod_id == "pod-a"] == [8]
    assert told(s) == [("pod-a", 7, 2, 3, "increase", 1)]


@pytest.mark.parametrize("published", PLANS, ids=json.dumps)
def test_a_leader_of_another_version_never_fails_the_sample(s: Any, published: Any) -> None:
    s.beat(B, meta(change(7, 2, 3)), THRESHOLD)
    s.beat(A, published, THRESHOLD)
    s.take_sample(A, INTERVAL, THRESHOLD)
    assert len(s.list_samples(0, 10)) == 1
    assert told(s) == [("pod-b", 7, 2, 3, "increase", 1)]


def test_history_goes_with_the_retention(s: Any, clock: FakeClock) -> None:
    s.beat(A, meta(change(0, 1, 2)), THRESHOLD)
    sample(s, clock)
    s.beat(A, meta(change(0, 1, 2), change(1, 2, 1, "throttle")), THRESHOLD)
    sample(s, clock)
    gone = s.purge(clock.now() - 5, 0.0, 100)
    assert gone.keys() >= {"throttles", "changes"}
    assert [x.sampled_ts for x in s.list_throttle_samples(0, 10)] == [clock.now()]
    s.purge(clock.now() + 1, 0.0, 1)
    assert s.list_throttle_samples(0, 10) == []
