"""What a pod must not do: start or claim without a lease, claim while results wait. Each test is red without its guard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from fleetq_core import Pod, Queue, Step
from fleetq_core.clock import SystemClock
from fleetq_core.model import Outcome, Status
from fleetq_core.store import open_store
from fleetq_core.tasks import TaskRegistry
from fleetq_core.worker.executor import Executor
from tests.pods.conftest import drained
from tests.support.stores import FaultyStore
from tests.support.waiting import eventually

StartPod = Callable[..., Pod]


def test_without_a_lease_claimed_steps_do_not_start(queue: Queue, tasks: TaskRegistry) -> None:
    lease, looks, done = threading.Event(), threading.Semaphore(0), threading.Event()
    started: list[str] = []
    tasks.task("note")(lambda step: started.append(step.step_id))

    def may_start() -> bool:
        looks.release()
        return lease.is_set()

    def on_outcome(_: Outcome) -> None:
        done.set()

    executor = Executor(
        queue, tasks, SystemClock(), capacity=1, may_start=may_start, on_outcome=on_outcome,
        on_room=lambda: None, on_deadline=lambda: None,
    )  # fmt: skip
    executor.start()
    executor.offer([Step("a", {"task_type": "note"}, 0, 0, "t", "pod-a")])
    assert looks.acquire(timeout=10)  # asked once, and again after a wake-up
    executor.wake()
    assert looks.acquire(timeout=10)
    assert (started, executor.load()) == ([], (0, 1))
    lease.set()
    executor.wake()
    assert done.wait(10)
    assert started == ["a"]
    executor.stop()


@pytest.fixture
def silent() -> threading.Event:
    return threading.Event()


def test_a_pod_whose_beats_fail_stops_claiming_before_others_call_it_dead(
    start_pod: StartPod, fast_config: Callable[..., Any], silent: threading.Event
) -> None:
    def lost(name: str) -> bool:
        return silent.is_set() and name == "beat"

    threshold_s = 2.0
    pod = start_pod(
        lambda: FaultyStore(open_store(fast_config()), lost, lambda _: False), dead_pod_threshold=threshold_s
    )
    assert pod._may_claim()
    silent.set()
    eventually(lambda: not pod._may_claim(), timeout_s=10, every_s=0.005)
    record = pod._beat_store.list_pods()[0]
    assert record.is_alive(pod._beat_store.now(), threshold_s)  # the pod knows it before the others do
    assert pod.state == "running"
    silent.clear()
    eventually(pod._may_claim)


def test_nothing_new_is_claimed_while_results_wait_on_disk(
    start_pod: StartPod,
    live_queue: Queue,
    tasks: TaskRegistry,
    fast_config: Callable[..., Any],
    silent: threading.Event,
) -> None:
    tasks.task("fine")(lambda step: "result")
    refused = threading.Semaphore(0)

    def lost(name: str) -> bool:
        if silent.is_set() and name == "settle_steps":
            refused.release()
            return True
        return False

    pod = start_pod(lambda: FaultyStore(open_store(fast_config()), lost, lambda _: False), dead_pod_threshold=60.0)
    silent.set()
    first = live_queue.submit_step({"task_type": "fine"})
    assert eventually(lambda: pod.meta()["outbox"]) == 1
    second = live_queue.submit_step({"task_type": "fine"})
    for _ in range(3):  # the settle loop has tried again and again, the claim loop has been woken by the submit
        assert refused.acquire(timeout=20)
    assert [live_queue.get_step(x).status for x in (first, second)] == [Status.CLAIMED, Status.PENDING]
    silent.clear()
    drained(live_queue)
    assert {live_queue.get_step(x).result for x in (first, second)} == {"result"}
