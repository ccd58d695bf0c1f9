"""Replies, connections and sessions that are lost on the way to Snowflake, as a store and a pod live through them."""

from __future__ import annotations

import itertools
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from fleetq_core import pod as pod_module
from fleetq_core.clock import SystemClock
from fleetq_core.config import Config
from fleetq_core.connect import connect
from fleetq_core.errors import StoreError, StoreUnavailable
from fleetq_core.leader.recovery import Recovery
from fleetq_core.model import Decision, DecisionFilter, Identity, NewStep, Outcome, RecoveryRun, Status, Step, StepRow
from fleetq_core.pod import Pod
from fleetq_core.queue import Queue
from fleetq_core.store import open_snowflake, snowflake_connection, snowflake_session, snowflake_sign_in
from fleetq_core.store.protocol import RecoveryOrder
from fleetq_core.store.snowflake import SnowflakeStore
from fleetq_core.store.snowflake_connection import SnowflakeConnection, Statement
from fleetq_core.tasks import TaskRegistry
from fleetq_core.worker.outbox import Outbox
from tests.support import emulator
from tests.support.fleet import ROOT
from tests.support.server_faults import ServerFaults
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
THRESHOLD = 3600.0
ME, DEAD = Identity("pod-a", "inc-a"), Identity("pod-b", "inc-b")
_schemas = itertools.count(1)


@pytest.fixture
def faults(snowflake_settings: dict[str, Any]) -> Iterator[ServerFaults]:
    """What the server does wrong; it is whole again after the test."""
    control = ServerFaults(snowflake_settings["port"])
    yield control
    control.clear()


def opened(settings: dict[str, Any], tables: Any = "standard", **override: Any) -> SnowflakeStore:
    """A store in a schema of its own, whose driver does not pause before the first of its own repeats."""
    here = {"schema": f"LOST_{next(_schemas)}", "backoff_policy": lambda: itertools.chain([0], itertools.repeat(1))}
    store = SnowflakeStore(SnowflakeConnection(settings | here | override, "pod-a"))
    store.create_schema(tables)
    return store


@pytest.fixture(scope="module", params=["standard", "hybrid"])
def shared(request: pytest.FixtureRequest, snowflake_settings: dict[str, Any]) -> Iterator[SnowflakeStore]:
    store = opened(snowflake_settings, request.param)
    yield store
    store.close()


@pytest.fixture
def store(snowflake_settings: dict[str, Any], faults: ServerFaults) -> Iterator[SnowflakeStore]:
    made = opened(snowflake_settings, network_timeout=2, socket_timeout=1)
    yield made
    made.close()


def rows(store: SnowflakeStore, sql: str) -> list[tuple[Any, ...]]:
    return store._db.rows(Statement.of("test", sql), {})


# -- a reply that is lost after the commit ----------------------------------------------------------------------------

STEPS = (
    "SELECT step_id, status, claim_token, retry_count, deferrals, result, error, retry_ts IS NULL, LENGTH(history) > 0"
    " FROM step_tracker ORDER BY step_id"
)
PODS = "SELECT pod_id, incarnation, status FROM pod_health ORDER BY pod_id"


@dataclass(frozen=True)
class Write:
    """A writing method: what has to be there, the call, and what it leaves behind.

    `answers`: whether a repeat returns what the first call would have. A mere count of what changed cannot.
    """

    call: Callable[[Any], Any]
    effect: str = STEPS
    prepare: Callable[[Any], object] = lambda store: None
    answers: bool = True


def submit(store: Any) -> list[str]:
    steps = [NewStep({"task_type": "echo", "n": n}, step_id=f"s{n}") for n in range(3)]
    return Queue(store, Config(pod_id="pod-a")).submit_steps(steps)


def claimed(store: Any) -> None:
    submit(store)
    for n, token in enumerate(("t0", "t1", "t2")):
        assert [row.step_id for row in store.claim_steps(ME, token, 1, THRESHOLD)] == [f"s{n}"]


def failed(store: Any) -> None:
    claimed(store)
    outcomes = [Outcome(f"s{n}", f"t{n}", Status.FAILED, 0.1, error="no") for n in range(3)]
    assert len(store.settle_steps(outcomes, 3)) == 3


def orphaned(store: Any) -> None:
    submit(store)
    store.register_pod(DEAD, {})
    store.claim_steps(DEAD, "t", 2, THRESHOLD)
    store.mark_down(DEAD)


def settle(store: Any) -> Any:
    outcomes = [
        Outcome("s0", "t0", Status.COMPLETED, 0.1, "1"),
        Outcome("s1", "t1", Status.FAILED, 0.1, error="no", retry_delay_s=60.0),
        Outcome("s2", "t2", Status.PENDING, 0.1, error="later", retry_delay_s=60.0),
    ]
    return store.settle_steps(outcomes, 3)


def recover(store: Any) -> Any:
    done = store.recover(RecoveryOrder("run-1", ME, THRESHOLD, 3, False))
    return sorted((d.step_id, d.action, d.owner) for d in done.decisions)


def save_run(store: Any) -> None:
    run = RecoveryRun("run-2", "pod-a", "manual", 1000.0, 1001.0, 1.0, (), 1, 1, 0, 0, False)
    store.save_recovery_run(run, [Decision("s0", "orphan", "requeued", "pod-b", 1, "gone")])


RUNS = "SELECT run_id, COUNT(*) OVER () FROM recovery_run UNION ALL SELECT step_id, COUNT(*) OVER () FROM recovery_decision"
WRITES = {
    "submit_steps": Write(submit),
    "claim_steps": Write(
        lambda store: [row.step_id for row in store.claim_steps(ME, "t", 2, THRESHOLD)], prepare=submit
    ),
    "claim_steps_within_caps": Write(
        lambda store: [row.step_id for row in store.claim_steps(ME, "t", 3, THRESHOLD, {"echo": 1})], prepare=submit
    ),
    "settle_steps": Write(settle, prepare=claimed),
    "release_steps": Write(
        lambda store: store.release_steps([("s0", "t0"), ("s1", "t1")]), prepare=claimed, answers=False
    ),
    "release_unknown": Write(
        lambda store: store.release_unknown(ME, ["t0"], time.time() + 60), prepare=claimed, answers=False
    ),
    "requeue_steps": Write(lambda store: store.requeue_steps(["s0", "s1"]), prepare=failed, answers=False),
    "cancel_steps": Write(lambda store: store.cancel_steps(["s0"], "by me"), prepare=submit, answers=False),
    "register_pod": Write(lambda store: store.register_pod(DEAD, {}), PODS, answers=False),
    "beat": Write(lambda store: store.beat(ME, {}, THRESHOLD).state, PODS),
    "beat_of_a_buried_pod": Write(
        lambda store: store.beat(ME, {}, THRESHOLD).leader, PODS, prepare=lambda store: store.mark_down(ME)
    ),
    "mark_down": Write(lambda store: store.mark_down(ME), PODS),
    "insert_command": Write(
        lambda store: store.insert_command("c1", "pause", "*", {"n": 1}, "me"),
        "SELECT command_id, kind, target, args, issued_by FROM command_log",
    ),
    "answer_command": Write(
        lambda store: store.answer_command("c1", "pod-a", True, "done"),
        "SELECT command_id, pod_id, ok, result FROM command_answer",
        prepare=lambda store: store.insert_command("c1", "pause", "*", {}, "me"),
    ),
    "recover": Write(recover, prepare=orphaned),
    "save_recovery_run": Write(save_run, RUNS),
    "take_sample": Write(
        lambda store: store.take_sample(ME, 600.0, THRESHOLD),
        "SELECT COUNT(*) FROM fleet_sample",
        prepare=submit,
        answers=False,
    ),
    "purge": Write(
        lambda store: store.purge(time.time() + 60, time.time() + 60, 100), prepare=failed, answers=False
    ),
}  # fmt: skip


class Scene:
    """The shared tables, emptied for each run of a write."""

    def __init__(self, shared: SnowflakeStore, write: Write) -> None:
        self._shared, self._write = shared, write

    def prepared(self) -> SnowflakeStore:
        counts = ", ".join(f"(SELECT COUNT(*) FROM {table})" for table in emulator.TABLES)
        for table, count in zip(emulator.TABLES, rows(self._shared, f"SELECT {counts}")[0], strict=True):
            if count:
                emulator.run(self._shared, f"DELETE FROM {table}")
        store = SnowflakeStore(self._shared._db)
        store.tables = self._shared.tables
        store.register_pod(ME, {})
        self._write.prepare(store)
        return store

    def effect(self) -> list[tuple[Any, ...]]:
        return rows(self._shared, self._write.effect)


def statements_of(call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[str]]:
    """What a call returns, and the purposes of the writes it sends."""
    sent: list[str] = []
    run = SnowflakeConnection.write

    def noted(self: Any, statement: Statement, bind: Any) -> int:
        sent.append(statement.purpose)
        return run(self, statement, bind)

    with monkeypatch.context() as patch:
        patch.setattr(SnowflakeConnection, "write", noted)
        return call(), list(dict.fromkeys(sent))


@pytest.mark.parametrize("name", WRITES)
def test_a_lost_reply_is_repeated_to_one_effect(
    shared: SnowflakeStore, faults: ServerFaults, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write = WRITES[name]
    scene = Scene(shared, write)
    undisturbed = scene.prepared()
    answer, sent = statements_of(lambda: write.call(undisturbed), monkeypatch)
    effect = scene.effect()
    assert sent
    assert effect != [] or name == "purge"
    for purpose in ["purge_failed"] if name == "purge" else sent:  # it has ten, all alike
        match = f" {purpose}$".replace(" ", r"[^\n]* ", 1).replace("$", r"\n")
        # The driver hears nothing and asks again, under the same request id: the caller does not notice.
        store = scene.prepared()
        faults.add(match, "lose_reply", times=1)
        faults.add(match, "watch", times=1)
        again = write.call(store)
        lost, retried = faults.hits()[:2]
        assert (lost["request"], retried["retry"]) == (retried["request"], 1)
        assert scene.effect() == effect, purpose
        if name not in ("register_pod", "take_sample"):  # these tell the time
            assert again == answer, purpose
        faults.clear()
        # The answer breaks off, and nobody knows whether the statement has run: the caller does it again.
        store = scene.prepared()
        faults.add(match, "cut_reply", times=1)
        with pytest.raises(StoreUnavailable, match="no answer"):
            write.call(store)
        assert len(faults.hits()) == 1
        again = write.call(store)
        assert scene.effect() == effect, purpose
        if write.answers:
            assert again == answer, purpose
        faults.clear()


def test_a_recovery_without_an_answer_is_asked_again_and_recorded_once(
    store: SnowflakeStore, faults: ServerFaults, make_config: Any
) -> None:
    store.register_pod(ME, {})
    orphaned(store)
    recovery = Recovery(store, ME, make_config(), SystemClock(), leads=lambda: True, holds_off=lambda: False)
    faults.add(r" recover_orphans\n", "cut_reply", times=1)
    with pytest.raises(StoreUnavailable):
        recovery.run_once()
    assert store.list_recovery_runs(5) == []
    recovery.run_once()
    (run,) = store.list_recovery_runs(5)
    assert (run.resubmitted, len(store.find_decisions(DecisionFilter(run_id=run.run_id), 10))) == (2, 2)


# -- connections and sessions, as one store lives through them --------------------------------------------------------


@pytest.fixture
def proxy(snowflake_settings: dict[str, Any]) -> Iterator[TcpProxy]:
    with TcpProxy(snowflake_settings["port"]) as between:
        yield between


def test_a_connection_that_breaks_is_unavailable_and_then_opened_anew(
    snowflake_settings: dict[str, Any], proxy: TcpProxy
) -> None:
    store = opened(snowflake_settings, port=proxy.port, network_timeout=1, login_timeout=1)
    assert proxy.accepted == 1
    proxy.reset_all()
    assert store.now() > 0  # the driver connects again by itself
    proxy.reset_answers(1, after=200)
    with pytest.raises(StoreUnavailable, match=r"no answer: ChunkedEncodingError: .*SNOWFLAKE_ACCOUNT"):
        store.now()
    assert proxy.resets_left == 0
    assert store._db._driver is None
    assert store.now() > 0
    proxy.go_away()
    for said in ("250003", "250001"):  # in the middle of a session, and at sign-in
        with pytest.raises(StoreUnavailable, match=f"{said}: .*SNOWFLAKE_ACCOUNT"):
            store.now()
    proxy.come_back()
    assert store.now() > 0
    store.close()


def test_a_sign_in_that_breaks_off_is_unavailable(snowflake_settings: dict[str, Any], proxy: TcpProxy) -> None:
    store = SnowflakeStore(SnowflakeConnection(snowflake_settings | {"port": proxy.port}, "pod-a"))
    proxy.reset_answers(1, after=200)
    with pytest.raises(StoreUnavailable, match="no answer"):
        store.now()
    assert store.now() > 0
    store.close()


def test_a_slow_answer_is_waited_for(store: SnowflakeStore, faults: ServerFaults) -> None:
    """Slower than the driver waits for a byte: it asks again, and the server joins the two."""
    store.insert_steps([StepRow("s0", "echo", "{}", 0, None)])
    faults.add(r" cancel_steps\n", "slow:1.3", times=1)
    faults.add(r" cancel_steps\n", "watch")
    assert store.cancel_steps(["s0"], "by me") == ["s0"]
    assert len({hit["request"] for hit in faults.hits()}) == 1
    assert [hit["retry"] for hit in faults.hits()] == [0, 1]


@pytest.mark.parametrize("code", [390111, 390112, 390114])
def test_an_expired_session_is_renewed_without_the_callers_notice(
    store: SnowflakeStore, faults: ServerFaults, code: int
) -> None:
    faults.add(r" insert_steps\n", f"error:{code}", times=1)
    assert store.insert_steps([StepRow("s0", "echo", "{}", 0, None)]) == 1
    assert len(faults.hits()) == 1
    faults.clear()
    # It ends again in the middle of a wait for a lock: that, too, is no more than a new session.
    faults.add(r" cancel_steps\n", "error:625", times=1)
    faults.add(r" cancel_steps\n", f"error:{code}", times=1)
    assert store.cancel_steps(["s0"], "by me") == ["s0"]
    assert len(faults.hits()) == 2


@pytest.mark.parametrize("status", [503])
def test_a_gateway_that_answers_instead_is_an_outage(store: SnowflakeStore, faults: ServerFaults, status: int) -> None:
    """Not an error that no repeat can cure: five of those in a row end a pod."""
    store._db.settings = {**store._db.settings, "network_timeout": 1}
    store._db._drop()
    faults.add(r" now\n", f"http:{status}")
    with pytest.raises(StoreUnavailable, match=f"^Snowflake: 290{status}: HTTP "):
        store.now()
    faults.clear()
    assert store.now() > 0


@pytest.mark.parametrize("what", ["error:630", "hang_after"])
def test_a_statement_past_its_time_may_be_repeated(store: SnowflakeStore, faults: ServerFaults, what: str) -> None:
    store.register_pod(ME, {})
    claimed(store)
    effect = rows(store, STEPS)
    faults.add(r" settle_steps\n", what)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        settle(store)
    assert time.monotonic() - started < 6
    assert store._db._driver is None  # nobody knows what that session still does
    assert (rows(store, STEPS) == effect) is (what != "hang_after")
    faults.clear()
    assert len(settle(store)) == 3
    assert [row[1] for row in rows(store, STEPS)] == ["completed", "failed", "pending"]


def test_a_heartbeat_hangs_no_longer_than_it_is_worth(snowflake_settings: dict[str, Any], faults: ServerFaults) -> None:
    """Others wait for as long as a statement may take: 90 s."""
    beat = SnowflakeStore(SnowflakeConnection(snowflake_settings, "pod-a", patience_s=2.0).again("beat"))
    assert beat.now() > 0
    faults.add(r"^fleetq pod-a beat now\n", "hang")
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        beat.now()
    assert time.monotonic() - started < 8
    beat.close()


def test_a_session_of_hybrid_tables_that_breaks_off_at_its_start_is_unavailable(
    store: SnowflakeStore, faults: ServerFaults
) -> None:
    store._db.use_hybrid()
    for what in ("cut_reply", "error:604"):
        faults.add("READ_LATEST_WRITES", what, times=1)
        with pytest.raises(StoreUnavailable):
            store.now()
    faults.add("READ_LATEST_WRITES", "watch")
    assert store.now() > 0
    assert len(faults.hits()) == 3  # set on the new session


def test_a_connection_closed_during_its_sign_in_stays_closed(
    store: SnowflakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store._db._drop()
    ended: list[Any] = []

    def connect(**_: Any) -> Any:
        closing = threading.Thread(target=store.close)
        closing.start()
        closing.join()
        return SimpleNamespace(close=lambda: ended.append(True))

    monkeypatch.setattr(snowflake_connection, "CLOSE_S", 0.1)
    monkeypatch.setattr(snowflake_sign_in.snowflake.connector, "connect", connect)
    with pytest.raises(StoreUnavailable, match="is closed"):
        store.now()
    assert eventually(lambda: ended)
    assert store._db._driver is None


def test_the_driver_is_back_soon_after_the_store_is() -> None:
    pauses = list(itertools.islice(snowflake_sign_in.driver_pauses(), 50))
    assert max(pauses) <= snowflake_sign_in.DRIVER_MOST_S
    assert len(set(pauses)) > 1


def test_closing_does_not_wait_for_a_dead_network(
    snowflake_settings: dict[str, Any], proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snowflake_connection, "CLOSE_S", 0.5)
    store = opened(snowflake_settings, port=proxy.port)
    idle = SnowflakeStore(store._db.again("idle"))
    assert idle.now() > 0

    def ask() -> None:
        with suppress(StoreUnavailable):  # its session may be gone before it
            store.now()

    proxy.stall()
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    cursor = eventually(lambda: getattr(store._db._cursor, "_timebomb", None) and store._db._cursor)
    for each in (idle, store):
        started = time.monotonic()
        each.close()
        assert time.monotonic() - started < snowflake_connection.CLOSE_S + 1
    assert cursor._timebomb.finished.is_set()  # the process would wait for this timer at its end
    proxy.come_back()
    asking.join(30)
    assert not asking.is_alive()


FIRST_RESULTS = """
import os, sys, threading, time
import fleetq_core.store.snowflake_connection
from snowflake.connector.arrow_context import ArrowConverterContext
from snowflake.connector.nanoarrow_arrow_iterator import PyArrowRowIterator

def decode():
    together.wait()
    try:
        PyArrowRowIterator(None, b"", ArrowConverterContext({}), False, False, False, False)
    except Exception: pass  # there is nothing to decode

children = []
for _ in range(12):  # only the first of a process is in danger
    child = os.fork()
    if not child:
        sys.setswitchinterval(1e-6)
        together = threading.Barrier(8)
        threads = [threading.Thread(target=decode) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""


def test_threads_that_read_their_first_results_together_do_not_deadlock() -> None:
    with subprocess.Popen([sys.executable, "-c", FIRST_RESULTS], cwd=ROOT, start_new_session=True) as process:
        try:
            assert process.wait(30) == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_statements_that_are_aborted_leave_no_lock_behind(snowflake_settings: dict[str, Any]) -> None:
    """Of the stand-in: what a driver gives up on is aborted, often in the moment in which it begins."""
    settings = snowflake_settings | {"schema": f"LOST_{next(_schemas)}"}
    given_up, other = (SnowflakeConnection(settings, name) for name in ("given-up", "other"))
    other.write(Statement.of("test", "CREATE TABLE aborted (n INT)"), {})
    other.write(Statement.of("test", "INSERT INTO aborted VALUES (1)"), {})
    update, over = Statement.of("test", "UPDATE aborted SET n = n + 1"), threading.Event()

    def write() -> None:
        while not over.is_set():
            with suppress(StoreError):
                given_up.write(update, {})

    writing = threading.Thread(target=write)
    writing.start()
    try:
        eventually(lambda: given_up._driver)
        token = given_up._driver.rest.token
        for _ in range(500):
            _abort(snowflake_settings["port"], token)
        assert other.write(update, {}) == 1
    finally:
        over.set()
        writing.join(30)
        for each in (given_up, other):
            each.close()


def _abort(port: int, token: str) -> None:
    headers = {"Authorization": f'Snowflake Token="{token}"'}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/queries/v1/abort-request", b"{}", headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


# -- as a pod lives through them --------------------------------------------------------------------------------------


@dataclass
class Run:
    """A pod of this process behind the proxy, and what looks on beside it."""

    pod: Pod
    queue: Queue
    log: pytest.LogCaptureFixture
    proxy: TcpProxy
    gate: threading.Event
    ran: list[str]

    def submit(self, count: int) -> list[str]:
        return self.queue.submit_steps([NewStep({"task_type": "note"}) for _ in range(count)])

    def all_completed(self, ids: list[str]) -> None:
        """Each of them ran once, without a retry."""
        eventually(lambda: self.queue.stats().completed == len(ids), timeout_s=30)
        assert sorted(self.ran) == sorted(ids)
        assert {record.retry_count for record in self.queue.store.get_steps(ids)} == {0}

    def lines(self, pattern: str) -> list[str]:
        return [line for line in self.log.messages if re.search(pattern, line)]


# As patient as a real one: for what does not last, so that a machine that stalls for seconds is not taken for an outage.
PATIENT = pytest.mark.parametrize("pod_run", [60.0], indirect=True)


@pytest.fixture
def pod_run(
    request: pytest.FixtureRequest,
    snowflake_settings: dict[str, Any],
    proxy: TcpProxy,
    make_config: Any,
    faults: ServerFaults,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Run]:
    """The pod's threshold is the parameter; without one, it is a pod that soon gives up on a network that is dead."""
    patience_s = getattr(request, "param", None)
    if patience_s is None:
        monkeypatch.setattr(snowflake_session, "NETWORK_TIMEOUT_S", 2)
        monkeypatch.setattr(snowflake_session, "SOCKET_TIMEOUT_S", 1)
    monkeypatch.setattr(pod_module, "JOIN_S", 1.0)
    caplog.set_level(logging.INFO, "fleetq_core")
    given = {f"snowflake_{name}": value for name, value in snowflake_settings.items()}
    given |= {"store": "snowflake", "snowflake_schema": f"PODS_{next(_schemas)}"}
    config = make_config(
        **given, heartbeat_interval=0.3, claim_interval=0.1, recovery_interval=0.3, dead_pod_threshold=patience_s or 6.0,
        retry_base_delay=0.1,
    )  # fmt: skip
    open_snowflake(config, create=True).close()
    queue, behind = connect(config), connect(config.model_copy(update={"snowflake_port": proxy.port}))
    tasks, gate, ran = TaskRegistry(), threading.Event(), list[str]()
    gate.set()

    @tasks.task("note")
    def note(step: Step) -> None:
        gate.wait(30)
        ran.append(step.step_id)

    pod = Pod(behind, behind.config, tasks=tasks)
    pod.start()
    yield Run(pod, queue, caplog, proxy, gate, ran)
    gate.set()
    faults.clear()
    proxy.come_back()
    pod.stop(0.5)
    for each in (queue, behind):
        each.close()


def test_a_pod_outlives_a_server_that_refuses(pod_run: Run) -> None:
    pod_run.gate.clear()
    ids = pod_run.submit(3)
    eventually(lambda: pod_run.pod.meta()["running_count"] == 3)
    pod_run.proxy.go_away()
    eventually(lambda: pod_run.lines("trying again"))
    pod_run.gate.set()
    eventually(lambda: pod_run.pod.meta()["outbox"] == 3)
    pod_run.proxy.come_back()
    pod_run.all_completed(ids)
    eventually(lambda: pod_run.lines("the store is back"))
    assert len(pod_run.lines("trying again")) == len(pod_run.lines("the store is back")) == 1
    assert pod_run.pod.failure is None


def test_a_pod_outlives_connections_that_break_while_others_go_on(pod_run: Run) -> None:
    ids = []
    for after in (0, 20, 200):
        pod_run.proxy.reset_answers(3, after)
        ids += pod_run.submit(20)
        eventually(lambda: pod_run.proxy.resets_left == 0)
        pod_run.proxy.reset_all()
        pod_run.all_completed(ids)
    assert pod_run.pod.failure is None


def test_a_pod_outlives_a_network_that_drops_everything(pod_run: Run) -> None:
    pod_run.gate.clear()
    ids = pod_run.submit(3)
    eventually(lambda: pod_run.pod.meta()["running_count"] == 3)
    pod_run.proxy.stall()
    eventually(lambda: pod_run.lines("trying again"))
    pod_run.gate.set()
    eventually(
        lambda: pod_run.pod.meta()["outbox"] == 3, timeout_s=60
    )  # each try ends with the driver's own time limit
    pod_run.proxy.come_back()
    pod_run.all_completed(ids)
    eventually(lambda: pod_run.lines("the store is back"))
    assert len(pod_run.lines("trying again")) == 1


@PATIENT
def test_a_pods_sessions_expire_without_a_failed_step(pod_run: Run, faults: ServerFaults) -> None:
    roles, ids = ("claim", "settle", "beat", "lead"), list[str]()
    for code in (390111, 390112, 390114):
        for role in roles:
            faults.add(f"fleetq pod-a {role} ", f"error:{code}", times=1)
        ids += pod_run.submit(30)
        eventually(lambda: len(faults.hits()) == len(roles))
        pod_run.all_completed(ids)
        faults.clear()
    assert not pod_run.lines("trying again|failed|silent|Snowflake:")


@PATIENT
def test_a_pods_statement_past_its_time_costs_no_step(pod_run: Run, faults: ServerFaults) -> None:
    faults.add("fleetq pod-a settle ", "error:630", times=2)
    faults.add("fleetq pod-a claim ", "error:630", times=2)
    ids = pod_run.submit(30)
    eventually(lambda: len(faults.hits()) == 4)
    pod_run.all_completed(ids)
    assert pod_run.pod.meta()["outbox"] == 0


def test_a_pod_stops_on_a_dead_network_and_keeps_its_results(pod_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its statements hang for longer than it waits; what they have in hand goes to the outbox."""
    monkeypatch.setattr(snowflake_session, "SOCKET_TIMEOUT_S", 60)
    first = pod_run.submit(1)  # so that the connection of the settle loop is there, with that patience
    pod_run.all_completed(first)
    pod_run.gate.clear()
    (step_id,) = pod_run.submit(1)
    eventually(lambda: pod_run.pod.meta()["running_count"] == 1)
    pod_run.proxy.stall()
    pod_run.gate.set()
    eventually(lambda: pod_run.pod._settler._in_hand)
    started = time.monotonic()
    pod_run.pod.stop(0.2)
    assert time.monotonic() - started < 10
    assert pod_run.pod.state == "stopped"
    config = pod_run.pod.config
    kept = Outbox(config.data_dir / "outbox", f"pod-a.{pod_run.pod.who.incarnation[:8]}")
    assert [outcome.step_id for outcome in kept.peek(10)] == [step_id]
    kept.close()
