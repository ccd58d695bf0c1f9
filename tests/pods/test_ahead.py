"""How much a pod holds in advance: enough to hide a slow store, and no more than it will soon run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fleetq_core.clock import SystemClock
from fleetq_core.config import Config
from fleetq_core.errors import StoreUnavailable
from fleetq_core.model import ClaimedRow, Outcome, Status, Step
from fleetq_core.queue import Queue
from fleetq_core.store import Store
from fleetq_core.tasks import TaskRegistry
from fleetq_core.worker import claimer as claiming
from fleetq_core.worker import settler as settling
from fleetq_core.worker.counters import Counters
from fleetq_core.worker.executor import HICCUP_S, Executor, Run, RunStats
from fleetq_core.worker.ledger import ClaimLedger
from fleetq_core.worker.settler import Settler
from tests.pods.test_claims import Bench, Slots
from tests.support.clock import FakeClock
from tests.support.waiting import eventually

SLOTS, RUN_S, TRIP_S = 50, 0.02, 0.4
RATE = SLOTS / RUN_S


class Fast(Slots):
    """Fifty slots whose steps take 20 ms; the test says how many have ended."""

    capacity = SLOTS

    def __init__(self) -> None:
        super().__init__()
        self.stats = RunStats(mean_run_s=RUN_S)
        self.run_s = RUN_S

    def expected_run_s(self) -> float:  # type: ignore[override]
        return self.run_s

    def room(self, ahead: int) -> int:
        return self.capacity + ahead - len(self.steps)

    def load(self) -> tuple[int, int]:
        return min(SLOTS, len(self.steps)), max(0, len(self.steps) - SLOTS)


class Far(Bench):
    """A claimer whose store answers a claim after `trip_s`."""

    def __init__(self, store: Store, config: Config, clock: FakeClock) -> None:
        super().__init__(store, config, clock)
        self.slots: Fast = Fast()
        self.claimer._executor = self.slots  # type: ignore[assignment]
        self.trip_s = TRIP_S
        self.wanted: list[int] = []
        self._clock = clock
        answer = self.queue.claim_rows

        def claim(token: str, want: int, caps: Any = None) -> list[ClaimedRow]:
            self.wanted.append(want)
            self.run_out(self.trip_s)
            return answer(token, want, caps)

        self.queue.claim_rows = claim  # type: ignore[method-assign]

    def claims(self, count: int) -> list[int]:
        """Claim so often, each time after everything that was held has run."""
        for _ in range(count):
            self.slots.stats.ended += len(self.slots.steps)
            self.slots.steps.clear()
            self.claimer.run_once()
        return self.wanted

    def run_out(self, seconds: float) -> None:
        """Let all slots work on what is held for so long."""
        count = min(len(self.slots.steps), round(seconds * SLOTS / RUN_S))
        del self.slots.steps[:count]
        self.slots.stats.ended += count
        self._clock.advance(seconds)


@pytest.fixture
def far(store: Store, config: Config, clock: FakeClock) -> Far:
    return Far(store, config, clock)


def test_a_slow_store_is_hidden_by_what_runs_in_three_of_its_round_trips(far: Far) -> None:
    far.submit(fine=30_000)
    for _ in range(10):
        far.claimer.run_once()
        while far.slots.load()[1] > far.slots.low_water:
            far.run_out(0.02)
    assert far.slots.low_water == pytest.approx(1.5 * TRIP_S * RATE, rel=0.1)
    held = len(far.slots.steps)
    far.claimer.run_once()
    assert held + far.wanted[-1] == pytest.approx(SLOTS + 3 * TRIP_S * RATE, rel=0.1)
    assert far.slots.load()[1] > far.slots.low_water  # a claim that takes half as long again would do
    asked = len(far.wanted)
    assert claiming.GLANCE_S <= far.claimer.run_once() <= TRIP_S
    assert len(far.wanted) == asked


def test_claims_grow_step_by_step(far: Far) -> None:
    far.submit(fine=3_000)
    assert far.claims(3) == [SLOTS, SLOTS + 4 * SLOTS, SLOTS + min(claiming.MODEST, 4 * 5 * SLOTS)]


def test_slots_that_had_nothing_left_may_end_twice_as_many(far: Far) -> None:
    far.submit(fine=9_000)
    *_, ended_in_a_trip, wanted = far.claims(4)  # each had run before the next one came
    assert 3 * ended_in_a_trip < 0.9 * (wanted - SLOTS) <= 0.9 * 2 * 3 * ended_in_a_trip


def test_more_than_a_modest_number_is_held_only_where_as_many_have_ended(far: Far) -> None:
    """No-op steps that share one core: by what one takes alone, its slots could end 500,000 a second."""
    far.submit(fine=3_000)
    far.slots.run_s = 0.0001
    far.claims(1)
    for _ in range(3):
        far.slots.stats.ended += 40
        far.slots.steps.clear()
        far.claimer.run_once()
    assert far.wanted[-1] == SLOTS + claiming.MODEST


def test_a_store_that_answers_soon_is_asked_for_a_modest_number(far: Far) -> None:
    far.submit(fine=9_000)
    far.slots.run_s = 0.0001
    far.trip_s = claiming.SHORT_TRIP_S / 2
    assert far.claims(8)[-1] == SLOTS + claiming.MODEST


def test_large_payloads_are_held_in_small_numbers(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "MOST_HELD_BYTES", 1_000_000)
    far.submit(fine=900)
    far.queue.submit_steps([{"task_type": "fine", "text": "x" * 10_000}] * 900)
    wanted = far.claims(6)
    assert wanted[3] > 400  # the small ones
    assert wanted[5] == pytest.approx(SLOTS + 100, abs=6)  # known at once: one claim of large ones is enough


def test_waiting_for_other_pods_makes_a_claim_only_little_larger(far: Far) -> None:
    far.submit(fine=9_000)
    far.slots.run_s = 0.1  # half a thousand a second
    far.trip_s = 0.1
    alone = far.claims(5)[-1] - SLOTS
    far.trip_s = 2.0
    assert far.claims(1)[-1] - SLOTS == pytest.approx(alone, rel=0.05)  # nobody knows of the wait yet
    assert far.claims(1)[-1] - SLOTS <= 2 * 1.1 * 1.1 * alone


def test_claims_and_those_that_found_nothing_are_counted(far: Far) -> None:
    far.submit(fine=60)
    far.claims(3)
    assert (far.counters.claims, far.counters.empty_claims, far.counters.claimed) == (3, 1, 60)


# -- what a step is expected to take ----------------------------------------------------------------------------------


@pytest.fixture
def executor(queue: Queue, tasks: TaskRegistry, clock: FakeClock) -> Executor:
    return Executor(
        queue, tasks, clock, capacity=2, may_start=lambda: True, on_outcome=lambda _: None,
        on_room=lambda: None, on_deadline=lambda: None,
    )  # fmt: skip


def test_a_hiccup_does_not_make_steps_look_long_but_long_ones_do(executor: Executor, clock: FakeClock) -> None:
    executor.stats.mean_run_s = 0.01
    executor._running.add(Run(Step("a", {}, 0, 0, "t", "p"), None, clock.monotonic()))  # type: ignore[arg-type]
    clock.advance(HICCUP_S)
    assert executor.expected_run_s() == 0.01
    clock.advance(HICCUP_S)
    assert executor.expected_run_s() == pytest.approx(2 * HICCUP_S)


def test_one_bad_moment_of_all_slots_does_not_make_steps_look_long(queue: Queue, tasks: TaskRegistry) -> None:
    """The time of a step is learnt over many more steps than there are slots."""
    executor = Executor(
        queue, tasks, FakeClock(), capacity=SLOTS, may_start=lambda: True, on_outcome=lambda _: None,
        on_room=lambda: None, on_deadline=lambda: None,
    )  # fmt: skip
    run = Run(Step("a", {}, 0, 0, "t", "p"), None, 0.0)  # type: ignore[arg-type]
    for run_s in [0.01] * 500 + [0.1] * SLOTS:
        executor._next_async(run, Outcome("a", "t", Status.COMPLETED, run_s))
    assert executor.expected_run_s() == pytest.approx(0.01 + 0.09 * 0.26, rel=0.05)


# -- outcomes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def settler(queue: Queue, tmp_path: Path) -> Iterator[Settler]:
    settler = Settler(queue, ClaimLedger(), Counters(), tmp_path / "outbox", 0.0)
    yield settler
    settler.close()


def _outcome(number: int, result: str = "1") -> Outcome:
    return Outcome(f"s{number}", "t", Status.COMPLETED, 0.1, result)


def test_large_results_go_in_small_sets(settler: Settler, monkeypatch: pytest.MonkeyPatch) -> None:
    sets: list[int] = []
    monkeypatch.setattr(settler, "_write", lambda batch: sets.append(len(batch)))
    monkeypatch.setattr(settling, "SET_BYTES", 1000)
    for number, size in enumerate([400, 400, 400, 5000, 10]):
        settler.add(_outcome(number, "x" * size))
    assert settler.flush()
    assert sets == [2, 1, 1, 1]


@pytest.mark.parametrize(("most", "most_bytes"), [(3, 10**9), (10**9, 3)])
def test_a_pod_whose_outcomes_pile_up_claims_no_more(
    settler: Settler, monkeypatch: pytest.MonkeyPatch, most: int, most_bytes: int
) -> None:
    cleared = threading.Event()
    settler.on_clear = cleared.set
    monkeypatch.setattr(settler, "_write", lambda batch: None)
    monkeypatch.setattr(settling, "MOST_WAITING", most)
    monkeypatch.setattr(settling, "MOST_WAITING_BYTES", most_bytes)
    for number in range(3):
        settler.add(_outcome(number))
    assert settler.is_clear
    settler.run_once()
    assert not cleared.is_set()
    for number in range(4):
        settler.add(_outcome(number))
    assert not settler.is_clear
    settler.run_once()
    assert settler.is_clear
    assert cleared.is_set()


def test_while_the_store_is_away_what_ends_goes_to_disk_too(settler: Settler, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may die before the store is back; until then not even a try may hold the outcomes in memory."""
    on_disk: list[int] = []

    def away(batch: Sequence[Outcome]) -> None:
        on_disk.append(settler.waiting)
        raise StoreUnavailable("away")

    monkeypatch.setattr(settler, "_write", away)
    for number in range(3):
        settler.add(_outcome(number))
        with pytest.raises(StoreUnavailable):
            settler.run_once()
    assert on_disk == [0, 2, 3]
    assert [outcome.step_id for outcome in settler._outbox.peek(10)] == ["s0", "s1", "s2"]


# -- async steps that follow each other -------------------------------------------------------------------------------


@pytest.fixture
def follow(queue: Queue, tasks: TaskRegistry) -> Iterator[Callable[..., tuple[Executor, list[str]]]]:
    """An executor with one slot, and the names of the threads on which its outcomes came to be."""
    started: list[Executor] = []

    def start(may_start: Callable[[], bool]) -> tuple[Executor, list[str]]:
        ran: list[str] = []
        tasks.task("sync")(lambda step: ran.append(threading.current_thread().name))

        @tasks.task("async")
        async def wait(step: Step) -> None:
            await asyncio.sleep(0)
            ran.append(threading.current_thread().name)

        executor = Executor(
            queue, tasks, SystemClock(), capacity=1, may_start=may_start, on_outcome=lambda _: None,
            on_room=lambda: None, on_deadline=lambda: None,
        )  # fmt: skip
        executor.start()
        started.append(executor)
        return executor, ran

    yield start
    for executor in started:
        executor.stop()


def _steps(*kinds: str) -> list[Step]:
    return [Step(f"s{n}", {"task_type": kind}, 0, 0, "t", "pod-a") for n, kind in enumerate(kinds)]


def test_a_sync_step_after_an_async_one_runs_on_a_thread_of_its_own(follow: Any) -> None:
    executor, ran = follow(lambda: True)
    executor.offer(_steps("async", "async", "sync", "async"))
    eventually(lambda: len(ran) == 4)
    assert ran == ["fleetq-async", "fleetq-async", "fleetq-step-0", "fleetq-async"]


def test_an_async_step_does_not_follow_without_a_lease(follow: Any) -> None:
    leases = iter([True])
    lease = threading.Event()
    executor, ran = follow(lambda: lease.is_set() or next(leases, False))
    executor.offer(_steps("async", "async"))
    eventually(lambda: executor.stats.ended == 1)
    assert executor.load() == (0, 1)
    lease.set()
    executor.wake()
    eventually(lambda: len(ran) == 2)
