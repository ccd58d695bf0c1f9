"""Steps that are handed back: what asks for it, and what a pod makes of it."""

from __future__ import annotations

import asyncio
import math
import queue as queues
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fleetq_core import Pod, Queue, Step, TerminalError, Throttled, ThrottleTimeout
from fleetq_core.clock import SystemClock
from fleetq_core.errors import ConfigError
from fleetq_core.model import Outcome, Status
from fleetq_core.queue import DEFER_MOST_S
from fleetq_core.store import open_store
from fleetq_core.tasks import TaskRegistry
from fleetq_core.throttle import ThrottleConfig, get_or_create_throttle
from fleetq_core.worker.executor import Executor
from tests.pods.conftest import drained
from tests.support.stores import FaultyStore
from tests.support.waiting import eventually

StartPod = Callable[..., Pod]


class Refused(Exception):
    """What a client library raises for HTTP 429."""

    def __init__(self, **headers: str) -> None:
        super().__init__("429 slow down")
        self.response = SimpleNamespace(status_code=429, headers=headers)


# -- what asks for it -------------------------------------------------------------------------------------------------


class Rig:
    """An executor of one slot; `run` gives the outcome of a step of the task `t`."""

    def __init__(self, queue: Queue, tasks: TaskRegistry) -> None:
        self.tasks, self.shut = tasks, threading.Event()
        self._outcomes: queues.SimpleQueue[Outcome] = queues.SimpleQueue()
        self.executor = Executor(
            queue, tasks, SystemClock(), capacity=1, may_start=lambda: True, on_outcome=self._outcomes.put,
            on_room=lambda: None, on_deadline=lambda: None, on_shut=self.shut.set,
        )  # fmt: skip
        self.executor.start()

    def run(self, deferrals: int = 0) -> Outcome:
        self.executor.offer([Step("a", {"task_type": "t"}, 0, 0, "token", "pod-a", deferrals=deferrals)])
        return self._outcomes.get(timeout=10)


@pytest.fixture
def rig(queue: Queue, tasks: TaskRegistry) -> Iterator[Rig]:
    made = Rig(queue, tasks)
    yield made
    made.executor.stop()


def raising(error: BaseException, *, is_async: bool) -> Callable[[Step], Any]:
    def handler(step: Step) -> None:
        raise error

    async def async_handler(step: Step) -> None:
        await asyncio.sleep(0)
        raise error

    return async_handler if is_async else handler


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("error", "reason", "delay_s"),
    [
        (Throttled("quota is used up", 7.5), "quota is used up", 7.5),
        (Throttled("for a year", 3e7), "for a year", 86_400.0),
        (Refused(**{"Retry-After": "12"}), "Refused: 429 slow down", 12.0),
        (ThrottleTimeout("no slot came free"), "no slot came free", None),
        (Refused(), "Refused: 429 slow down", None),
        (Throttled("nonsense", math.nan), "nonsense", None),
    ],
)
def test_these_hand_the_step_back(
    rig: Rig, error: BaseException, reason: str, delay_s: float | None, is_async: bool
) -> None:
    rig.tasks.task("t", throttle="api")(raising(error, is_async=is_async))
    outcome = rig.run()
    assert (outcome.status, outcome.error, outcome.step_id, outcome.claim_token) == (
        Status.PENDING, reason, "a", "token",
    )  # fmt: skip
    if delay_s is None:
        assert 0.0 <= outcome.retry_delay_s <= 1.0  # the first window
    else:
        assert outcome.retry_delay_s == delay_s


def test_a_handler_hands_its_own_step_back(rig: Rig) -> None:
    rig.tasks.task("t")(lambda step: step.defer(3, "not yet"))
    assert (rig.run().retry_delay_s, rig.run().error) == (3.0, "not yet")


def test_the_wait_grows_with_the_deferrals_and_is_bounded(rig: Rig) -> None:
    rig.tasks.task("t")(lambda step: step.defer())
    waits = [rig.run(deferrals=1000).retry_delay_s for _ in range(30)]
    assert 1.0 < max(waits) <= DEFER_MOST_S


@pytest.mark.parametrize("error", [Refused(), TerminalError("no such model"), ValueError("wrong")])
def test_these_are_failures_all_the_same(rig: Rig, error: Exception) -> None:
    throttle = None if isinstance(error, Refused) else "api"
    rig.tasks.task("t", throttle=throttle)(raising(error, is_async=False))
    outcome = rig.run()
    assert outcome.status is Status.FAILED
    assert (outcome.retry_delay_s is None) == isinstance(error, TerminalError)


def test_a_full_throttle_hands_the_step_back(rig: Rig) -> None:
    throttle = get_or_create_throttle("api", ThrottleConfig(initial_limit=1))

    @rig.tasks.task("t")
    def call(step: Step) -> None:
        with throttle.acquire_sync(timeout_s=0.0):
            raise AssertionError("there is no slot")

    with throttle.acquire_sync():
        outcome = rig.run()
    assert (outcome.status, "no slot came free in time" in outcome.error) == (Status.PENDING, True)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 86_401, True, "5"])
def test_a_wait_that_makes_no_sense_is_named(seconds: Any) -> None:
    step = Step("a", {"task_type": "t"}, 0, 0, "token", "pod-a")
    with pytest.raises(ValueError, match=r"step\.defer\(.*\): must be a number of seconds from 0 to 86,400"):
        step.defer(seconds)


@pytest.mark.parametrize("throttle", ["", "  ", 3])
def test_a_throttle_needs_a_name(tasks: TaskRegistry, throttle: Any) -> None:
    with pytest.raises(ConfigError, match="must be the name of a throttle"):
        tasks.task("t", throttle=throttle)


def test_a_buffered_step_whose_throttle_has_shut_is_not_started(rig: Rig) -> None:
    started: list[Step] = []
    rig.tasks.task("t", throttle="api")(started.append)
    get_or_create_throttle("api").pause(1000)
    step = Step("a", {"task_type": "t"}, 0, 0, "token", "pod-a")
    rig.executor.offer([step])
    assert rig.shut.wait(10)
    assert rig.executor.take_shut_out() == [step]
    assert (started, rig.executor.load(), rig.executor.take_back()) == ([], (0, 0), [])


def test_a_stopping_pod_takes_back_what_was_shut_out(rig: Rig) -> None:
    rig.tasks.task("t", throttle="api")(print)
    get_or_create_throttle("api").pause(1000)
    steps = [Step(x, {"task_type": "t"}, 0, 0, "token", "pod-a") for x in "ab"]
    rig.executor.offer(steps)
    eventually(lambda: len(rig.executor._shut_out) == 2)
    assert rig.executor.drop_unless({("b", "token")}) == [steps[0]]
    assert rig.executor.take_back() == [steps[1]]


# -- in a pod ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
def test_ten_deferrals_use_no_retry(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry, is_async: bool
) -> None:
    def handler(step: Step) -> int:
        if step.deferrals < 10:
            step.defer(0, f"deferral {step.deferrals}")
        return step.deferrals

    async def async_handler(step: Step) -> int:
        return handler(step)

    tasks.task("later")(async_handler if is_async else handler)
    pod = start_pod(max_retries=0)
    record = live_queue.wait(live_queue.submit_step({"task_type": "later"}), 20)
    assert (record.status, record.result, record.deferrals) == (Status.COMPLETED, 10, 10)
    assert (record.retry_count, record.history, record.error) == (0, [], None)
    eventually(lambda: pod.meta()["completed"] == 1)
    assert (pod.meta()["deferred"], pod.meta()["failed"], pod.meta()["stale_refused"]) == (10, 0, 0)


def test_a_step_comes_back_when_it_is_due_not_at_the_next_look(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry
) -> None:
    @tasks.task("later")
    def later(step: Step) -> str:
        return "done" if step.deferrals else step.defer(0.2, "a little later")

    start_pod(claim_interval=60.0)
    assert live_queue.wait(live_queue.submit_step({"task_type": "later"}), 20).result == "done"


def test_while_it_waits_it_says_why_and_until_when(start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry) -> None:
    tasks.task("later")(lambda step: step.defer(600, "the quota is used up"))
    pod = start_pod()
    step_id = live_queue.submit_step({"task_type": "later"})
    eventually(lambda: live_queue.stats().deferred)
    record = live_queue.get_step(step_id)
    assert (record.status, record.error, record.claimed_by) == (Status.PENDING, "the quota is used up", None)
    assert 590 < record.due_ts - live_queue.store.now() <= 600
    eventually(lambda: pod.meta()["deferred"] == 1)
    assert pod.meta()["running_count"] == 0


def test_a_shut_throttle_holds_no_slot_and_no_other_work(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry
) -> None:
    throttle = get_or_create_throttle("bedrock")
    tasks.task("call", throttle="bedrock")(lambda step: "called")
    tasks.task("fine")(lambda step: "fine")
    throttle.pause(1000)
    calls = live_queue.submit_steps([{"task_type": "call"}] * 300)  # more than a claim looks at, and all in front
    pod = start_pod()
    others = live_queue.submit_steps([{"task_type": "fine"}] * 20)
    for step_id in others:
        assert live_queue.wait(step_id, 20).result == "fine"
    assert {r.status for r in live_queue.store.get_steps(calls)} == {Status.PENDING}
    assert (pod.meta()["running_count"], pod.meta()["buffered"], live_queue.stats().claimed) == (0, 0, 0)
    throttle.reset()
    drained(live_queue)
    assert {(r.result, r.deferrals, r.retry_count) for r in live_queue.store.get_steps(calls)} == {("called", 0, 0)}


def test_no_more_steps_run_than_the_throttle_lets_through(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry
) -> None:
    get_or_create_throttle("bedrock", ThrottleConfig(initial_limit=2))
    lock, under_way, most = threading.Lock(), 0, 0

    @tasks.task("call", throttle="bedrock")
    def call(step: Step) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        threading.Event().wait(0.01)
        with lock:
            under_way -= 1

    live_queue.submit_steps([{"task_type": "call"}] * 40)
    start_pod(max_parallelism=8)
    drained(live_queue)
    assert most == 2


def test_refusals_by_the_downstream_use_no_retry(start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry) -> None:
    throttle = get_or_create_throttle("bedrock", ThrottleConfig(initial_limit=4))
    refusals = iter(range(3))

    @tasks.task("call", throttle="bedrock")
    def call(step: Step) -> str:
        with throttle.acquire_sync(timeout_s=1):
            if next(refusals, None) is not None:
                throttle.record_throttle(0.05)
                raise Refused(**{"Retry-After": "0.05"})
            throttle.record_success()
        return "answered"

    start_pod(max_retries=0)
    ids = live_queue.submit_steps([{"task_type": "call"}] * 6)
    drained(live_queue)
    records = live_queue.store.get_steps(ids)
    assert {(r.result, r.retry_count) for r in records} == {("answered", 0)}
    assert sum(r.deferrals for r in records) == 3


def test_a_deferral_waits_in_the_outbox_while_the_store_is_away(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry, fast_config: Callable[..., Any]
) -> None:
    away = threading.Event()

    def lost(name: str) -> bool:
        return away.is_set() and name == "settle_steps"

    @tasks.task("later")
    def later(step: Step) -> str:
        return "done" if step.deferrals else step.defer(0, "the store is away")

    pod = start_pod(
        lambda: FaultyStore(open_store(fast_config()), lost, lambda _: False), dead_pod_threshold=60.0, max_retries=0
    )
    away.set()
    step_id = live_queue.submit_step({"task_type": "later"})
    assert eventually(lambda: pod.meta()["outbox"]) == 1
    assert live_queue.get_step(step_id).deferrals == 0
    away.clear()
    record = live_queue.wait(step_id, 20)
    assert (record.result, record.deferrals, record.retry_count) == ("done", 1, 0)


def test_a_deferral_whose_reply_is_lost_is_counted_once(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry, fast_config: Callable[..., Any]
) -> None:
    once = iter(["settle_steps"])

    def lost(name: str) -> bool:
        return name == "settle_steps" and next(once, None) is not None

    tasks.task("later")(lambda step: step.defer(600))
    pod = start_pod(
        lambda: FaultyStore(open_store(fast_config()), lambda _: False, lost), dead_pod_threshold=60.0, max_retries=0
    )
    step_id = live_queue.submit_step({"task_type": "later"})
    eventually(lambda: pod.meta()["deferred"] == 1)
    assert (live_queue.get_step(step_id).deferrals, pod.meta()["stale_refused"]) == (1, 0)


def test_a_step_whose_claim_was_lost_is_not_deferred(
    start_pod: StartPod, live_queue: Queue, tasks: TaskRegistry
) -> None:
    running, let_go = threading.Event(), threading.Event()
    seen: list[Step] = []

    @tasks.task("later")
    def later(step: Step) -> str:
        seen.append(step)
        if len(seen) == 1:
            running.set()
            let_go.wait(20)
            step.defer(600, "by the first claim")
        return "the second claim"

    pod = start_pod()
    step_id = live_queue.submit_step({"task_type": "later"})
    assert running.wait(20)
    live_queue.release_steps(seen)  # as if it had been taken from a dead pod
    assert live_queue.wait(step_id, 20).result == "the second claim"
    let_go.set()
    eventually(lambda: pod.meta()["stale_refused"] == 1)
    record = live_queue.get_step(step_id)
    assert (record.status, record.deferrals, record.due_ts) == (Status.COMPLETED, 0, None)
