"""A pod as a whole: commands, stopping, and a store that misbehaves."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetq_core import Pod, Queue, Step
from fleetq_core.commands import CommandKind
from fleetq_core.errors import ConfigError
from fleetq_core.model import Status
from fleetq_core.store import open_store
from fleetq_core.tasks import TaskRegistry
from fleetq_core.throttle import ThrottleConfig, get_or_create_throttle
from tests.pods.conftest import drained
from tests.support.stores import WRITES, FaultyStore
from tests.support.waiting import eventually

StartPod = Callable[..., Pod]


def answer(queue: Queue, command_id: str, timeout_s: float = 10.0) -> Any:
    return eventually(lambda: queue.command(command_id).answers, timeout_s)[0]


@pytest.fixture
def blocked(tasks: TaskRegistry) -> Iterator[threading.Event]:
    """A task `block` whose steps run until the event is set."""
    event = threading.Event()
    tasks.task("block")(lambda step: event.wait(30))
    yield event
    event.set()


def test_pause_and_resume_one_pod(start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry) -> None:
    tasks.task("fine")(lambda step: None)
    pod = start_pod()
    assert answer(live_queue, live_queue.order(CommandKind.PAUSE, "pod-a", by="ann")).ok
    eventually(lambda: pod.state == "paused")
    step_id = live_queue.submit_step({"task_type": "fine"})
    with pytest.raises(TimeoutError):
        live_queue.wait(step_id, 0.5)
    live_queue.order(CommandKind.RESUME, "pod-a", by="ann")
    assert live_queue.wait(step_id, 10).status is Status.COMPLETED


def test_a_fleet_wide_pause_holds_for_pods_that_start_later(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry
) -> None:
    tasks.task("fine")(lambda step: None)
    live_queue.order(CommandKind.PAUSE, "*", by="ann")
    pod = start_pod()
    assert pod.state == "paused"
    step_id = live_queue.submit_step({"task_type": "fine"})
    live_queue.order(CommandKind.RESUME, "*", by="ann")
    assert live_queue.wait(step_id, 10).claimed_by == "pod-a"


def test_a_drained_pod_finishes_what_runs_and_goes_down(
    start_pod: StartPod, live_queue: Queue, blocked: threading.Event
) -> None:
    pod = start_pod(max_parallelism=1)
    first, second = live_queue.submit_steps([{"task_type": "block"}] * 2)
    eventually(lambda: pod.meta()["running_count"] == 1)
    assert answer(live_queue, live_queue.order(CommandKind.DRAIN, "pod-a", by="ann")).result.startswith("draining")
    blocked.set()
    assert pod.wait_stopped(10)
    assert live_queue.get_step(first).status is Status.COMPLETED
    assert live_queue.get_step(second).status is Status.PENDING
    assert live_queue.store.list_pods()[0].status == "down"


def test_recovery_on_command_is_answered_and_recorded(start_pod: StartPod, live_queue: Queue) -> None:
    pod = start_pod()
    eventually(lambda: pod.leads)
    reply = answer(live_queue, live_queue.order(CommandKind.RUN_RECOVERY, "leader", by="ann"))
    assert (reply.ok, reply.pod_id) == (True, "pod-a")
    (run,) = live_queue.store.list_recovery_runs(5)
    assert (run.trigger, run.total_orphans, run.held_off) == ("manual", 0, True)


@pytest.mark.parametrize(
    ("kind", "said"),
    [(CommandKind.RESET_THROTTLE, "no throttle named 'bedrock'"), ("dance", "does not know the command")],
)
def test_what_a_pod_cannot_do_it_says(start_pod: StartPod, live_queue: Queue, kind: str, said: str) -> None:
    start_pod()
    reply = answer(live_queue, live_queue.order(kind, "pod-a", by="ann", name="bedrock"))
    assert not reply.ok
    assert said in reply.result


def test_stop_releases_what_did_not_start_and_what_outlives_the_grace(
    start_pod: StartPod, live_queue: Queue, blocked: threading.Event
) -> None:
    pod = start_pod(max_parallelism=2, capacity_threshold=1.0)
    ids = live_queue.submit_steps([{"task_type": "block"}] * 5)
    eventually(lambda: pod.meta()["running_count"] == 2)
    pod.stop(0.1)
    assert {(r.status, r.retry_count) for r in live_queue.store.get_steps(ids)} == {(Status.PENDING, 0)}
    assert live_queue.store.list_pods()[0].status == "down"
    blocked.set()


def test_long_steps_are_not_hoarded(start_pod: StartPod, live_queue: Queue, blocked: threading.Event) -> None:
    """Steps claimed in advance, because the work before them was short, go back when it turns long."""
    pod = start_pod(max_parallelism=2, capacity_threshold=1.0, claim_interval=0.2)
    pod.tasks.task("short")(lambda step: None)
    live_queue.submit_steps([{"task_type": "short"}] * 200)
    live_queue.submit_steps([{"task_type": "block"}] * 50)
    eventually(lambda: pod.meta()["running_count"] == 2)
    eventually(lambda: live_queue.stats().claimed == 2)
    assert live_queue.stats().pending == 48


def test_a_pod_survives_lost_replies_on_every_statement(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry, fast_config: Callable[..., Any]
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng, lock = random.Random(seed), threading.Lock()
    starts: Counter[str] = Counter()
    quiet = threading.Event()

    def lose(name: str) -> bool:
        with lock:
            return name in WRITES and not quiet.is_set() and rng.random() < 0.3

    @tasks.task("count")
    def count(step: Step) -> None:
        with lock:
            starts[step.step_id] += 1

    ids = live_queue.submit_steps([{"task_type": "count"}] * 300)
    opener = lambda: FaultyStore(open_store(fast_config()), before=lambda _: False, after=lose)  # noqa: E731
    # Registering is the one call that has nobody behind it to try again: a start that fails is a start that fails.
    quiet.set()
    pod = start_pod(opener)
    quiet.clear()
    drained(live_queue, 60)
    quiet.set()
    records = live_queue.store.get_steps(ids)
    assert {(r.status, r.retry_count) for r in records} == {(Status.COMPLETED, 0)}
    assert (len(starts), set(starts.values())) == (300, {1})
    assert pod.counters.stale_refused == 0


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [30.0])
def test_a_store_that_is_away_for_30_seconds_costs_no_result(
    start_pod: StartPod, live_queue: Queue, blocked: threading.Event, fast_config: Callable[..., Any], away_s: float
) -> None:
    away = threading.Event()
    opener = lambda: FaultyStore(open_store(fast_config()), lambda _: away.is_set(), lambda _: False)  # noqa: E731
    # Another pod is on the same store, older and so the leader: it must not take the steps away while it is blind too.
    settings = {"dead_pod_threshold": 60.0, "heartbeat_interval": 1.0}
    leader = start_pod(opener, pod_id="pod-leader", max_parallelism=1, **settings)
    live_queue.order(CommandKind.PAUSE, "pod-leader", by="test")
    eventually(lambda: leader.state == "paused")
    pod = start_pod(opener, pod_id="pod-b", **settings)
    ids = live_queue.submit_steps([{"task_type": "block"}] * 6)
    eventually(lambda: pod.meta()["running_count"] == 6)
    away.set()
    since = time.monotonic()
    blocked.set()
    assert eventually(lambda: pod.meta()["outbox"], 10) == 6
    late = live_queue.submit_step({"task_type": "block"})
    eventually(lambda: time.monotonic() - since > away_s, away_s + 5)
    assert live_queue.stats().by_status() == {"pending": 1, "claimed": 6, "completed": 0, "failed": 0}
    away.clear()
    drained(live_queue, 30)
    assert {(r.status, r.retry_count) for r in live_queue.store.get_steps([*ids, late])} == {(Status.COMPLETED, 0)}
    assert pod.meta()["outbox"] == 0


def test_an_outbox_is_replayed_after_a_restart(
    start_pod: StartPod, live_queue: Queue, blocked: threading.Event, fast_config: Callable[..., Any]
) -> None:
    away = threading.Event()
    opener = lambda: FaultyStore(open_store(fast_config()), lambda _: away.is_set(), lambda _: False)  # noqa: E731
    pod = start_pod(opener, dead_pod_threshold=60.0)
    step_id = live_queue.submit_step({"task_type": "block"})
    eventually(lambda: pod.meta()["running_count"] == 1)
    away.set()
    blocked.set()
    assert eventually(lambda: pod.meta()["outbox"], 10) == 1
    pod.stop(0.1)
    assert live_queue.get_step(step_id).status is Status.CLAIMED
    start_pod(dead_pod_threshold=60.0)
    record = live_queue.wait(step_id, 10)
    assert (record.status, record.retry_count) == (Status.COMPLETED, 0)


def test_a_pod_without_a_place_for_its_outbox_does_not_start(start_pod: StartPod, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"FLEET_Q_DATA_DIR=.*file: must be a folder this user may write to"):
        start_pod(data_dir=tmp_path / "file")


def test_the_heart_beats_while_a_recovery_on_command_takes_its_time(
    start_pod: StartPod, live_queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = start_pod(recovery_interval=600.0)
    eventually(lambda: pod.leads)
    let_go, inside = threading.Event(), threading.Event()
    original = pod.recovery._store.recover

    def slow(order: Any) -> Any:
        inside.set()
        let_go.wait(20)
        return original(order)

    monkeypatch.setattr(pod.recovery._store, "recover", slow)
    command_id = live_queue.order(CommandKind.RUN_RECOVERY, "leader", by="ann")
    assert inside.wait(10)
    before = live_queue.store.list_pods()[0].last_heartbeat_ts
    eventually(lambda: live_queue.store.list_pods()[0].last_heartbeat_ts > before + 0.3)
    let_go.set()
    assert answer(live_queue, command_id).ok


def test_a_loop_that_dies_takes_the_pod_down(start_pod: StartPod, live_queue: Queue) -> None:
    pod = start_pod()

    def explode() -> float:
        raise RuntimeError("bug")

    pod._sample_loop._turn = explode
    pod._sample_loop._max_backoff_s = 0.01
    pod._sample_loop.poke()
    assert pod.wait_stopped(10)
    assert isinstance(pod.failure, RuntimeError)
    assert live_queue.store.list_pods()[0].status == "down"


def test_the_leader_samples_the_fleet(start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry) -> None:
    tasks.task("fine")(lambda step: None)
    start_pod()
    live_queue.submit_steps([{"task_type": "fine"}] * 5)
    eventually(lambda: sum(s.completed_delta for s in live_queue.store.list_samples(0, 100)) == 5)


def test_two_pods_share_the_work_and_run_nothing_twice(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry
) -> None:
    lock = threading.Lock()
    starts: Counter[str] = Counter()

    @tasks.task("count")
    def count(step: Step) -> None:
        with lock:
            starts[step.step_id] += 1
        threading.Event().wait(0.002)

    ids = live_queue.submit_steps([{"task_type": "count"}] * 400)
    for name in ("pod-1", "pod-2"):
        start_pod(pod_id=name)
    drained(live_queue)
    assert (len(starts), set(starts.values())) == (400, {1})
    assert {r.claimed_by for r in live_queue.store.get_steps(ids)} == {"pod-1", "pod-2"}


def test_a_full_disk_under_a_working_pod_costs_no_result(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry, fast_config: Callable[..., Any]
) -> None:
    full = threading.Event()

    @tasks.task("write")
    def write(step: Step) -> str:
        full.wait(20)
        return "x" * 100_000

    opened: list[Any] = []

    def opener() -> Any:
        opened.append(open_store(fast_config()))
        return opened[-1]

    def limit(pages: int) -> None:
        for store in opened:
            with store._db.read() as db:
                db.execute(f"PRAGMA max_page_count={pages}")

    pod = start_pod(opener, dead_pod_threshold=60.0)
    ids = live_queue.submit_steps([{"task_type": "write"}] * 12)
    eventually(lambda: pod.meta()["running_count"] == pod.config.capacity)
    with live_queue.store._db.read() as db:  # type: ignore[attr-defined]
        limit(db.execute("PRAGMA page_count").fetchone()[0])
    full.set()
    assert eventually(lambda: pod.meta()["outbox"]) > 0
    assert {r.status for r in live_queue.store.get_steps(ids)} <= {Status.CLAIMED, Status.PENDING}
    limit(1_000_000)
    drained(live_queue)
    assert {(r.status, r.retry_count, len(r.result)) for r in live_queue.store.get_steps(ids)} == {
        (Status.COMPLETED, 0, 100_000)
    }
    eventually(lambda: pod.meta()["outbox"] == 0)  # dropped a moment after the store has them


def test_a_throttle_is_published_and_reset_through_the_store(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry
) -> None:
    throttle = get_or_create_throttle("bedrock", ThrottleConfig(initial_limit=8))

    @tasks.task("call")
    def call(step: Step) -> None:
        with throttle.acquire_sync():
            throttle.record_throttle()

    start_pod()
    live_queue.wait(live_queue.submit_step({"task_type": "call"}), 10)

    def published() -> Any:
        return live_queue.store.list_pods()[0].meta["throttles"].get("bedrock", {})

    eventually(lambda: published().get("total_throttles") == 1)
    assert published()["max_inflight"] == 4
    reply = answer(live_queue, live_queue.order(CommandKind.RESET_THROTTLE, "*", by="ann", name="bedrock"))
    assert (reply.ok, reply.result) == (True, "throttle bedrock reset")
    assert throttle.max_inflight == 8
    eventually(lambda: published()["max_inflight"] == 8)
