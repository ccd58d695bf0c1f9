"""One history: a fleet, its work and its faults from a seed, then a quiet time, then the questions at the end."""

from __future__ import annotations

import logging
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fleetq_core.errors import StoreUnavailable
from fleetq_core.model import NewStep, Status, StepFilter
from fleetq_core.queue import Queue
from fleetq_core.store.sqlite import SqliteStore
from tests.simulation.world import FaultStore, World, empty, watch_moves
from tests.support.clock import FakeClock

TROUBLE_S = 240.0
DRAIN_S = 4000.0  # poison among slow steps on a small fleet takes its time
PROMPT_S = 270.0  # the last freeze, a threshold, a hold-off and two recovery intervals
SOMETIMES = (
    "stale completion refused", "claim found again after a lost reply", "claim released as unknown",
    "pod killed holding work", "leader killed", "two pods believing they lead", "start refused by self-fencing",
    "outbox replayed", "poison step ended failed", "idempotent submit", "hold-off used",
    "step handed back", "step shut out by its throttle", "claim within a cap", "type shut out of a claim",
    "pod lay down to rest", "resting pod woke up",
)  # fmt: skip


@dataclass(slots=True)
class Ended:
    """What came of one history."""

    seed: int
    violations: list[str]
    seen: Counter[str] = field(default_factory=Counter)
    virtual_s: float = 0.0


class Simulator:
    """Plays histories on one file that it empties in between."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clock = FakeClock()
        self._base = SqliteStore(folder / "fleetq.db", self._clock, synchronous="NORMAL")
        self._base.create_schema()

    def play(self, seed: int) -> Ended:
        empty(self._base)
        clock = FakeClock()
        self._base._clock = clock
        data = Path(tempfile.mkdtemp(dir=self._folder))
        state = random.getstate()
        random.seed(seed)  # the jitter of the code under test
        world = World(self._base, clock, data, seed)
        watch_moves(self._base, world.model.moved)
        try:
            return History(world, seed).play()
        finally:
            random.setstate(state)
            for pod in list(world.pods):
                world.bury(pod)
            shutil.rmtree(data)

    def close(self) -> None:
        self._base.close()


@contextmanager
def simulator() -> Iterator[Simulator]:
    """A simulator on a file in memory, where there is such a disk; the logs of a thousand dying pods are not kept."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="fleetq-sim-", dir=memory) as folder:
        made = Simulator(Path(folder))
        try:
            yield made
        finally:
            made.close()
            logging.disable(logging.NOTSET)


class History:
    """Schedules what people and fate do to a world, and judges the end."""

    def __init__(self, world: World, seed: int) -> None:
        self._world, self._rng, self._seed = world, world.rng, seed
        self._client = Queue(FaultStore(world, None), world.config)  # type: ignore[arg-type]
        self._acknowledged: set[str] = set()
        self._tried: set[str] = set()
        self._poison: set[str] = set()
        self._quiet_from = 0.0

    def play(self) -> Ended:
        world, rng = self._world, self._rng
        for number in range(rng.randint(2, 4)):
            world.at(rng.uniform(0, 5), None, partial(world.start, f"pod-{number}"))
        for number in range(rng.randint(2, 5)):
            self._sometime(partial(self._submit, self._steps(number)))
        for _ in range(rng.randint(2, 5)):
            self._sometime(self._fate)
        for _ in range(rng.randint(0, 3)):
            self._sometime(self._operate)
        if self._seed % 3 == 0:
            self._sometime(self._freeze_a_full_buffer)
        world.run(TROUBLE_S)
        world.faults = False
        world.away.clear()
        self._retrying(lambda: self._client.order("resume", "*", by="history"))
        self._look_after_orphans()
        drained = world.run(DRAIN_S, self._is_quiet)
        if not drained:
            world.model.wrong(f"I13/I15: not quiet {DRAIN_S:g} s after the last fault: {self._state()}")
        self._judge()
        seen = world.seen
        for pod in world.pods:
            seen["stale completion refused"] += pod.counters.stale_refused
            seen["claim released as unknown"] += pod.counters.unknown_released
        return Ended(self._seed, list(world.model.violations), Counter(seen), world.now - 1000.0)

    def _sometime(self, action: Callable[[], Any]) -> None:
        self._world.at(self._rng.uniform(3.0, TROUBLE_S * 0.8), None, action)

    def _steps(self, number: int) -> list[NewStep]:
        rng, steps = self._rng, []
        seconds = rng.choice(((0.01, 0.1), (0.1, 3.0), (1.0, 40.0)))
        for index in range(rng.choice((1, 4, 12, 30))):
            kind = rng.choices(("work", "flaky", "terminal", "poison"), (75, 15, 5, 3))[0]
            step_id = f"s{number}-{index}"
            payload = {"task_type": kind, "seconds": rng.uniform(*seconds)}
            payload["fails"] = rng.randint(1, 5) if kind == "flaky" else 0
            payload["defers"] = rng.choice((0, 0, 0, 1, 2, 6))
            if kind == "poison":
                self._poison.add(step_id)
            steps.append(NewStep(payload, rng.randint(0, 2), step_id))
        return steps

    def _retrying(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except StoreUnavailable:
            self._world.at(self._rng.uniform(0.5, 5.0), None, partial(self._retrying, action))

    def _submit(self, steps: list[NewStep]) -> None:
        ids = [str(step.step_id) for step in steps]

        def submit() -> None:
            if self._tried & set(ids) and self._client.store.payloads_of(ids):
                self._world.seen["idempotent submit"] += 1
            self._tried |= set(ids)
            self._acknowledged |= set(self._client.submit_steps(steps))

        self._retrying(submit)

    def _fate(self) -> None:
        world, rng = self._world, self._rng
        if not world.faults or not world.pods:
            return
        pod = rng.choice(world.pods)
        kind = rng.choices(("kill", "freeze", "away", "all away", "stop", "twin"), (30, 25, 15, 12, 10, 8))[0]
        world.seen[f"fate: {kind}"] += 1
        if kind == "kill":
            world.kill(pod)
        elif kind == "freeze":
            world.freeze(pod, rng.uniform(3.0, 90.0))
        elif kind == "stop":
            world.stop(pod)
        elif kind == "twin":
            world.start(pod.who.pod_id)
        else:
            world.away["*" if kind == "all away" else pod.who.pod_id] = world.now + rng.uniform(2.0, 60.0)

    def _freeze_a_full_buffer(self) -> None:
        """A freeze at random seldom meets the short while in which claimed steps wait for a slot; this one does."""
        world = self._world
        full = [pod for pod in world.pods if pod.began and pod._executor.load()[1] and pod._executor.load()[0]]
        if full and world.faults:
            world.freeze(full[0], self._rng.uniform(60.0, 90.0))
        elif world.faults:
            world.at(0.05, None, self._freeze_a_full_buffer)

    def _operate(self) -> None:
        rng, client = self._rng, self._client
        ids = sorted(self._tried)
        some = rng.sample(ids, min(3, len(ids)))
        target = rng.choice([pod.who.pod_id for pod in self._world.pods] or ["*"])
        match rng.randrange(5):
            case 0:
                self._retrying(lambda: client.cancel_steps(some))
            case 1:
                self._retrying(lambda: client.requeue_steps(some))
            case 2:
                self._retrying(lambda: client.order("pause", target, by="history"))
                self._sometime(lambda: self._retrying(lambda: client.order("resume", target, by="history")))
            case 3:
                self._retrying(lambda: client.order("run_recovery", "leader", by="history"))
            case _:
                self._retrying(lambda: client.order("drain", target, by="history"))

    def _look_after_orphans(self) -> None:
        """What dead processes hold when the faults end must be free again soon, unless poison kills more of them."""
        world, killed = self._world, self._world.seen["pod killed"]
        living = {pod.who.incarnation for pod in world.pods}
        claimed = world.base.find_steps(StepFilter(status=Status.CLAIMED), 1000)
        orphans = {(r.step_id, r.claim_token) for r in claimed if r.incarnation not in living}

        def look() -> None:
            records = world.base.find_steps(StepFilter(status=Status.CLAIMED), 1000)
            late = orphans & {(r.step_id, r.claim_token) for r in records}
            if late and world.seen["pod killed"] == killed:
                world.model.wrong(
                    f"I13: {len(late)} orphans are still claimed after {PROMPT_S:g} s: {sorted(late)[:3]}"
                )

        if orphans:
            world.seen["orphans when the faults ended"] += len(orphans)
            world.at(PROMPT_S, None, look)
            self._quiet_from = world.now + PROMPT_S + 1

    def _is_quiet(self) -> bool:
        world = self._world
        if world.now < self._quiet_from:
            return False
        self._quiet_from = world.now + 2.0  # asking at each event would cost more than all the rest
        if not self._tried <= self._acknowledged or any(pod.frozen for pod in world.pods):
            return False
        stats = world.base.stats()
        if stats.pending or stats.claimed or stats.failed != stats.dead_letters:
            return False
        # What a dead pod left in its outbox waits for the next pod that starts; its steps have been done again.
        return bool(world.pods) and not any(pod.began and pod._settler.waiting for pod in world.pods)

    def _state(self) -> str:
        world = self._world
        rows = [
            (r.step_id, r.status.value, r.claimed_by)
            for r in world.base.find_steps(StepFilter(), 100)
            if not r.is_final
        ]
        pods = [(p.who.pod_id, p.state, p.frozen, sorted(p.busy)) for p in world.pods]
        return f"steps {rows[:5]}, pods {pods}, acknowledged {len(self._acknowledged)} of {len(self._tried)}"

    def _judge(self) -> None:
        world, model = self._world, self._world.model
        records = {r.step_id: r for r in world.base.find_steps(StepFilter(), 1000)}
        if lost := self._acknowledged - set(records):
            model.wrong(f"I1: acknowledged but gone: {sorted(lost)}")
        if invented := set(records) - self._tried:
            model.wrong(f"I2: nobody submitted {sorted(invented)}")
        for step_id in sorted(self._poison & set(records)):
            record = records[step_id]
            if record.status == "completed":
                model.wrong(f"I9: poison step {step_id} is completed")
            if "all 3 retries are used" in (record.error or ""):
                world.seen["poison step ended failed"] += 1
