"""The claim loop and throttles: how much it asks for, when it looks again, what it gives back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from fleetq_core.config import Config
from fleetq_core.model import Identity, Status, Step
from fleetq_core.queue import Queue
from fleetq_core.store import Store
from fleetq_core.tasks import TaskRegistry
from fleetq_core.throttle import AdaptiveThrottle, ThrottleConfig
from fleetq_core.worker.claimer import DUE_MARGIN_S, Claimer
from fleetq_core.worker.counters import Counters
from fleetq_core.worker.gates import HELD_LOOK_S, Gates
from fleetq_core.worker.ledger import ClaimLedger
from tests.support.clock import FakeClock


class Slots:
    """The claimer's view of an executor with six slots; what is offered runs until the test ends it."""

    capacity, low_water = 6, 0

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.shut_out: list[Step] = []

    def offer(self, steps: list[Step]) -> None:
        self.steps += steps

    def room(self, ahead: int) -> int:
        return self.capacity - len(self.steps)

    def load(self) -> tuple[int, int]:
        return len(self.steps), 0

    def held_by_task(self) -> Counter[str]:
        return Counter(step.task_type for step in self.steps)

    def take_shut_out(self) -> list[Step]:
        steps, self.shut_out = self.shut_out, []
        return steps

    def take_back(self, older_than_s: float = 0.0) -> list[Step]:
        return []

    def expected_run_s(self) -> None:
        return None


class Bench:
    """A claimer between a real store and slots of its own; the tasks `call` and `ask` share the throttle `api`."""

    def __init__(self, store: Store, config: Config, clock: FakeClock) -> None:
        self.config, self.store = config, store
        self.throttle = AdaptiveThrottle("api", ThrottleConfig(initial_limit=2), clock=clock)
        self.made = {"api": self.throttle}
        tasks = TaskRegistry()
        tasks.task("fine")(print)
        for name in ("call", "ask"):
            tasks.task(name, throttle="api")(print)
        who = Identity("pod-a", "incarnation-a")
        store.register_pod(who, {})
        self.queue, self.slots = Queue(store, config, who), Slots()
        self.counters = Counters()
        self.claimer = Claimer(
            self.queue, self.slots, ClaimLedger(), self.counters, config, clock, lambda: True,  # type: ignore[arg-type]
            Gates(tasks, lambda: self.made),
        )  # fmt: skip

    def submit(self, **counts: int) -> None:
        for task_type, count in counts.items():
            self.queue.submit_steps([{"task_type": task_type}] * count)

    def held(self) -> dict[str, int]:
        return dict(self.slots.held_by_task())

    def is_a_pause(self, seconds: float) -> bool:
        return 0.8 * self.config.claim_interval <= seconds <= 1.2 * self.config.claim_interval


@pytest.fixture
def bench(store: Store, config: Config, clock: FakeClock) -> Bench:
    return Bench(store, config, clock)


def test_no_more_is_claimed_than_the_throttle_has_slots_for(bench: Bench) -> None:
    bench.submit(call=5)
    assert bench.claimer.run_once() == 0.0
    assert bench.is_a_pause(bench.claimer.run_once())  # nothing more to find: the type is at its cap
    assert (bench.held(), bench.claimer.hungry) == ({"call": 2}, True)
    del bench.slots.steps[0]
    bench.claimer.run_once()
    assert bench.held() == {"call": 2}
    assert bench.queue.stats().claimed == 3  # the one that ended is not settled here


def test_what_a_cap_hid_is_claimed_at_once(bench: Bench) -> None:
    bench.submit(call=300, fine=9)
    assert bench.claimer.run_once() == 0.0
    assert bench.held() == {"call": 2}
    bench.claimer.run_once()
    assert bench.held() == {"call": 2, "fine": 4}


def test_a_shut_throttle_holds_its_type_back_and_no_other(bench: Bench) -> None:
    bench.submit(call=9, fine=2)
    bench.throttle.pause(3.0)
    opens_in_s = bench.throttle.opens_in_s()
    assert bench.claimer.run_once() == opens_in_s < bench.config.claim_interval
    assert (bench.held(), bench.claimer.hungry) == ({"fine": 2}, True)


def test_without_a_cap_reached_a_freed_slot_need_not_claim(bench: Bench) -> None:
    bench.submit(call=1, fine=2)
    assert bench.is_a_pause(bench.claimer.run_once())
    assert (bench.held(), bench.claimer.hungry) == ({"call": 1, "fine": 2}, False)


def test_a_throttle_that_nobody_has_made_holds_nothing_back(bench: Bench) -> None:
    bench.made.clear()
    bench.submit(call=9)
    assert bench.claimer.run_once() == 0.0
    assert bench.held() == {"call": 6}


def test_types_that_share_a_throttle_share_its_slots(bench: Bench) -> None:
    bench.submit(call=3, ask=3)
    bench.claimer.run_once()
    assert sum(bench.held().values()) == 2
    assert bench.counters.released == 2
    assert bench.queue.stats().by_status() == {"pending": 4, "claimed": 2, "completed": 0, "failed": 0}
    bench.claimer.run_once()
    assert sum(bench.held().values()) == 2


def test_slots_held_by_refused_calls_are_looked_at_again_soon(bench: Bench) -> None:
    for _ in range(3):  # down to one slot, and that is held by the last refusal
        if (permit := bench.throttle.try_acquire()) is not None:
            with permit:
                bench.throttle.record_throttle()
    assert (bench.throttle.slots(), bench.throttle.opens_in_s()) == (0, None)
    bench.submit(call=1)
    assert bench.claimer.run_once() == HELD_LOOK_S


def test_it_looks_again_when_a_step_it_handed_back_is_due(bench: Bench, clock: FakeClock) -> None:
    bench.claimer.expect([2.0, 0.5])
    assert bench.claimer.run_once() == pytest.approx(0.5 + DUE_MARGIN_S)
    clock.advance(0.6)
    assert bench.claimer.run_once() == pytest.approx(1.4 + DUE_MARGIN_S)
    clock.advance(1.5)
    assert bench.is_a_pause(bench.claimer.run_once())


def test_the_due_times_it_keeps_are_bounded(bench: Bench) -> None:
    bench.claimer.expect([float(n) for n in range(5000, 0, -1)])
    assert len(bench.claimer._due) == 1000
    assert bench.claimer.run_once() == pytest.approx(1.0 + DUE_MARGIN_S)


def test_steps_that_were_shut_out_are_given_back_without_a_retry(bench: Bench, make_config: Callable[..., Any]) -> None:
    bench.submit(call=2)
    bench.claimer.run_once()
    bench.slots.shut_out, bench.slots.steps = bench.slots.steps, []
    bench.throttle.pause(3.0)
    bench.claimer.run_once()
    assert bench.held() == {}
    assert {(r.status, r.retry_count) for r in bench.queue.find_steps()} == {(Status.PENDING, 0)}
