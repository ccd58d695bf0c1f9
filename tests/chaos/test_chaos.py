"""Pods that are killed, frozen, stopped and restarted at random while work comes in: nothing is lost, nothing doubled.

FLEETQ_CHAOS_S sets how long (`make chaos`: five minutes), FLEETQ_CHAOS_SEED replays a run's faults.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleetq_core.model import Status, StepRecord
from tests.support.fleet import THRESHOLD_S, Fleet
from tests.support.waiting import eventually

DURATION_S = float(os.environ.get("FLEETQ_CHAOS_S", "15"))
SEED = int(os.environ.get("FLEETQ_CHAOS_SEED", random.randrange(10**6)))
PODS = 4
# Two busy cores and five processes: the order of lines in the log is only as good as this.
LOG_ORDER_S = 0.05

pytestmark = [pytest.mark.slow, pytest.mark.timeout(DURATION_S * 2 + 150)]


@dataclass
class Monkey:
    """Breaks pods, and remembers what it did to which."""

    fleet: Fleet
    rng: random.Random
    pods: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    frozen: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    ended: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    born: int = 0

    def start(self, pod_id: str | None = None) -> None:
        self.born += 1
        name = pod_id or f"pod-{self.born}"
        self.pods[name] = self.fleet.start(name)

    def turn(self, pause: threading.Event) -> None:
        """One random fault."""
        name = self.rng.choice(sorted(self.pods))
        act = self.rng.choices([self.kill, self.freeze, self.terminate], [4, 4, 2])[0]
        act(name, pause)

    def kill(self, name: str, _: threading.Event) -> None:
        self._end(name, signal.SIGKILL)

    def terminate(self, name: str, _: threading.Event) -> None:
        self._end(name, signal.SIGTERM)

    def _end(self, name: str, how: signal.Signals) -> None:
        self.done[how.name] += 1
        process = self.pods.pop(name)
        self.ended[name].append(time.time())
        process.send_signal(how)
        process.wait(30)
        # Under its old name it takes its row over; under a new one the old row has to be judged.
        self.start(name if self.rng.random() < 0.5 else None)

    def freeze(self, name: str, pause: threading.Event) -> None:
        self.done["SIGSTOP"] += 1
        process, since = self.pods[name], time.time()
        process.send_signal(signal.SIGSTOP)
        pause.wait(self.rng.uniform(0.3, 2.5 * THRESHOLD_S))
        process.send_signal(signal.SIGCONT)
        self.frozen[name].append((since, time.time()))

    def excuses(self, pod_id: str, start: float, finish: float) -> bool:
        """Whether `pod_id` was frozen, or told to leave, while it ran a step from `start` to `finish`."""
        stopped = any(a <= finish and b >= start - THRESHOLD_S for a, b in self.frozen[pod_id])
        return stopped or any(start <= at <= finish for at in self.ended[pod_id])


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, FLEET_Q_MAX_RETRIES="1000", FLEET_Q_STOP_GRACE="0.3", FLEET_Q_MAX_PARALLELISM="4")
    yield made
    made.close()


def test_whatever_happens_to_pods_nothing_is_lost_and_nothing_done_twice(fleet: Fleet) -> None:
    print(f"FLEETQ_CHAOS_SEED={SEED}")
    monkey, pause = Monkey(fleet, random.Random(SEED)), threading.Event()
    for _ in range(PODS):
        monkey.start()
    ids: list[str] = []
    until = time.monotonic() + DURATION_S
    while time.monotonic() < until:
        ids += fleet.submit(monkey.rng.randrange(20, 60), seconds=monkey.rng.choice([0, 0.005, 0.05, 0.4]))
        ids += fleet.submit(3, fails=2)
        monkey.turn(pause)
    eventually(fleet.drained, timeout_s=90)
    records = {record.step_id: record for record in fleet.queue.store.get_steps(ids)}
    starts = check(fleet, monkey, ids, records)
    refused = sum(pod.meta.get("stale_refused", 0) for pod in fleet.queue.store.list_pods())
    lost = sum(h["outcome"] == "lost" for record in records.values() for h in record.history)
    print(f"{dict(monkey.done)}, {len(ids)} steps, {lost} attempts lost with their pods, {refused} late results refused, "
          f"{starts / len(ids):.3f} starts a step")  # fmt: skip


def check(fleet: Fleet, monkey: Monkey, ids: list[str], records: dict[str, StepRecord]) -> int:
    """Hold the handlers' own log against the store; returns how often a handler was started."""
    assert len(records) == len(ids)
    assert {record.status for record in records.values()} == {Status.COMPLETED}
    starts, finishes = fleet.lines("start"), {(line[1], line[2]): line for line in fleet.lines("finish")}
    twice = [key for key, count in Counter((line[1], line[2]) for line in starts).items() if count > 1]
    assert twice == [], "a claim ran twice"
    for record in records.values():
        assert (record.step_id, record.claim_token) in finishes, "completed by a claim whose handler did not finish"
        assert record.retry_count == sum(h["outcome"] in ("lost", "failed") for h in record.history)
    runs: dict[str, list[list[str]]] = defaultdict(list)
    for line in starts:
        runs[line[1]].append(line)
    for attempts in runs.values():
        attempts.sort(key=lambda line: float(line[5]))
        for first, second in itertools.pairwise(attempts):
            end = finishes.get((first[1], first[2]))
            if end is not None and float(end[5]) > float(second[5]) + LOG_ORDER_S:
                assert monkey.excuses(first[3], float(first[5]), float(end[5])), f"two at once: {first} {second}"
    assert list(fleet.folder.glob("data/outbox/*.outbox")) == [], "results are left on disk"
    return len(starts)
