"""The contract of the fleet's long-range history: samples added up by the hour, in the store."""

from __future__ import annotations

from typing import Any

import pytest

from fleetq_core.model import HourOfWork, Identity, Outcome, Status, StepRow
from tests.support.clock import FakeClock

A = Identity("pod-a", "inc-a")
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
    first, second = s.hourly_history(start)
    assert (first.hour_ts, first.submitted, first.completed, first.failed) == (start, 3, 2, 0)
    assert first.oldest_pending_s == 30.0
    assert first.run_p95_s == 4.0
    assert first.wait_p95_s is not None
    assert first.wait_p95_s >= 30.0
    assert second == HourOfWork(start + HOUR, 0, 0, 1, None, None, None)


def test_hours_without_a_sample_are_left_out_and_the_rest_comes_in_order(s: Any, clock: FakeClock) -> None:
    start = clock.now()
    for hours in (0, 1, 3):
        clock.advance(start + hours * HOUR + 5 - clock.now())
        s.register_pod(A, {})
        sample(s)
    assert [hour.hour_ts - start for hour in s.hourly_history(start)] == [0, HOUR, 3 * HOUR]


def test_only_samples_since_the_given_time_count(s: Any, clock: FakeClock) -> None:
    assert s.hourly_history(0.0) == []
    start = clock.now()
    submit(s, "one")
    sample(s)
    clock.advance(INTERVAL)
    submit(s, "two", "three")
    sample(s)
    assert [hour.submitted for hour in s.hourly_history(start)] == [3]
    assert [hour.submitted for hour in s.hourly_history(clock.now())] == [2]
    assert s.hourly_history(clock.now() + 1) == []
