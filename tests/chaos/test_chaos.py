"""Real pods on one file, killed, frozen, stopped and started again from a seed while they work; then the books are kept.

FLEETQ_CHAOS_S says for how long, FLEETQ_CHAOS_SEED replays the order of the faults (not the machine's own timing).
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetq_core.model import Status
from tests.support.fleet import THRESHOLD_S, Fleet
from tests.support.waiting import eventually

SECONDS = float(os.environ.get("FLEETQ_CHAOS_S", "12"))
SEED = int(os.environ.get("FLEETQ_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
PODS = 5
MARGIN_S = 1.0  # of two busy cores: between a fault and its trace in the log

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0 if SECONDS > 20 else 110)]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(
        tmp_path,
        FLEET_Q_MAX_RETRIES="20",
        FLEET_Q_STOP_GRACE="0.5",
        FLEET_Q_SQLITE_SYNCHRONOUS="NORMAL",
    )
    yield made
    made.close()


class Chaos:
    """What fate does to the pods, with a note of when."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._fleet, self.rng = fleet, random.Random(seed)
        self.faults: list[tuple[str, float]] = []  # pod_id, when
        self.counts: Counter[str] = Counter()
        self._pods = {f"pod-{n}": fleet.start(f"pod-{n}") for n in range(PODS)}
        self._thaws: dict[str, threading.Timer] = {}
        self._starts = 0

    def strike(self) -> None:
        """One fault."""
        pod_id = self.rng.choice(sorted(self._pods))
        kind = self.rng.choices(("kill", "stop", "term"), (35, 50, 15))[0]
        seconds = self.rng.uniform(0.3, 4.0)
        process = self._pods[pod_id]
        if kind != "kill" and pod_id in self._thaws and self._thaws[pod_id].is_alive():
            return
        self.counts[kind] += 1
        self.faults.append((pod_id, time.time()))
        if kind == "stop":
            process.send_signal(signal.SIGSTOP)
            # By a clock of its own: a pod that is frozen in a write transaction holds up whoever else would thaw it.
            self._thaws[pod_id] = threading.Timer(seconds, self._thaw, [pod_id, process])
            self._thaws[pod_id].start()
            return
        process.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        process.wait(20)
        del self._pods[pod_id]
        self._starts += 1
        name = pod_id if self.rng.random() < 0.5 else f"pod-r{self._starts}"
        self._pods[name] = self._fleet.start(name)
        self.counts["restart"] += 1

    def _thaw(self, pod_id: str, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGCONT)
        self.faults.append((pod_id, time.time()))

    def end(self) -> None:
        """Wait until no pod is frozen any more."""
        for thaw in self._thaws.values():
            thaw.join()


def test_chaos_loses_nothing_and_runs_no_claim_twice(fleet: Fleet) -> None:
    print(f"FLEETQ_CHAOS_SEED={SEED} FLEETQ_CHAOS_S={SECONDS:g}")
    chaos = Chaos(fleet, SEED)
    ids: list[str] = []
    pace = threading.Event()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        ids += fleet.submit(30, seconds=chaos.rng.choice((0.0, 0.02, 0.05)))
        ids += fleet.submit(3, seconds=chaos.rng.uniform(0.2, 1.5))
        ids += fleet.submit(2, fails=chaos.rng.randint(1, 2))
        chaos.strike()
        pace.wait(chaos.rng.uniform(0.05, 0.4))
    chaos.end()
    began = time.monotonic()
    eventually(fleet.drained, timeout_s=60 + SECONDS / 2)
    check_books(fleet, chaos, ids, time.monotonic() - began)


def check_books(fleet: Fleet, chaos: Chaos, ids: list[str], drain_s: float) -> None:
    replay = f"FLEETQ_CHAOS_SEED={SEED}"
    records = {r.step_id: r for at in range(0, len(ids), 500) for r in fleet.queue.store.get_steps(ids[at : at + 500])}
    assert set(records) == set(ids), f"{replay}: steps were lost"
    ended = Counter(r.status for r in records.values())
    assert ended == {Status.COMPLETED: len(ids)}, f"{replay}: {ended}"
    miscounted = [r.step_id for r in records.values() if r.retry_count != sum("error" in h for h in r.history)]
    assert not miscounted, f"{replay}: retries do not match the attempts that failed or were lost: {miscounted[:5]}"
    assert not list(fleet.folder.glob("data/outbox/*.outbox")), f"{replay}: results are left on disk"
    starts, finishes = fleet.lines("start"), fleet.lines("finish")
    twice = [pair for pair, count in Counter((s[1], s[2]) for s in starts).items() if count > 1]
    assert not twice, f"{replay}: a claim was run twice: {twice[:5]}"
    won = {(f[1], f[2]) for f in finishes}
    unfinished = [r.step_id for r in records.values() if (r.step_id, r.claim_token) not in won]
    assert not unfinished, f"{replay}: completed without a finished run under the winning token: {unfinished[:5]}"
    overlaps, unexplained = find_overlaps(starts, finishes, chaos.faults)
    assert not unexplained, f"{replay}: two runs at once without a fault to explain it: {unexplained[:3]}"
    refused = sum(fleet.output(pod).count("outcome refused") for pod in {s[3] for s in starts})
    print(
        f"{len(ids)} steps, {dict(chaos.counts)}, stale refused {refused}, overlaps {overlaps} (all explained), "
        f"effects/steps {len(finishes) / len(ids):.3f}, drained in {drain_s:.1f} s"
    )


def find_overlaps(
    starts: list[list[str]], finishes: list[list[str]], faults: list[tuple[str, float]]
) -> tuple[int, list[tuple[str, str, str]]]:
    """Runs of one step that began before the one before had finished; legal only after a fault of the first's pod."""
    ended = {(f[1], f[2]): float(f[5]) for f in finishes}
    by_step: dict[str, list[list[str]]] = {}
    for start in sorted(starts, key=lambda s: float(s[5])):
        by_step.setdefault(start[1], []).append(start)
    overlaps, unexplained = 0, []
    for step_id, runs in by_step.items():
        for first, second in itertools.pairwise(runs):
            # A run without a finish was killed, or failed on purpose: it has no end to overlap with.
            if ended.get((step_id, first[2]), 0.0) <= float(second[5]):
                continue
            overlaps += 1
            since = float(first[5]) - THRESHOLD_S - MARGIN_S
            if not any(pod == first[3] and since <= when <= float(second[5]) for pod, when in faults):
                unexplained.append((step_id, first[3], second[3]))
    return overlaps, unexplained
