"""Faults that the simulator has found, each as the shortest story that shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fleetq_core.config import Config
from fleetq_core.errors import StoreUnavailable
from fleetq_core.model import Identity
from fleetq_core.queue import Queue
from fleetq_core.store import Store
from fleetq_core.tasks import TaskRegistry
from fleetq_core.worker.claimer import Claimer
from fleetq_core.worker.counters import Counters
from fleetq_core.worker.gates import Gates
from fleetq_core.worker.ledger import ClaimLedger
from tests.support.clock import FakeClock
from tests.support.stores import FaultyStore


class Buffer:
    """The claimer's view of an executor that never starts anything."""

    capacity, low_water = 2, 0

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def offer(self, steps: list[Any]) -> None:
        self.steps += steps

    def room(self, ahead: int) -> int:
        return self.capacity - len(self.steps)

    def load(self) -> tuple[int, int]:
        return 0, len(self.steps)

    def held_by_task(self) -> dict[str, int]:
        return {}

    def take_shut_out(self) -> list[Any]:
        return []

    def expected_run_s(self) -> None:
        return None


@pytest.fixture
def make_claimer(store: Store, config: Config, clock: FakeClock) -> Callable[..., tuple[Claimer, Buffer, ClaimLedger]]:
    def make(before: Callable[[str], bool]) -> tuple[Claimer, Buffer, ClaimLedger]:
        who = Identity("pod-a", "incarnation-a")
        store.register_pod(who, {})
        Queue(store, config).submit_step({"task_type": "work"}, step_id="a")
        buffer, ledger = Buffer(), ClaimLedger()
        queue = Queue(FaultyStore(store, before, lambda _: False), config, who)  # type: ignore[arg-type]
        gates = Gates(TaskRegistry())
        claimer = Claimer(queue, buffer, ledger, Counters(), config, clock, lambda: True, gates)  # type: ignore[arg-type]
        return claimer, buffer, ledger

    return make


def test_a_release_that_fails_leaves_no_claim_that_nobody_gives_back(make_claimer: Any) -> None:
    # The steps have left the buffer, so the ledger must not go on vouching for them at every beat (seed 211).
    claimer, buffer, ledger = make_claimer(lambda name: name == "release_steps")
    claimer.run_once()
    with pytest.raises(StoreUnavailable):
        claimer.release(buffer.steps)
    assert ledger.tokens() == set()


def test_a_claim_whose_reply_took_longer_than_the_lease_is_not_offered(
    make_claimer: Any, clock: FakeClock, config: Config
) -> None:
    # Meanwhile the pod may have died, been robbed and beaten again: its lease is good, the claim is not (seed 215).
    def slow(name: str) -> bool:
        if name == "claim_steps":
            clock.advance(config.lease_margin_s)
        return False

    claimer, buffer, ledger = make_claimer(slow)
    claimer.run_once()
    assert buffer.steps == []
    assert ledger.tokens() == set()
