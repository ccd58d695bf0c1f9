"""The contract of what operators look back on: samples added up over spans, and the pods of each sample."""

from __future__ import annotations

from typing import Any

import pytest

from fleetq_core.model import Identity, Outcome, PodSample, Status, StepRow, WorkSpan
from tests.support.clock import FakeClock

A, B = Identity("pod-a", "inc-a"), Identity("pod-b", "inc-b")
THRESHOLD, INTERVAL, HOUR = 60.0, 10.0, 3600.0


@pytest.fixture
def s(any_store: Any, clock: FakeClock) -> Any:
    """A leads; the clock stands at the full hour."""
    clock.advance(HOUR - clock.now() % HOUR)
    any_store.register_pod(A, {})
    return any_store


def sample(s: Any) -> None:
    s.beat(A, {}, THRESHOLD)
    s.take_sample(A, INTERVAL, THRESHOLD)


def submit(s: Any, *names: str) -> None:
    s.insert_steps([StepRow(name, "t", '{"task_type":"t"}', 0, 3) for name in names])


def finish(s: Any, clock: FakeClock, token: str, run_s: float, status: Status = Status.COMPLETED) -> None:
    for row in s.claim_steps(A, token, 10, THRESHOLD):
        clock.advance(run_s)
        s.settle_steps([Outcome(row.step_id, row.claim_token, status, run_s, error="x", retry_delay_s=None)], 3)


def test_an_hour_is_the_sum_of_its_samples_and_its_worst_moment(s: Any, clock: FakeClock) -> None:
    start = clock.now()
    sample(s)
    clock.advance(1)
    submit(s, "one", "two")
    clock.advance(30)
    sample(s)  # submitted 2; the oldest waits 30 s
    finish(s, clock, "t1", 4.0)
    submit(s, "three")
    clock.advance(10)
    sample(s)  # completed 2, submitted 1; the oldest waits 10 s
    clock.advance(HOUR)
    s.register_pod(A, {})
    finish(s, clock, "t2", 0.5, Status.FAILED)
    sample(s)  # in the next hour: failed 1
    first, second = s.work_history(start, HOUR)
    assert (first.start_ts, first.submitted, first.completed, first.failed) == (start, 3, 2, 0)
    assert first.seconds == pytest.approx(INTERVAL + 31 + 18)
    assert (first.most_pending, first.most_claimed, first.most_failed) == (2, 0, 0)
    assert first.oldest_pending_s == 30.0
    assert (first.run_p50_s, first.run_p95_s, first.run_p99_s) == (4.0, 4.0, 4.0)
    assert first.wait_p50_s == first.wait_p95_s == first.wait_p99_s
    assert first.wait_p95_s == pytest.approx(30.0, abs=0.01)
    assert second == WorkSpan(start + HOUR, pytest.approx(HOUR, abs=10), 0, 0, 1, 0, 0, 1, *[None] * 7)


def test_spans_are_as_wide_as_asked_for(s: Any, clock: FakeClock) -> None:
    start = clock.now()
    for n in range(4):
        submit(s, f"s{n}")
        sample(s)
        clock.advance(INTERVAL)
    assert [(span.start_ts - start, span.submitted) for span in s.work_history(start, 2 * INTERVAL)] == [
        (0, 2),
        (20, 2),
    ]
    assert [span.most_pending for span in s.work_history(start, INTERVAL)] == [1, 2, 3, 4]


def test_hours_without_a_sample_are_left_out_and_the_rest_comes_in_order(s: Any, clock: FakeClock) -> None:
    start = clock.now()
    for hours in (0, 1, 3):
        clock.advance(start + hours * HOUR + 5 - clock.now())
        s.register_pod(A, {})
        sample(s)
    assert [span.start_ts - start for span in s.work_history(start, HOUR)] == [0, HOUR, 3 * HOUR]


def test_only_samples_since_the_given_time_count(s: Any, clock: FakeClock) -> None:
    assert s.work_history(0.0, HOUR) == []
    start = clock.now()
    submit(s, "one")
    sample(s)
    clock.advance(INTERVAL)
    submit(s, "two", "three")
    sample(s)
    assert [span.submitted for span in s.work_history(start, HOUR)] == [3]
    assert [span.submitted for span in s.work_history(clock.now(), HOUR)] == [2]
    assert s.work_history(clock.now() + 1, HOUR) == []


def test_a_sample_knows_which_pods_were_alive_and_who_led(s: Any, clock: FakeClock) -> None:
    start = clock.now()
    s.register_pod(B, {})
    s.beat(B, {"running_count": 3, "capacity": 8}, THRESHOLD)
    clock.advance(4)
    s.beat(A, {"running_count": "many", "capacity": -1}, THRESHOLD)
    s.take_sample(A, INTERVAL, THRESHOLD)
    at = clock.now()
    assert s.list_pod_samples(start) == [
        PodSample(at, "pod-a", "inc-a", 0, 0, 0.0, True),
        PodSample(at, "pod-b", "inc-b", 3, 8, 4.0, False),
    ]
    assert s.list_pod_samples(at + 1) == []


def test_a_dead_pod_is_not_in_a_sample(s: Any, clock: FakeClock) -> None:
    s.register_pod(B, {})
    clock.advance(THRESHOLD)
    sample(s)
    assert [pod.pod_id for pod in s.list_pod_samples(0.0)] == ["pod-a"]


def test_long_ranges_look_at_fewer_samples(s: Any, clock: FakeClock) -> None:
    clock.advance(INTERVAL * 3 - clock.now() % (INTERVAL * 3))
    start = clock.now()
    for _ in range(6):
        sample(s)
        clock.advance(INTERVAL)
    assert [pod.sampled_ts - start for pod in s.list_pod_samples(0.0, 3)] == [0, 3 * INTERVAL]
