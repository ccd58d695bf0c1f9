"""What handlers may be and do: sync, async, slow, stuck, wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fleetq_core import Pod, Queue, Step, TerminalError, failures
from fleetq_core.model import Status
from fleetq_core.tasks import TaskRegistry
from tests.pods.conftest import drained
from tests.support.waiting import eventually

StartPod = Callable[..., Pod]


def test_sync_and_async_handlers_get_a_step_and_give_a_result(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry
) -> None:
    seen: list[Step] = []

    @tasks.task("sync")
    def sync(step: Step) -> dict[str, Any]:
        seen.append(step)
        return {"n": step.payload["n"] * 2}

    @tasks.task("async")
    async def asynchronous(step: Step) -> list[int]:
        await asyncio.sleep(0)
        return [1, 2]

    start_pod()
    first = live_queue.submit_step({"task_type": "sync", "n": 21}, priority=3)
    second = live_queue.submit_step({"task_type": "async"})
    assert live_queue.wait(first, 10).result == {"n": 42}
    assert live_queue.wait(second, 10).result == [1, 2]
    step = seen[0]
    assert (step.step_id, step.priority, step.retry_count, step.pod_id) == (first, 3, 0, "pod-a")
    assert step.claim_token == live_queue.get_step(first).claim_token


def test_an_unknown_task_fails_with_the_known_ones(start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry) -> None:
    tasks.task("resize")(lambda step: None)
    start_pod(max_retries=0)
    step_id = live_queue.submit_step({"task_type": "resise"})
    error = live_queue.wait(step_id, 10).error
    assert "unknown task type 'resise'; this pod knows: resize." in error


def test_a_failure_is_retried_by_the_leader_until_it_succeeds(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry
) -> None:
    @tasks.task("flaky")
    def flaky(step: Step) -> int:
        if step.retry_count < 2:
            raise ValueError(f"attempt {step.retry_count}")
        return step.retry_count

    start_pod()
    record = live_queue.wait(live_queue.submit_step({"task_type": "flaky"}), 20)
    assert (record.status, record.result, record.retry_count) == (Status.COMPLETED, 2, 2)
    told = [failures.split(str(attempt["error"])) for attempt in record.history]
    assert [error for error, _ in told] == ["ValueError: attempt 0", "ValueError: attempt 1"]
    for _, trace in told:  # from the handler on: our own frames would only hide it
        first = trace.splitlines()[1]
        assert first.endswith(", in flaky")
        assert "test_handlers.py" in first


def test_retries_end(start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry) -> None:
    tasks.task("broken")(lambda step: 1 / 0)
    start_pod(max_retries=1)
    record = live_queue.wait(live_queue.submit_step({"task_type": "broken"}), 20)
    assert (record.is_dead_letter, record.retry_count, len(record.history)) == (True, 1, 2)
    assert "ZeroDivisionError" in record.error


def test_a_steps_own_max_retries_wins(start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry) -> None:
    tasks.task("broken")(lambda step: 1 / 0)
    start_pod(max_retries=5)
    record = live_queue.wait(live_queue.submit_step({"task_type": "broken"}, max_retries=0), 20)
    assert len(record.history) == 1


def test_terminal_errors_skip_the_retries(start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry) -> None:
    @tasks.task("hopeless")
    def hopeless(step: Step) -> None:
        raise TerminalError("no such account")

    start_pod()
    record = live_queue.wait(live_queue.submit_step({"task_type": "hopeless"}), 10)
    assert (record.is_dead_letter, record.retry_count, record.error) == (True, 0, "TerminalError: no such account")


@pytest.mark.parametrize("bad", [object(), {"x": float("nan")}, "\ud800", {"x": "a\0b"}, "x" * 300_000])
def test_results_that_are_not_json_fail_clearly(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry, bad: Any
) -> None:
    tasks.task("odd")(lambda step: bad)
    start_pod()
    record = live_queue.wait(live_queue.submit_step({"task_type": "odd"}), 10)
    assert record.is_dead_letter
    assert record.error.startswith("InvalidPayload: result")


def test_even_system_exit_only_fails_the_step(start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry) -> None:
    @tasks.task("leave")
    def leave(step: Step) -> None:
        raise SystemExit(3)

    pod = start_pod(max_retries=0)
    assert "SystemExit: 3" in live_queue.wait(live_queue.submit_step({"task_type": "leave"}), 10).error
    assert pod.state == "running"


def test_never_more_steps_run_than_the_capacity(start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry) -> None:
    lock, now_running, most = threading.Lock(), 0, 0

    def enter() -> None:
        nonlocal now_running, most
        with lock:
            now_running += 1
            most = max(most, now_running)

    def leave() -> None:
        nonlocal now_running
        with lock:
            now_running -= 1

    @tasks.task("sync")
    def sync(step: Step) -> None:
        enter()
        threading.Event().wait(0.01)
        leave()

    @tasks.task("async")
    async def asynchronous(step: Step) -> None:
        enter()
        await asyncio.sleep(0.01)
        leave()

    live_queue.submit_steps([{"task_type": name} for name in ("sync", "async") * 60])
    start_pod(max_parallelism=5, capacity_threshold=0.8)
    drained(live_queue)
    assert most == 4


def test_a_time_limit_fails_the_step_and_shows_the_stuck_slot(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry
) -> None:
    let_go = threading.Event()

    @tasks.task("stuck", timeout_s=0.2)
    def stuck(step: Step) -> str:
        let_go.wait(20)
        return "too late"

    pod = start_pod(max_retries=0)
    step_id = live_queue.submit_step({"task_type": "stuck"})
    record = live_queue.wait(step_id, 10)
    assert record.error == "StepTimeout: task 'stuck' ran past its limit of 0.2 s"
    assert (pod.meta()["stuck"], pod.meta()["running_count"], pod.meta()["timed_out"]) == (1, 1, 1)
    let_go.set()
    eventually(lambda: pod.meta()["running_count"] == 0)
    assert pod.meta()["stuck"] == 0
    assert live_queue.get_step(step_id) == record


def test_an_async_handler_past_its_limit_is_cancelled(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry
) -> None:
    cancelled = threading.Event()

    @tasks.task("slow", timeout_s=0.1)
    async def slow(step: Step) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    pod = start_pod(max_retries=0)
    record = live_queue.wait(live_queue.submit_step({"task_type": "slow"}), 10)
    assert "ran past its limit" in record.error
    assert cancelled.wait(5)
    eventually(lambda: pod.meta()["running_count"] == 0)


def test_a_damaged_payload_fails_alone(start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry) -> None:
    tasks.task("fine")(lambda step: 1)
    good, bad = live_queue.submit_steps([{"task_type": "fine"}] * 2)
    with live_queue.store._db.write() as db:  # type: ignore[attr-defined]
        db.execute("UPDATE step_tracker SET payload = '{broken' WHERE step_id = ?", (bad,))
    start_pod()
    assert "the stored payload is damaged" in live_queue.wait(bad, 10).error
    assert live_queue.wait(good, 10).result == 1
