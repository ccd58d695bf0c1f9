"""The contract of resting: what a pod that has nothing to do sees when it looks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleetq_core.model import Identity, Outcome, Status, StepRow
from tests.support.clock import FakeClock

A = Identity("pod-a", "inc-a")
THRESHOLD = 60.0


@pytest.fixture
def s(any_store: Any) -> Any:
    any_store.register_pod(A, {})
    return any_store


def submit(store: Any) -> None:
    store.insert_steps([StepRow("s0", "echo", '{"task_type":"echo"}', 0, None)])


def claim(store: Any) -> None:
    submit(store)
    store.claim_steps(A, "t", 1, THRESHOLD)


def settle(store: Any, status: Status, delay: float | None = None) -> None:
    claim(store)
    store.settle_steps([Outcome("s0", "t", status, 0.1, error="no", retry_delay_s=delay)], 3)


def told(store: Any) -> tuple[bool, float | None]:
    found = store.idle_look()
    return found.open_steps, found.newest_command_ts


def test_an_empty_queue_has_nothing_open(s: Any) -> None:
    assert told(s) == told(s) == (False, None)


@pytest.mark.parametrize("make", [submit, claim], ids=["pending", "claimed"])
def test_a_step_that_is_not_finished_is_open(s: Any, make: Any) -> None:
    s.idle_look()
    make(s)
    assert told(s) == told(s) == (True, None)


@pytest.mark.parametrize(
    ("status", "delay", "is_open"),
    [
        (Status.COMPLETED, None, False),
        (Status.FAILED, None, False),  # a dead letter
        (Status.FAILED, 600.0, True),  # its retry wants a leader
        (Status.PENDING, 600.0, True),  # handed back for a while
    ],
)
def test_what_still_has_to_happen_is_open(s: Any, status: Status, delay: float | None, is_open: bool) -> None:
    settle(s, status, delay)
    assert s.idle_look().open_steps is is_open


def test_the_newest_command_is_told(s: Any, clock: FakeClock) -> None:
    for n in range(2):
        clock.advance(5)
        s.insert_command(f"c{n}", "pause", "*", {}, "me")
    assert told(s) == (False, pytest.approx(clock.now(), abs=1e-5))


def test_it_stays_the_same_until_somebody_beats(s: Any, clock: FakeClock) -> None:
    found = s.idle_look()
    clock.advance(10 * THRESHOLD)
    s.mark_down(A)
    assert s.idle_look() == found
    s.register_pod(Identity("pod-b", "inc-b"), {})
    assert s.idle_look() == replace(found, newest_beat_ts=pytest.approx(clock.now(), abs=1e-5))
