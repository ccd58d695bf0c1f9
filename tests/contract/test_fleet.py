"""The contract of pods, commands, recovery and samples."""

from __future__ import annotations

from typing import Any

import pytest

from fleetq_core.config import Config
from fleetq_core.errors import StoreUnavailable
from fleetq_core.leader.election import leader_of
from fleetq_core.leader.recovery import Recovery
from fleetq_core.model import BeatState, DecisionFilter, Identity, Outcome, RecoveryRun, Status, StepRow
from fleetq_core.store.protocol import Recovered, RecoveryOrder
from tests.support.clock import FakeClock
from tests.support.stores import FaultyStore, forget_pod

A, B, C = (Identity(f"pod-{x}", f"inc-{x}") for x in "abc")
THRESHOLD = 60.0


@pytest.fixture
def s(any_store: Any, clock: FakeClock) -> Any:
    """A was born first and leads; B holds three claimed steps s0..s2; s3 is pending."""
    for who in (A, B):
        any_store.register_pod(who, {})
        clock.advance(1)
    any_store.insert_steps([StepRow(f"s{n}", "echo", '{"task_type":"echo"}', 0, None) for n in range(4)])
    any_store.claim_steps(B, "t-b", 3, THRESHOLD)
    return any_store


def recover(store: Any, who: Identity = A, *, hold_off: bool = False, max_retries: int = 3) -> Recovered:
    order = RecoveryOrder("run-1", who, THRESHOLD, max_retries, hold_off)
    return store.recover(order)


def state(store: Any, step_id: str = "s0") -> tuple[str, int]:
    record = store.get_steps([step_id])[0]
    return record.status.value, record.retry_count


def silence(store: Any, clock: FakeClock, *alive: Identity) -> None:
    """Let everyone but `alive` fall silent for longer than the threshold."""
    clock.advance(THRESHOLD + 5)
    for who in alive:
        store.beat(who, {}, THRESHOLD)


# -- pods -------------------------------------------------------------------------------------------------------------


def test_the_oldest_living_pod_leads(s: Any, clock: FakeClock) -> None:
    assert s.beat(B, {}, THRESHOLD).leader_pod_id == "pod-a"
    silence(s, clock, B)
    assert s.beat(B, {}, THRESHOLD).leader_pod_id == "pod-b"
    assert leader_of(s.list_pods(), clock.now(), THRESHOLD).pod_id == "pod-b"


def test_leadership_moves_at_once_when_the_leader_goes_down(s: Any) -> None:
    s.mark_down(A)
    assert s.beat(B, {}, THRESHOLD).leader == B.incarnation


def test_a_client_never_leads(s: Any) -> None:
    s.mark_down(A)
    s.mark_down(B)
    client = Identity("cli", "inc-cli", may_lead=False)
    s.register_pod(client, {})
    assert s.beat(client, {}, THRESHOLD).leader is None


def test_a_restarted_pod_takes_its_row_over(s: Any) -> None:
    again = Identity("pod-b", "inc-b2")
    s.register_pod(again, {})
    assert s.beat(B, {}, THRESHOLD).state is BeatState.SUPERSEDED
    assert s.beat(again, {}, THRESHOLD).state is BeatState.ALIVE
    assert [(p.pod_id, p.incarnation) for p in s.list_pods()] == [("pod-a", "inc-a"), ("pod-b", "inc-b2")]


def test_a_superseded_pod_can_neither_beat_nor_go_down_for_its_successor(s: Any) -> None:
    again = Identity("pod-b", "inc-b2")
    s.register_pod(again, {"state": "new"})
    s.beat(B, {"state": "old"}, THRESHOLD)
    s.mark_down(B)
    pod = next(p for p in s.list_pods() if p.pod_id == "pod-b")
    assert (pod.status, pod.meta) == ("up", {"state": "new"})


def test_registering_twice_keeps_the_birth(s: Any, clock: FakeClock) -> None:
    born = s.list_pods()[0].birth_ts
    clock.advance(5)
    s.register_pod(A, {})
    assert s.list_pods()[0].birth_ts == born


def test_a_beat_of_a_purged_pod_says_so(s: Any) -> None:
    assert s.beat(C, {}, THRESHOLD).state is BeatState.MISSING


def test_purge_keeps_pods_that_own_something(s: Any, clock: FakeClock) -> None:
    clock.advance(100_000)
    s.purge(0, 0, 100)
    assert [p.pod_id for p in s.list_pods()] == ["pod-b"]


# -- recovery ---------------------------------------------------------------------------------------------------------


def test_a_silent_pods_steps_are_requeued_with_a_retry(s: Any, clock: FakeClock) -> None:
    silence(s, clock, A)
    recover(s)
    assert [state(s, f"s{n}") for n in range(4)] == [("pending", 1)] * 3 + [("pending", 0)]
    record = s.get_steps(["s0"])[0]
    assert (record.claimed_by, record.claim_token, record.recovery_run_id) == (None, None, "run-1")
    assert [(h["outcome"], h["pod_id"]) for h in record.history] == [("lost", "pod-b")]
    assert "sent no heartbeat for 66 s" in record.error


def test_what_recovery_answers(store: Any, clock: FakeClock) -> None:
    for who in (A, B):
        store.register_pod(who, {})
    store.insert_steps([StepRow("s0", "echo", '{"task_type":"echo"}', 0, None)])
    store.claim_steps(B, "t", 1, THRESHOLD)
    silence(store, clock, A)
    done = recover(store)
    assert (done.is_leader, done.dead_pods) == (True, ("pod-b",))
    assert [(v.pod_id, v.incarnation, round(v.silent_s)) for v in done.verdicts] == [("pod-b", "inc-b", 65)]
    assert done.statements is not None
    assert done.statements >= 4
    assert [(d.step_id, d.cause, d.action, d.owner, d.retry_count) for d in done.decisions] == [
        ("s0", "orphan", "requeued", "pod-b", 1)
    ]


def test_a_run_that_is_asked_for_again_tells_of_all_that_it_did(s: Any, clock: FakeClock) -> None:
    """The first reply may have been lost, and there may be more to do by now."""
    silence(s, clock, A)
    first = recover(s).decisions
    s.register_pod(C, {})
    assert "s3" in {c.step_id for c in s.claim_steps(C, "t-c", 9, THRESHOLD)}
    s.mark_down(C)
    again = {d.step_id: d for d in recover(s).decisions}
    assert {d.step_id: (d.cause, d.action, d.owner) for d in first} == {
        f"s{n}": ("orphan", "requeued", "pod-b") for n in range(3)
    }
    assert [(x, again[x].owner, again[x].retry_count) for x in sorted(again)] == [
        *((f"s{n}", "pod-c", 2) for n in range(3)), ("s3", "pod-c", 1)
    ]  # fmt: skip


def test_a_run_with_a_name_of_its_own_does_not_tell_of_another(s: Any, clock: FakeClock) -> None:
    silence(s, clock, A)
    recover(s)
    assert s.recover(RecoveryOrder("run-2", A, THRESHOLD, 3, False)).decisions == ()


def test_a_leader_that_heard_no_answer_records_what_its_run_did(store: Any, clock: FakeClock, config: Config) -> None:
    for who in (A, B):
        store.register_pod(who, {})
    store.insert_steps([StepRow(f"s{n}", "echo", '{"task_type":"echo"}', 0, None) for n in range(3)])
    store.claim_steps(B, "t", 3, THRESHOLD)
    silence(store, clock, A)
    lost = ["recover"]
    deaf = FaultyStore(store, before=lambda name: False, after=lambda name: name in lost and bool(lost.pop()))
    recovery = Recovery(deaf, A, config, clock, leads=lambda: True, holds_off=lambda: False)
    with pytest.raises(StoreUnavailable):
        recovery.run_once()
    assert state(store) == ("pending", 1)  # it was done all the same
    recovery.run_once()
    (run,) = store.list_recovery_runs(5)
    assert (run.total_orphans, run.resubmitted, run.finished_ts is None) == (3, 3, False)
    assert [verdict.pod_id for verdict in run.verdicts] == ["pod-b"]  # the first try buried it, and nobody heard
    found = store.find_decisions(DecisionFilter(run_id=run.run_id), 10)
    assert [record.decision.step_id for record in found] == ["s0", "s1", "s2"]
    assert recovery.moved["orphan"] == {"requeued": 3, "terminal": 0}


def test_decisions_are_found_by_run_by_step_and_by_owner(s: Any, clock: FakeClock, config: Config) -> None:
    silence(s, clock, A)
    recovery = Recovery(s, A, config, clock, leads=lambda: True, holds_off=lambda: False)
    recovery.run_once()
    s.register_pod(C, {})
    s.claim_steps(C, "t-c", 1, THRESHOLD)
    s.mark_down(C)
    clock.advance(1)
    recovery.run_once()
    second, first = s.list_recovery_runs(5)

    def found(limit: int = 10, **where: str) -> list[tuple[str, str]]:
        return [(r.run_id, r.decision.step_id) for r in s.find_decisions(DecisionFilter(**where), limit)]

    assert found(run_id=first.run_id) == [(first.run_id, f"s{n}") for n in range(3)]
    assert found(owner="pod-c") == [(second.run_id, "s0")]
    assert found(step_id="s0") == [(second.run_id, "s0"), (first.run_id, "s0")]
    assert found(step_id="s0", owner="pod-b") == [(first.run_id, "s0")]
    assert (found(owner="pod-c", cause="orphan"), found(cause="failed")) == ([(second.run_id, "s0")], [])
    assert (found(step_id="nobody"), len(found(limit=2))) == ([], 2)
    record = s.find_decisions(DecisionFilter(step_id="s0"), 1)[0]
    assert (record.leader_pod_id, record.started_ts) == ("pod-a", second.started_ts)


def test_a_recorded_run_tells_why_its_pods_were_dead(s: Any, clock: FakeClock, config: Config) -> None:
    silence(s, clock, A)
    Recovery(s, A, config, clock, leads=lambda: True, holds_off=lambda: False).run_once()
    (run,) = s.list_recovery_runs(5)
    assert [(v.pod_id, v.incarnation, round(v.silent_s)) for v in run.verdicts] == [("pod-b", "inc-b", 66)]
    assert run.dead_pods == ("pod-b",)
    assert run.statements is not None
    assert run.statements >= 4


def test_what_each_process_holds(s: Any, clock: FakeClock) -> None:
    before = clock.now()
    s.register_pod(C, {})
    clock.advance(5)
    assert s.claim_steps(C, "t-c", 9, THRESHOLD)
    held = {(h.pod_id, h.incarnation): (h.steps, h.oldest_claimed_ts - before) for h in s.held_by_pod()}
    assert held == {("pod-b", "inc-b"): (3, pytest.approx(0.0, abs=0.1)), ("pod-c", "inc-c"): (1, pytest.approx(5.0))}


def test_a_living_pods_steps_are_left_alone(s: Any, clock: FakeClock) -> None:
    silence(s, clock, A, B)
    assert recover(s).decisions == ()
    assert state(s) == ("claimed", 0)


def test_only_the_leader_recovers(s: Any, clock: FakeClock) -> None:
    s.register_pod(C, {})
    silence(s, clock, A, C)
    done = recover(s, C)
    assert (done.is_leader, done.decisions, done.dead_pods) == (False, (), ())
    assert state(s) == ("claimed", 0)
    assert next(p for p in s.list_pods() if p.pod_id == "pod-b").status == "up"


def test_a_non_leader_retries_no_failure(s: Any, clock: FakeClock) -> None:
    s.settle_steps([Outcome("s0", "t-b", Status.FAILED, 0.1, error="x", retry_delay_s=0.0)], 3)
    clock.advance(1)
    recover(s, B)
    assert state(s) == ("failed", 0)


def test_two_believers_do_the_work_once(s: Any, clock: FakeClock) -> None:
    silence(s, clock, A)
    recover(s, A)
    s.mark_down(A)
    s.register_pod(C, {})
    recover(s, C)
    assert state(s) == ("pending", 1)


def test_a_late_completion_after_recovery_is_refused(s: Any, clock: FakeClock) -> None:
    silence(s, clock, A)
    recover(s)
    assert s.settle_steps([Outcome("s0", "t-b", Status.COMPLETED, 1.0, '"late"')], 3) == set()
    assert (state(s), s.get_steps(["s0"])[0].result) == (("pending", 1), None)


def test_nobody_silent_is_judged_during_hold_off(s: Any, clock: FakeClock) -> None:
    silence(s, clock, A)
    recover(s, hold_off=True)
    assert state(s) == ("claimed", 0)
    assert next(p for p in s.list_pods() if p.pod_id == "pod-b").status == "up"


@pytest.mark.parametrize("how", ["down", "restarted", "unknown"])
def test_owners_that_are_certainly_gone_are_recovered_even_then(s: Any, how: str, clock: FakeClock) -> None:
    if how == "down":
        s.mark_down(B)
    elif how == "restarted":
        s.register_pod(Identity("pod-b", "inc-b2"), {})
    else:
        forget_pod(s, "pod-b")
    recover(s, hold_off=True)
    assert state(s) == ("pending", 1)


def test_deaths_count_and_end(s: Any, clock: FakeClock) -> None:
    for attempt in range(4):
        silence(s, clock, A)
        recover(s, max_retries=3)
        if attempt < 3:
            assert state(s) == ("pending", attempt + 1)
            s.register_pod(B, {})
            assert any(c.step_id == "s0" for c in s.claim_steps(B, f"t{attempt}", 10, THRESHOLD))
    record = s.get_steps(["s0"])[0]
    assert (record.status, record.retry_count, record.is_dead_letter) == (Status.FAILED, 3, True)
    assert "all 3 retries are used" in record.error
    assert record.claimed_by == "pod-b"
    assert len(record.history) == 4


def test_a_due_failure_is_retried_an_undue_one_waits(s: Any, clock: FakeClock) -> None:
    s.settle_steps(
        [
            Outcome("s0", "t-b", Status.FAILED, 0.1, error="x", retry_delay_s=5.0),
            Outcome("s1", "t-b", Status.FAILED, 0.1, error="x", retry_delay_s=50.0),
            Outcome("s2", "t-b", Status.FAILED, 0.1, error="x", retry_delay_s=None),
        ],
        3,
    )
    clock.advance(10)
    recover(s)
    assert [state(s, f"s{n}") for n in range(3)] == [("pending", 1), ("failed", 0), ("failed", 0)]


def test_a_repeated_failure_after_its_retry_still_counts_as_written(store: Any, clock: FakeClock) -> None:
    store.register_pod(A, {})
    store.insert_steps([StepRow("s0", "echo", '{"task_type":"echo"}', 0, None)])
    store.claim_steps(A, "t", 1, THRESHOLD)
    outcome = Outcome("s0", "t", Status.FAILED, 0.1, error="x", retry_delay_s=0.0)
    store.settle_steps([outcome], 3)
    recover(store)
    assert store.settle_steps([outcome], 3) == {("s0", "t")}
    assert state(store) == ("pending", 1)


def test_a_run_is_kept_with_its_decisions(s: Any, clock: FakeClock) -> None:
    silence(s, clock, A)
    recover(s)
    unfinished = s.list_recovery_runs(5)[0]
    assert (unfinished.run_id, unfinished.finished_ts) == ("run-1", None)  # what a leader that dies now leaves
    run = RecoveryRun("run-1", "pod-a", "manual", clock.now(), clock.now(), 0.1, ("pod-b",), 3, 3, 0, 0)
    s.save_recovery_run(run, [])
    assert s.list_recovery_runs(5) == [run]
    s.save_recovery_run(RecoveryRun("run-1", "x", "x", 0, 0, 0, (), 0, 0, 0, 0), [])
    assert s.list_recovery_runs(5) == [run]


def test_an_old_run_is_found_by_its_id(s: Any, clock: FakeClock) -> None:
    runs = [RecoveryRun(f"run-{n}", "pod-a", "cycle", 1.0 + n, 2.0, 0.1, (), 0, 0, 0, 0) for n in range(3)]
    for run in runs:
        s.save_recovery_run(run, [])
    assert s.list_recovery_runs(1) == [runs[2]]
    assert s.list_recovery_runs(1, "run-0") == [runs[0]]
    assert s.list_recovery_runs(1, "run-9") == []


# -- commands and samples ---------------------------------------------------------------------------------------------


def test_a_command_reaches_its_target_until_answered(s: Any, clock: FakeClock) -> None:
    s.insert_command("c1", "drain", "pod-b", {"why": "deploy"}, "ann")
    assert s.beat(A, {}, THRESHOLD).commands == ()
    (command,) = s.beat(B, {}, THRESHOLD).commands
    assert (command.kind, command.args, command.issued_by) == ("drain", {"why": "deploy"}, "ann")
    s.answer_command("c1", "pod-b", True, "draining")
    s.answer_command("c1", "pod-b", False, "a second answer")
    assert s.beat(B, {}, THRESHOLD).commands == ()
    (record,) = s.list_commands(10)
    assert [(a.pod_id, a.ok, a.result) for a in record.answers] == [("pod-b", True, "draining")]


def test_an_order_to_the_leader_is_carried_out_once(s: Any) -> None:
    s.insert_command("c1", "run_recovery", "leader", {}, "ann")
    assert s.beat(B, {}, THRESHOLD).commands == ()
    assert len(s.beat(A, {}, THRESHOLD).commands) == 1
    s.answer_command("c1", "pod-a", True, "done")
    s.mark_down(A)
    assert s.beat(B, {}, THRESHOLD).commands == ()


def test_orders_from_before_a_pods_birth_are_not_its_own(s: Any, clock: FakeClock) -> None:
    s.insert_command("c1", "drain", "*", {}, "ann")
    clock.advance(1)
    s.register_pod(C, {})
    assert s.beat(C, {}, THRESHOLD).commands == ()


def test_the_last_pause_or_resume_holds_for_newcomers_too(s: Any, clock: FakeClock) -> None:
    s.insert_command("c1", "pause", "*", {}, "ann")
    clock.advance(1)
    s.register_pod(C, {})
    assert s.beat(C, {}, THRESHOLD).paused
    s.insert_command("c2", "resume", "pod-b", {}, "ann")
    assert (s.beat(B, {}, THRESHOLD).paused, s.beat(C, {}, THRESHOLD).paused) == (False, True)
    clock.advance(100 * 86400)
    s.purge(clock.now(), clock.now(), 100)
    s.register_pod(C, {})
    assert s.beat(C, {}, THRESHOLD).paused


def test_two_leaders_write_one_sample(s: Any, clock: FakeClock) -> None:
    s.settle_steps([Outcome("s0", "t-b", Status.COMPLETED, 0.25)], 3)
    s.take_sample(A, 10.0, THRESHOLD)
    s.take_sample(B, 10.0, THRESHOLD)
    (sample,) = s.list_samples(0, 10)
    assert (sample.pending, sample.claimed, sample.completed, sample.completed_delta) == (1, 2, 1, 1)
    assert (sample.run_p50_s, sample.leader_pod_id, sample.pods_alive) == (0.25, "pod-a", 2)
    clock.advance(10)
    s.take_sample(A, 10.0, THRESHOLD)
    assert [x.completed_delta for x in s.list_samples(0, 10)] == [1, 0]


def test_a_sample_too_soon_after_the_last_is_not_taken(store: Any, clock: FakeClock) -> None:
    store.register_pod(A, {})
    clock.advance(9)
    assert store.take_sample(A, 10.0, THRESHOLD) is not None
    clock.advance(2)  # the next interval by the clock
    assert store.take_sample(A, 10.0, THRESHOLD) is None
    clock.advance(8)
    assert store.take_sample(A, 10.0, THRESHOLD) is not None
    assert len(store.list_samples(0, 10)) == 2


def test_a_client_takes_no_sample_though_it_is_the_oldest(store: Any, clock: FakeClock) -> None:
    client = Identity("cli", "inc-cli", may_lead=False)
    store.register_pod(client, {})
    clock.advance(1)
    store.register_pod(A, {})
    assert store.take_sample(client, 10.0, THRESHOLD) is None
    sample = store.take_sample(A, 10.0, THRESHOLD)
    assert (sample.leader_pod_id, sample.pods_alive) == ("pod-a", 2)


def test_a_sample_counts_only_the_living(store: Any, clock: FakeClock) -> None:
    store.register_pod(B, {})
    clock.advance(THRESHOLD + 1)
    store.register_pod(A, {})
    sample = store.take_sample(A, 10.0, THRESHOLD)
    assert sample is not None
    assert (sample.leader_pod_id, sample.pods_alive) == ("pod-a", 1)


def test_a_sample_counts_since_the_last_one(store: Any, clock: FakeClock) -> None:
    store.register_pod(A, {})
    store.insert_steps([StepRow("before", "echo", '{"task_type":"echo"}', -1, None)])
    store.take_sample(A, 10.0, THRESHOLD)
    clock.advance(10)
    store.beat(A, {}, THRESHOLD)
    store.insert_steps([StepRow(f"s{n}", "echo", '{"task_type":"echo"}', 0, None) for n in range(5)])
    store.claim_steps(A, "t", 3, THRESHOLD)
    clock.advance(2)
    done = [Outcome("s0", "t", Status.COMPLETED, 0.5), Outcome("s1", "t", Status.FAILED, 0.1, error="x")]
    store.settle_steps(done, 3)
    sample = store.take_sample(A, 10.0, THRESHOLD)
    assert (sample.submitted_delta, sample.completed_delta, sample.failed_delta) == (5, 1, 1)
    assert (sample.interval_s, sample.wait_p50_s, sample.run_p50_s, sample.oldest_pending_s) == (12.0, 0.0, 0.5, 12.0)
    assert (sample.pending, sample.claimed, sample.completed, sample.failed) == (3, 1, 1, 1)


def test_commands_are_listed_newest_first_with_their_own_answers(s: Any, clock: FakeClock) -> None:
    for n in range(3):
        s.insert_command(f"c{n}", "drain", "*", {}, "ann")
        clock.advance(1)
    for pod_id in ("pod-b", "pod-a"):
        s.answer_command("c1", pod_id, True, "yes")
        clock.advance(1)
    listed = [(r.command.command_id, [a.pod_id for a in r.answers]) for r in s.list_commands(2)]
    assert listed == [("c2", []), ("c1", ["pod-b", "pod-a"])]
    assert [r.command.command_id for r in s.list_commands(9, ["c0", "c1", "none"])] == ["c1", "c0"]
    assert s.list_commands(9, []) == []


def test_purge_takes_each_kind_that_is_old(s: Any, clock: FakeClock) -> None:
    s.take_sample(A, 10.0, THRESHOLD)
    s.insert_command("c1", "drain", "pod-b", {}, "ann")
    s.answer_command("c1", "pod-b", True, "yes")
    silence(s, clock, A)
    recover(s)
    s.save_recovery_run(RecoveryRun("run-1", "pod-a", "cycle", clock.now(), clock.now(), 0.1, (), 3, 3, 0, 0), [])
    clock.advance(100)
    s.purge(clock.now(), clock.now(), 100)
    assert (s.list_samples(0, 9), s.list_commands(9), s.list_recovery_runs(9)) == ([], [], [])
