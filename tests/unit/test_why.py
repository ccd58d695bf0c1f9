"""Why a step is not running: told from the conditions that the claim goes by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.dashboard.views.why import why_not
from fleetq_core.model import PodRecord, QueueStats, Status, StepRecord

NOW = 1000.0
META: dict[str, Any] = {
    "state": "running", "tasks": ["call"], "capacity": 6, "running_count": 2, "outbox": 0, "heartbeat_s": 10.0,
    "task_throttles": {"call": "api"}, "throttles": {"api": {"available_capacity": 3}},
}  # fmt: skip
STEP = StepRecord(
    step_id="s", task_type="call", payload={}, priority=0, status=Status.PENDING, retry_count=0, max_retries=None,
    claimed_by=None, incarnation=None, claim_token=None, created_ts=900.0, claimed_ts=None, finished_ts=None,
    last_update_ts=900.0, retry_ts=None, run_s=None, result=None, error=None, history=[], recovery_run_id=None,
    due_ts=None, deferrals=0,
)  # fmt: skip


def pod(name: str = "a", beat_ts: float = NOW - 1, **meta: Any) -> PodRecord:
    return PodRecord(name, f"inc-{name}", "up", 1.0, beat_ts, True, META | meta)


def told(step: StepRecord, *pods: PodRecord, pending: int = 1) -> str:
    leader = pods[0] if pods else None
    return " ".join(why_not(step, Snapshot(NOW, QueueStats(NOW, pending=pending), pods, leader, (), (), 60.0)))


def test_a_step_that_can_be_claimed_now_needs_no_reason() -> None:
    assert told(STEP, pod()) == ""
    assert told(STEP, pod("a", running_count=6), pod("b")) == ""


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        ([], "No pod is alive: start one."),
        ([pod(beat_ts=NOW - 61)], "No pod is alive"),
        ([pod("a", state="paused"), pod("b", state="draining")], "No living pod takes on work; they are draining, paused."),
        ([pod(tasks=["other"])], "No living pod has a handler"),
        ([pod(running_count=6)], "All slots of 1 pod are busy."),
        ([pod(outbox=3)], "1 pod first must write results"),
        ([pod(throttles={"api": {"available_capacity": 0}})], "The throttle of this task has no slot left on 1 pod."),
        ([pod(throttles=7, tasks=None, task_throttles="x")], "No living pod has a handler"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_is_said(pods: list[PodRecord], reason: str) -> None:
    assert reason in told(STEP, *pods)


def test_each_pod_that_cannot_take_it_is_counted_once_and_the_queue_is_told() -> None:
    shut = {"api": {"available_capacity": 0}}
    sentence = told(STEP, pod("a", running_count=6, throttles=shut), pod("b", running_count=6), pending=5)
    assert "no slot left on 1 pod" in sentence
    assert "All slots of 1 pod are busy." in sentence
    assert "4 other steps wait too" in sentence


def test_a_step_that_was_handed_back_says_until_when() -> None:
    step = replace(STEP, due_ts=NOW + 30, deferrals=4)
    assert told(step, pod()).startswith("Its handler has handed it back (4 times so far)")
    assert "in 30 s" in told(step, pod())
    assert told(replace(step, due_ts=NOW - 1), pod()) == ""


def test_a_claimed_step_says_what_became_of_its_pod() -> None:
    step = replace(STEP, status=Status.CLAIMED, claimed_by="a", incarnation="inc-a", claimed_ts=950.0)
    assert told(step, pod()) == ""
    assert "silent for 40 s; in 20 s it counts as dead" in told(step, pod(beat_ts=NOW - 40))
    assert "Its pod is dead, silent for 1 min 10 s" in told(step, pod(beat_ts=NOW - 70), pod("b"))
    assert "The process that claimed it is gone" in told(replace(step, incarnation="older"), pod())
    assert "The process that claimed it is gone" in told(step, pod("b"))


def test_a_claimed_step_that_its_pod_has_not_started() -> None:
    step = replace(STEP, status=Status.CLAIMED, claimed_by="a", incarnation="inc-a", claimed_ts=950.0)
    busy: dict[str, Any] = {"running": [{"step_id": "x"}, {"step_id": "y"}], "buffered": 7}
    assert told(step, pod(**busy)) == (
        "Its pod holds it and had not started it by its last heartbeat: 2 of 6 slots were busy, and 7 steps waited "
        "there for one."
    )
    assert told(replace(step, step_id="x"), pod(**busy)) == ""  # it runs
    assert told(step, pod(**busy | {"running_count": 3})) == ""  # not all that runs is named
    assert told(replace(step, claimed_ts=NOW), pod(**busy)) == ""  # claimed since
    assert told(step, pod(running="nonsense")) == ""


def test_a_fleet_that_rests_will_wake() -> None:
    rests = replace(pod(state="resting"), status="down")
    assert told(STEP, rests) == "1 pod, resting, will look for work soon and take it."


def test_a_retry_that_is_due_with_nobody_to_lead() -> None:
    step = replace(STEP, status=Status.FAILED, retry_ts=NOW - 5)
    assert "no living pod leads" in told(step)
    assert told(step, pod()) == ""
    assert told(replace(STEP, status=Status.COMPLETED), pod()) == ""
