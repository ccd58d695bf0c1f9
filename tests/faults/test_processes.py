"""Faults of whole processes: kill -9, SIGSTOP, SIGTERM, twins, a dying leader, a poison step."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetq_core.model import DecisionFilter, Status, StepFilter
from tests.support.fleet import RECOVERY_S, THRESHOLD_S, Fleet
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.close()


def test_kill_9_in_the_middle_of_a_drain_loses_nothing(fleet: Fleet) -> None:
    ids = fleet.submit(2000, seconds=0.01)
    pods = {name: fleet.start(name) for name in ("pod-1", "pod-2", "pod-3")}
    eventually(lambda: fleet.queue.stats().completed > 200)
    eventually(lambda: any(line[3] == "pod-2" for line in fleet.lines("start")))
    pods["pod-2"].kill()
    killed_at = time.time()
    pods["pod-2"].wait(10)
    held = {
        r.step_id for r in fleet.queue.find_steps(StepFilter(status=Status.CLAIMED, claimed_by="pod-2"), limit=1000)
    }
    assert held

    eventually(fleet.drained, timeout_s=60)
    records = {r.step_id: r for r in fleet.queue.store.get_steps(ids)}
    assert len(records) == 2000
    assert {r.status for r in records.values()} == {Status.COMPLETED}
    # What the dead pod held was run again, once, and counted as a retry; nothing else was.
    assert {step_id for step_id, r in records.items() if r.retry_count} == held
    assert {records[step_id].retry_count for step_id in held} == {1}
    # A start carries a token of its own: no claim runs twice.
    starts = Counter((line[1], line[2]) for line in fleet.lines("start"))
    assert set(starts.values()) == {1}
    # Steps that finished under pod-1 or pod-3 without a retry ran exactly once.
    runs = Counter(line[1] for line in fleet.lines("start"))
    assert {runs[step_id] for step_id in ids if step_id not in held} == {1}
    again = [float(line[5]) for line in fleet.lines("start") if line[1] in held and line[4] == "1"]
    assert len(again) == len(held)
    # Pods wait for their share of two busy cores: two seconds of grace on top of the promise.
    assert min(again) - killed_at < THRESHOLD_S + 1.2 * RECOVERY_S + 2


def test_a_frozen_pods_late_completion_is_refused_and_counted(fleet: Fleet) -> None:
    frozen = fleet.start("pod-frozen")
    (step_id,) = fleet.submit(1, seconds=1.0)
    eventually(lambda: fleet.lines("start"))
    fleet.freeze(frozen)
    fleet.start("pod-well")
    eventually(lambda: fleet.queue.get_step(step_id).status is Status.COMPLETED)
    winner = fleet.queue.get_step(step_id)
    assert (winner.claimed_by, winner.retry_count) == ("pod-well", 1)
    frozen.send_signal(signal.SIGCONT)
    eventually(lambda: "outcome refused, the claim was lost" in fleet.output("pod-frozen"))

    def refused() -> int:
        return next(p.meta["stale_refused"] for p in fleet.queue.store.list_pods() if p.pod_id == "pod-frozen")

    assert eventually(refused) == 1
    assert fleet.queue.get_step(step_id) == winner


def test_sigterm_gives_back_what_runs_too_long_and_hands_leadership_over(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, FLEET_Q_STOP_GRACE="0.5", FLEET_Q_MAX_PARALLELISM="4")
    try:
        leader = fleet.start("pod-old")
        fleet.submit(6, seconds=30)
        eventually(lambda: len(fleet.lines("start")) == 3)
        second = fleet.start("pod-young", FLEET_Q_HANDLERS="tests.support.handlers")
        eventually(lambda: len(fleet.lines("start")) == 6)
        leader.send_signal(signal.SIGTERM)
        assert leader.wait(10) == 0
        owners = {r.claimed_by for r in fleet.queue.find_steps() if r.status is Status.CLAIMED}
        assert owners <= {"pod-young"}
        assert {r.retry_count for r in fleet.queue.find_steps()} == {0}
        assert next(p.status for p in fleet.queue.store.list_pods() if p.pod_id == "pod-old") == "down"
        eventually(lambda: "pod pod-young leads the fleet" in fleet.output("pod-young"), timeout_s=THRESHOLD_S)
        second.send_signal(signal.SIGTERM)
        assert second.wait(10) == 0
        assert fleet.queue.stats().by_status() == {"pending": 6, "claimed": 0, "completed": 0, "failed": 0}
    finally:
        fleet.close()


def test_sigterm_lets_running_steps_finish_within_the_grace(fleet: Fleet) -> None:
    pod = fleet.start("pod-1")
    fleet.submit(3, seconds=1.0)
    eventually(lambda: len(fleet.lines("start")) == 3)
    pod.send_signal(signal.SIGTERM)
    assert pod.wait(15) == 0
    assert fleet.queue.stats().by_status() == {"pending": 0, "claimed": 0, "completed": 3, "failed": 0}


def test_the_second_process_under_a_pod_id_wins_and_the_first_leaves(fleet: Fleet) -> None:
    first = fleet.start("pod-twin")
    (step_id,) = fleet.submit(1, seconds=0.5)
    eventually(lambda: fleet.lines("start"))
    second = fleet.start("pod-twin")
    assert first.wait(15) == 1
    assert "pod_id 'pod-twin' was started again elsewhere" in fleet.output("pod-twin")
    eventually(fleet.drained)
    assert second.poll() is None
    assert fleet.pid_of("pod-twin") == second.pid
    assert fleet.queue.get_step(step_id).status is Status.COMPLETED


def test_a_leader_killed_in_the_middle_of_a_recovery_leaves_nothing_undone(fleet: Fleet) -> None:
    # Without a successor's help its own record is all that is lost, and that is to be seen.
    leader = fleet.start("pod-leader", module="tests.support.dying_leader", FLEET_Q_MAX_PARALLELISM="1")
    fleet.submit(1, seconds=0)
    eventually(fleet.drained)
    victim = fleet.start("pod-victim")
    ids = fleet.submit(4, seconds=2)
    eventually(lambda: any(line[3] == "pod-victim" for line in fleet.lines("start")))
    victim.kill()
    assert leader.wait(20) == -signal.SIGKILL
    unfinished = [run for run in fleet.queue.store.list_recovery_runs(10) if run.finished_ts is None]
    assert [run.leader_pod_id for run in unfinished] == ["pod-leader"]
    fleet.start("pod-next")
    eventually(fleet.drained, timeout_s=40)
    assert {fleet.queue.get_step(step_id).status for step_id in ids} == {Status.COMPLETED}
    assert max(fleet.queue.get_step(step_id).retry_count for step_id in ids) <= 2


def test_a_step_that_kills_its_process_ends_as_failed(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, FLEET_Q_MAX_RETRIES="2")
    try:
        fleet.start("pod-leader", FLEET_Q_HANDLERS="")  # knows no kill_me, so it must not get it: it is paused below
        fleet.queue.order("pause", "pod-leader", by="test")
        eventually(lambda: "pod pod-leader is paused" in fleet.output("pod-leader"))
        step_id = fleet.queue.submit_step({"task_type": "kill_me"})
        for attempt in range(3):
            victim = fleet.start(f"pod-victim-{attempt}")
            assert victim.wait(20) == -signal.SIGKILL
        eventually(lambda: fleet.queue.get_step(step_id).is_dead_letter)
        record = fleet.queue.get_step(step_id)
        assert (record.retry_count, len(fleet.lines("start"))) == (2, 3)
        assert "all 2 retries are used" in record.error
        assert [h["outcome"] for h in record.history] == ["lost"] * 3
        runs = eventually(lambda: [r for r in fleet.queue.store.list_recovery_runs(10) if r.terminal_failures])
        (record,) = fleet.queue.store.find_decisions(DecisionFilter(run_id=runs[0].run_id), 10)
        decision = record.decision
        assert (decision.step_id, decision.action) == (step_id, "terminal")
    finally:
        fleet.close()
