"""A pod with nothing to do falls silent, and comes back when there is something."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from fleetq_core import Pod, Queue
from fleetq_core.config import Config
from fleetq_core.errors import StoreUnavailable
from fleetq_core.model import Identity, IdleLook, PodRecord, StepRow, hearing
from fleetq_core.rest import AT_REST_S, LYING_DOWN_S, Rest
from fleetq_core.store import Store
from fleetq_core.store.metered import meter_of
from fleetq_core.tasks import TaskRegistry
from fleetq_core.worker.claimer import Claimer
from tests.pods.conftest import drained
from tests.pods.test_claims import Bench
from tests.support.clock import FakeClock
from tests.support.waiting import eventually

RESTS = {"rest_after": 0.3, "claim_interval": 0.05, "idle_interval": 0.1, "recovery_interval": 0.05}


# -- the rule ---------------------------------------------------------------------------------------------------------


class Bed:
    """A Rest whose pod and store are played by the test."""

    def __init__(self, clock: FakeClock, after_s: float = 10.0) -> None:
        self.clock, self.seen, self.claims = clock, IdleLook(False, None, 1.0), 0
        self.free, self.work, self.lain_down, self.woken, self.beats = True, 0, 0, 0, 0
        self.failure: Exception | None = None
        self.rest = Rest(
            self, clock, after_s,  # type: ignore[arg-type]
            is_free=lambda: self.free, worked=lambda: self.work, lie_down=self._lie_down, wake_up=self._wake_up,
            pause_s=lambda: 7.0,
        )  # fmt: skip

    def idle_look(self) -> IdleLook:
        return self.seen

    def _lie_down(self) -> None:
        assert self.rest.resting  # the last beat publishes it
        if self.failure:
            raise self.failure
        self.lain_down += 1

    def _wake_up(self) -> None:
        self.woken += 1

    def _claim(self) -> float:
        self.claims += 1
        return 5.0

    def _beat(self) -> float:
        self.beats += 1
        return 1.0

    def turn(self, seconds: float = 0.0) -> tuple[float, float]:
        """Time passes, then the claim loop and the heartbeat loop have their turns; what each waits for."""
        self.clock.advance(seconds)
        return self.rest.claiming(self._claim), self.rest.beating(self._beat)

    def lie(self) -> None:
        self.turn()
        self.turn(10.0)
        assert self.rest.resting


@pytest.fixture
def bed(clock: FakeClock) -> Bed:
    return Bed(clock)


def test_a_pod_rests_once_it_was_idle_for_so_long(bed: Bed) -> None:
    assert bed.turn() == (5.0, 1.0)
    assert bed.turn(9.0) == (5.0, 1.0)
    assert not bed.rest.resting
    assert bed.turn(1.0) == (5.0, AT_REST_S)
    assert (bed.rest.resting, bed.lain_down, bed.claims, bed.beats) == (True, 1, 3, 3)
    assert bed.turn(100.0) == (7.0, AT_REST_S)
    assert (bed.claims, bed.beats, bed.lain_down) == (3, 3, 1)


def test_without_the_setting_it_never_rests(clock: FakeClock) -> None:
    bed = Bed(clock, after_s=0.0)
    for _ in range(3):
        bed.turn(10_000.0)
    assert (bed.rest.resting, bed.beats) == (False, 3)


def test_time_counts_from_the_last_work(bed: Bed) -> None:
    bed.turn()
    bed.work += 1  # a step so short that the pod is free again already
    bed.turn(9.0)
    bed.turn(9.0)
    assert not bed.rest.resting
    bed.turn(10.0)
    assert bed.rest.resting


def test_a_pod_that_holds_a_step_does_not_rest(bed: Bed) -> None:
    bed.free = False
    for _ in range(3):
        bed.turn(100.0)
    assert not bed.rest.resting


def test_a_step_that_came_since_the_last_look_keeps_it_up(bed: Bed) -> None:
    bed.turn()
    bed.clock.advance(10.0)
    bed.free = False
    bed.rest.beating(bed._beat)
    assert not bed.rest.resting


def test_while_others_work_it_stays_up_for_them(bed: Bed) -> None:
    bed.seen = IdleLook(True, None, 1.0)
    for _ in range(5):
        bed.turn(100.0)
    assert not bed.rest.resting
    bed.seen = IdleLook(False, None, 1.0)
    bed.lie()


def test_it_does_not_lie_down_while_a_claim_is_on_its_way(bed: Bed) -> None:
    bed.turn()
    bed.clock.advance(100.0)

    def claim() -> float:
        assert bed.rest.beating(bed._beat) == 1.0
        assert not bed.rest.resting
        return 5.0

    assert bed.rest.claiming(claim) == 5.0
    assert bed.lain_down == 0


def test_it_claims_nothing_while_it_lies_down(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(bed.rest, "_lie_down", lambda: waits.append(bed.rest.claiming(bed._claim)))
    bed.turn()
    bed.turn(10.0)
    assert (bed.claims, waits) == (2, [LYING_DOWN_S])


def test_a_pod_that_cannot_say_so_does_not_rest(bed: Bed) -> None:
    bed.failure = StoreUnavailable("away")
    bed.turn()
    with pytest.raises(StoreUnavailable):
        bed.turn(10.0)
    assert not bed.rest.resting
    bed.failure = None
    assert bed.rest.beating(bed._beat) == AT_REST_S


@pytest.mark.parametrize("seen", [IdleLook(True, None, 1.0), IdleLook(False, 5.0, 1.0)], ids=["a step", "a command"])
def test_a_step_or_a_command_wakes_it(bed: Bed, seen: IdleLook) -> None:
    bed.lie()
    assert bed.turn(60.0) == (7.0, AT_REST_S)
    bed.seen = seen
    claims = bed.claims
    assert bed.rest.claiming(bed._claim) == 7.0
    assert (bed.woken, bed.rest.resting, bed.claims) == (1, False, claims)
    assert bed.turn(9.0) == (5.0, 1.0)
    assert bed.claims == claims + 1


def test_others_who_beat_do_not_wake_it(bed: Bed) -> None:
    bed.lie()
    bed.seen = IdleLook(False, None, 2.0)
    assert bed.turn(60.0) == (7.0, AT_REST_S)


def test_an_old_command_does_not_keep_it_awake(bed: Bed) -> None:
    bed.seen = IdleLook(False, 5.0, 1.0)
    bed.lie()
    assert bed.turn(60.0) == (7.0, AT_REST_S)
    assert bed.woken == 0


# -- looking less often -----------------------------------------------------------------------------------------------


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetq_core.worker.claimer.jittered", lambda seconds: seconds)


def waits(store: Store, config: Config, clock: FakeClock, looks: int) -> tuple[Claimer, list[float]]:
    claimer = Bench(store, config, clock).claimer
    return claimer, [claimer.run_once() for _ in range(looks)]


@pytest.mark.usefixtures("steady")
def test_looks_in_vain_come_less_and_less_often(store: Store, make_config: Any, clock: FakeClock) -> None:
    config = make_config(claim_interval=5.0, idle_interval=30.0)
    claimer, found = waits(store, config, clock, 5)
    assert found == [5.0, 10.0, 20.0, 30.0, 30.0]
    store.insert_steps([StepRow("s0", "fine", '{"task_type":"fine"}', 0, None)])
    assert [claimer.run_once() for _ in range(3)] == [5.0, 10.0, 20.0]


@pytest.mark.usefixtures("steady")
def test_they_do_not_widen_unless_told_to(store: Store, config: Config, clock: FakeClock) -> None:
    assert waits(store, config, clock, 4)[1] == [5.0] * 4


def test_who_rests_hears_commands_and_who_has_stopped_does_not() -> None:
    def pod(name: str, status: str, state: str, age_s: float = 0.0, may_lead: bool = True) -> PodRecord:
        return PodRecord(name, name, status, 0.0, 1000.0 - age_s, may_lead, {"state": state})

    pods = [
        pod("alive", "up", "running"), pod("resting", "down", "resting", 5000.0), pod("stopped", "down", "stopping"),
        pod("dead", "up", "running", 5000.0), pod("client", "up", "running", may_lead=False),
    ]  # fmt: skip
    assert [p.pod_id for p in hearing(pods, 1000.0, 60.0)] == ["alive", "resting"]
    assert [p.pod_id for p in pods if p.rests] == ["resting"]


# -- a real pod -------------------------------------------------------------------------------------------------------


def row(queue: Queue, pod_id: str = "pod-a") -> PodRecord:
    return next(pod for pod in queue.store.list_pods() if pod.pod_id == pod_id)


@pytest.fixture
def resting(start_pod: Callable[..., Pod], tasks: TaskRegistry, live_queue: Queue) -> Pod:
    """A pod that rests, with a handler `work`."""
    tasks.task("work")(lambda step: step.pod_id)
    pod = start_pod(**RESTS)
    eventually(lambda: pod.state == "resting")
    return pod


def test_a_resting_pod_is_down_and_asks_nothing_but_whether_it_is_wanted(resting: Pod, live_queue: Queue) -> None:
    eventually(lambda: row(live_queue).rests)
    assert (resting.leads, resting.lease.is_valid()) == (False, False)
    meter = meter_of(resting._stores[0])
    assert meter is not None
    before = {kind: figures.cumulative[-1] for kind, figures in meter.read().items()}
    eventually(lambda: meter.read()["rest"].cumulative[-1] >= before["rest"] + 5)
    after = {kind: figures.cumulative[-1] for kind, figures in meter.read().items()}
    assert {kind for kind in after if after[kind] > before[kind]} == {"rest"}


def test_a_step_wakes_it_and_is_done(resting: Pod, live_queue: Queue) -> None:
    step_id = live_queue.submit_step({"task_type": "work"})
    assert live_queue.wait(step_id, 10).result == "pod-a"
    eventually(lambda: resting.state == "resting" and row(live_queue).rests)
    assert resting.counters.unknown_released == 0


def test_a_command_is_heard_by_all_who_rest(resting: Pod, live_queue: Queue, start_pod: Callable[..., Pod]) -> None:
    start_pod(**RESTS, pod_id="pod-b")
    eventually(lambda: row(live_queue).rests and row(live_queue, "pod-b").rests)
    record = live_queue.ask("pause", "*", by="me", timeout_s=10)
    assert {(answer.pod_id, answer.ok) for answer in record.answers} == {("pod-a", True), ("pod-b", True)}


def test_a_resting_leader_is_replaced_by_who_works_and_comes_back(
    resting: Pod, live_queue: Queue, start_pod: Callable[..., Pod], tasks: TaskRegistry
) -> None:
    goes_on = threading.Event()
    tasks.task("slow")(lambda _: goes_on.wait(20))
    other = start_pod(pod_id="pod-b")
    eventually(lambda: other.leads)
    live_queue.submit_steps([{"task_type": "slow"}] * 2)
    eventually(lambda: resting.state == "running" and resting.leads)  # it is the older one
    goes_on.set()
    drained(live_queue)


def test_what_a_dead_pod_held_keeps_the_others_up(
    live_queue: Queue, start_pod: Callable[..., Pod], tasks: TaskRegistry
) -> None:
    tasks.task("work")(lambda step: step.pod_id)
    dead = Identity("gone", "gone-1", may_lead=False)
    live_queue.store.register_pod(dead, {})
    step_id = live_queue.submit_step({"task_type": "work"})
    assert live_queue.store.claim_steps(dead, "t", 1, 60.0)
    pod = start_pod(**RESTS | {"rest_after": 0.05})
    done = live_queue.wait(step_id, 15)  # recovered after the threshold, by a pod that had nothing else to do
    assert (done.result, done.retry_count) == ("pod-a", 1)
    eventually(lambda: pod.state == "resting")
