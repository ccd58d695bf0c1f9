"""The small parts of a pod on a fake clock: lease, ledger, loop, outbox, local DLQ, recovery bookkeeping."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fleetq_core.backoff import full_jitter
from fleetq_core.config import Config
from fleetq_core.errors import ConfigError, NotLeader, PodSuperseded, StoreUnavailable
from fleetq_core.exchange import Exchange
from fleetq_core.heartbeat import Heartbeat
from fleetq_core.leader.dlq import LocalDlq, drop_leftovers
from fleetq_core.leader.planner import Planner
from fleetq_core.leader.recovery import Recovery
from fleetq_core.loop import MAX_ERRORS_IN_A_ROW, Loop
from fleetq_core.model import Decision, DecisionFilter, Identity, Outcome, Status, Step, StepRow
from fleetq_core.store import Store, open_store
from fleetq_core.tasks import TaskRegistry, load_handlers
from fleetq_core.worker.counters import Counters
from fleetq_core.worker.lease import Lease
from fleetq_core.worker.ledger import ClaimLedger
from fleetq_core.worker.outbox import Outbox, adopt_abandoned
from tests.support.clock import FakeClock

ME = Identity("pod-a", "inc-a")


def test_full_jitter_stays_in_its_window_for_any_attempt() -> None:
    for attempt in (0, 1, 5, 100, 100_000):
        assert 0 <= full_jitter(attempt, 0.1, 30) <= min(30, 0.1 * 2.0 ** min(attempt, 64))


# -- lease ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lease(clock: FakeClock) -> Lease:
    return Lease(clock, threshold_s=60, margin_s=5, heartbeat_s=10)


def test_a_lease_counts_from_when_the_beat_was_sent(lease: Lease, clock: FakeClock) -> None:
    assert not lease.is_valid()
    sent = clock.monotonic()
    clock.advance(30)  # a slow statement
    lease.renew(sent)
    clock.advance(24.9)
    assert lease.is_valid()
    clock.advance(0.2)
    assert not lease.is_valid()


def test_a_renewal_after_a_lapse_says_so(lease: Lease, clock: FakeClock) -> None:
    lease.renew(clock.monotonic())
    clock.advance(54)
    assert not lease.renew(clock.monotonic())
    clock.advance(56)
    assert lease.renew(clock.monotonic())


def test_nobody_is_judged_until_a_whole_threshold_without_a_gap(lease: Lease, clock: FakeClock) -> None:
    for _ in range(6):
        lease.renew(clock.monotonic())
        assert lease.holds_off()
        clock.advance(10)
    lease.renew(clock.monotonic())
    assert not lease.holds_off()
    clock.advance(31)  # an outage
    assert lease.holds_off()
    lease.renew(clock.monotonic())
    assert lease.holds_off()


# -- heartbeat --------------------------------------------------------------------------------------------------------


class Beating:
    """A heartbeat on a real store and a fake clock, with what it calls recorded."""

    def __init__(self, store: Store, config: Config, clock: FakeClock) -> None:
        self.lease = Lease(clock, config.dead_pod_threshold, config.lease_margin_s, config.heartbeat_interval)
        self.ledger, self.counters = ClaimLedger(), Counters()
        self.held: set[tuple[str, str]] | None = None
        self.heartbeat = Heartbeat(
            store, ME, config, clock, self.lease, self.ledger, self.counters,
            exchange=Exchange(store, ME, Planner(clock), lambda: False, 2.0, 60.0),
            meta=dict, drop_unless=self._drop, on_beat=lambda beat, lapsed: None,
        )  # fmt: skip

    def _drop(self, held: set[tuple[str, str]]) -> list[Step]:
        self.held = held
        return []


@pytest.fixture
def beating(store: Store, config: Config, clock: FakeClock) -> Beating:
    made = Beating(store, config, clock)
    made.heartbeat.register()
    store.insert_steps([StepRow(x, "echo", '{"task_type":"echo"}', 0, None) for x in "ab"])
    return made


def test_a_claim_whose_reply_was_lost_is_released_by_the_second_beat(
    beating: Beating, store: Store, clock: FakeClock
) -> None:
    beating.heartbeat.run_once()
    clock.advance(1)
    store.claim_steps(ME, "lost", 1, 60)
    beating.ledger.asking("known")
    store.claim_steps(ME, "known", 1, 60)
    clock.advance(1)
    beating.heartbeat.run_once()
    assert store.stats().claimed == 2  # too new to judge
    clock.advance(10)
    beating.heartbeat.run_once()
    assert [(r.step_id, r.status.value) for r in store.get_steps(["a", "b"])] == [("a", "pending"), ("b", "claimed")]
    assert beating.counters.unknown_released == 1


def test_after_a_lapse_the_claims_are_checked_before_the_lease_counts_again(
    beating: Beating, store: Store, clock: FakeClock
) -> None:
    beating.ledger.asking("t")
    store.claim_steps(ME, "t", 1, 60)
    beating.heartbeat.run_once()
    assert beating.held is None
    clock.advance(58)
    assert not beating.lease.is_valid()
    beating.heartbeat.run_once()
    assert beating.held == {("a", "t")}
    assert beating.lease.is_valid()


@pytest.mark.parametrize("seconds", [300.0, -300.0])
def test_after_a_jump_of_the_stores_clock_nobody_is_judged_for_a_threshold(
    beating: Beating, clock: FakeClock, seconds: float
) -> None:
    for _ in range(8):
        clock.advance(10)
        beating.heartbeat.run_once()
    assert not beating.lease.holds_off()
    clock.jump(seconds)
    clock.advance(10)
    beating.heartbeat.run_once()
    assert beating.lease.holds_off()
    for _ in range(6):
        clock.advance(10)
        beating.heartbeat.run_once()
    assert not beating.lease.holds_off()


def test_a_slow_statement_is_no_jump(beating: Beating, store: Store, clock: FakeClock) -> None:
    for _ in range(8):
        clock.advance(10)
        beating.heartbeat.run_once()
    original = store.beat

    def slow(*args: Any) -> Any:
        clock.advance(12)  # waits for the lock, and reads the time when it has it
        answer = original(*args)
        clock.advance(3)
        return answer

    beating.heartbeat._store.beat = slow  # type: ignore[method-assign]
    clock.advance(10)
    beating.heartbeat.run_once()
    assert not beating.lease.holds_off()


def test_a_superseded_pod_learns_it_at_its_next_beat(beating: Beating, store: Store) -> None:
    store.register_pod(Identity("pod-a", "inc-2"), {})
    with pytest.raises(PodSuperseded, match="'pod-a' was started again elsewhere"):
        beating.heartbeat.run_once()


# -- ledger and outbox ------------------------------------------------------------------------------------------------


def test_a_token_is_known_from_before_the_claim_until_its_last_step_is_settled() -> None:
    ledger = ClaimLedger()
    ledger.asking("t1")
    assert ledger.tokens() == {"t1"}
    ledger.granted("t1", ["a", "b"])
    ledger.forget([("a", "t1"), ("b", "other")])
    assert ledger.tokens() == {"t1"}
    ledger.forget([("b", "t1")])
    assert ledger.tokens() == set()
    ledger.asking("t2")
    ledger.granted("t2", [])
    assert ledger.tokens() == set()


OUTCOMES = [
    Outcome("a", "t", Status.COMPLETED, 1.0, '"x"'),
    Outcome("b", "t", Status.FAILED, 1.0, error="é", retry_delay_s=2.0),
]


def test_an_outbox_outlives_its_process_and_leaves_no_file_when_empty(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "pod-a.1")
    box.put(OUTCOMES)
    box.put(OUTCOMES)
    box.close()
    again = Outbox(tmp_path, "pod-a.1")
    assert (len(again), again.peek(10)) == (2, OUTCOMES)
    again.drop(OUTCOMES)
    assert len(again) == 0
    assert list(tmp_path.iterdir()) == []


def test_only_abandoned_outboxes_are_adopted(tmp_path: Path) -> None:
    living, dead = Outbox(tmp_path, "living.1"), Outbox(tmp_path, "dead.1")
    living.put(OUTCOMES)
    dead.put(OUTCOMES)
    dead.close()
    adopted = adopt_abandoned(tmp_path)
    assert [box.peek(10) for box in adopted] == [OUTCOMES]
    assert adopt_abandoned(tmp_path) == []
    for box in (*adopted, living):
        box.close()


def test_an_outbox_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file/sub"):
        Outbox(tmp_path / "file" / "sub", "pod").put(OUTCOMES)


# -- recovery ---------------------------------------------------------------------------------------------------------


def test_the_local_dlq_lives_as_long_as_its_run(tmp_path: Path) -> None:
    decisions = [
        Decision("a", "orphan", "requeued", "p", 1, "why"),
        Decision("b", "orphan", "terminal", "p", 3, "why"),
        Decision("c", "failed", "requeued", "p", 1, "why"),
    ]
    with LocalDlq(tmp_path, "run-1") as dlq:
        dlq.add(decisions)
        with closing(sqlite3.connect(tmp_path / "run-1.dlq")) as db:
            found = db.execute("SELECT step_id, cause, action, retry_count FROM dlq ORDER BY step_id").fetchall()
        assert found == [(d.step_id, d.cause, d.action, d.retry_count) for d in decisions]
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_crashed_run_are_dropped(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "run-x.dlq").close()
    assert drop_leftovers(tmp_path) == 1
    assert drop_leftovers(tmp_path / "missing") == 0


@pytest.fixture
def make_recovery(store: Store, config: Config, clock: FakeClock) -> Callable[..., Recovery]:
    store.register_pod(ME, {})

    def make(the_store: Any = store, who: Identity = ME) -> Recovery:
        return Recovery(the_store, who, config, clock, leads=lambda: True, holds_off=lambda: False)

    return make


def test_an_empty_cycle_leaves_no_record_a_manual_one_does(
    make_recovery: Callable[..., Recovery], store: Store
) -> None:
    recovery = make_recovery()
    recovery.run_once()
    assert store.list_recovery_runs(5) == []
    run = recovery.run_now()
    assert store.list_recovery_runs(5) == [run]


def test_a_pod_that_does_not_lead_may_not_recover(
    make_recovery: Callable[..., Recovery], store: Store, clock: FakeClock
) -> None:
    clock.advance(1)
    young = Identity("pod-b", "inc-b")
    store.register_pod(young, {})
    with pytest.raises(NotLeader, match="pod-b does not lead"):
        make_recovery(who=young).run_now()
    assert store.list_recovery_runs(5) == []


def test_a_record_that_could_not_be_saved_is_saved_later(
    make_recovery: Callable[..., Recovery], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery = make_recovery()

    def away(*_: Any) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "save_recovery_run", away)
        with pytest.raises(StoreUnavailable):
            recovery.run_now()
    assert store.list_recovery_runs(5) == []
    recovery.run_once()
    assert [run.trigger for run in store.list_recovery_runs(5)] == ["manual"]


# -- loop -------------------------------------------------------------------------------------------------------------


def run_loop(turn: Callable[[], float], **options: Any) -> list[str]:
    dead: list[str] = []
    over = threading.Event()

    def on_death(name: str, error: BaseException) -> None:
        dead.append(f"{name}: {error}")
        over.set()

    loop = Loop("test", turn, on_death=on_death, max_backoff_s=0.001, **options)
    loop.start()
    over.wait(10)
    assert loop.stop(5)
    return dead


def test_a_store_that_is_away_never_kills_a_loop_but_bugs_do() -> None:
    turns = iter([StoreUnavailable("away")] * 50 + [ValueError("bug")] * MAX_ERRORS_IN_A_ROW)
    count = 0

    def turn() -> float:
        nonlocal count
        count += 1
        raise next(turns)

    assert run_loop(turn) == ["test: bug"]
    assert count == 50 + MAX_ERRORS_IN_A_ROW


def test_a_superseded_pod_stops_at_once() -> None:
    def turn() -> float:
        raise PodSuperseded("gone")

    assert run_loop(turn) == ["test: gone"]


def test_a_poke_during_a_turn_is_not_lost() -> None:
    second = threading.Event()
    turns = 0

    def turn() -> float:
        nonlocal turns
        turns += 1
        if turns == 1:
            loop.poke()
        else:
            second.set()
        return 3600.0

    loop = Loop("test", turn, on_death=lambda *_: None)
    loop.start()
    assert second.wait(10)
    loop.stop()


# -- tasks ------------------------------------------------------------------------------------------------------------


def test_task_names_are_taken_once(tasks: TaskRegistry) -> None:
    tasks.task("a")(lambda step: 1)

    def other(step: Step) -> int:
        return 2

    with pytest.raises(ConfigError, match="already registered"):
        tasks.task("a")(other)
    for bad in ("", " "):
        with pytest.raises(ConfigError, match="needs the task's name"):
            tasks.task(bad)
    for limit in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="more than 0 seconds"):
            tasks.task("b", timeout_s=limit)


def test_modules_that_cannot_be_imported_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        load_handlers(["no_such_module", "fleetq_core.nor_this"])
    assert len(caught.value.problems) == 2
    assert "cannot import no_such_module" in caught.value.problems[0]


def test_what_the_snowflake_store_lacks_is_told_at_once(make_config: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(make_config(store="snowflake"))
    assert [line.partition(":")[0].split(",")[0] for line in caught.value.problems] == [
        "SNOWFLAKE_ACCOUNT", "SNOWFLAKE_DATABASE", "SNOWFLAKE_SCHEMA", "SNOWFLAKE_USER", "SNOWFLAKE_PRIVATE_KEY_FILE",
    ]  # fmt: skip


def test_recoveries_asked_for_at_once_come_one_after_another(store: Store, config: Config, clock: FakeClock) -> None:
    store.register_pod(ME, {})
    recovery = Recovery(store, ME, config, clock, leads=lambda: True, holds_off=lambda: True)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(20):
                recovery.run_now()
                recovery.run_once()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(store.list_recovery_runs(1000)) == 80


def test_a_recovery_is_recorded_even_if_its_local_log_cannot_be_written(
    store: Store, make_config: Callable[..., Config], clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    store.register_pod(ME, {})
    dead = Identity("pod-b", "inc-b")
    store.register_pod(dead, {})
    store.insert_steps([StepRow("a", "echo", '{"task_type":"echo"}', 0, None)])
    store.claim_steps(dead, "t", 1, 60)
    store.mark_down(dead)
    config = make_config(data_dir=tmp_path / "file")
    run = Recovery(store, ME, config, clock, leads=lambda: True, holds_off=lambda: False).run_now()
    assert (run.total_orphans, run.resubmitted) == (1, 1)
    assert store.list_recovery_runs(5) == [run]
    assert [r.decision.step_id for r in store.find_decisions(DecisionFilter(run_id=run.run_id), 10)] == ["a"]


def test_a_module_that_leaves_is_a_problem_with_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaves_at_once.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="cannot import leaves_at_once: SystemExit: 0"):
        load_handlers(["leaves_at_once"])
