"""A slow store: how busy one pod keeps its slots where every statement takes as long as on Snowflake.

A real pod works on SQLite behind a store that takes a given time for each statement that Snowflake would run. The pod's
own connections wait side by side, as Snowflake's do, and none waits while it holds the file's lock.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from fleetq_core import Pod, Step, TaskRegistry, connect
from fleetq_core.config import Config
from fleetq_core.model import Outcome
from fleetq_core.store import Store, open_store

from . import harness

MAX_PARALLELISM = 64
WINDOW_S = 8.0
WARM_UP_STATEMENTS, LEAST_WARM_UP_S = 20, 4.0
TARGET, ROUNDS = 0.9, 3
HELD_TO = (0.2, 0.01)  # seconds of a statement and of a step; the others are measured once, for information
OTHERS = ((0.05, 0.01), (1.0, 0.01), (0.05, 0.1), (0.2, 0.1), (1.0, 0.1))
KINDS = ("sync", "async")

# How many statements the Snowflake store runs for a call, where it is not one. A claim looks first after an empty one.
STATEMENTS = {"claim_steps": 2, "register_pod": 2, "beat": 2, "take_sample": 5, "purge": 10}
MOST_JSON = 500_000  # characters of values in one statement; a larger set takes several
LOOK_S = 0.1
pause = time.sleep
ROW_JSON = 130  # characters of an outcome without its result


class SlowStore:
    """The store behind it, `latency_s` slower for each statement."""

    def __init__(self, inner: Store, latency_s: float) -> None:
        self._inner, self._latency_s = inner, latency_s
        self._quiet = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name in ("change_signal", "close"):
            return method

        def slow(*args: Any, **kwargs: Any) -> Any:
            # Half of a statement's time is its way there, half its way back.
            wait_s = self._latency_s * self._statements(name, args) / 2
            pause(wait_s)
            found = method(*args, **kwargs)
            pause(wait_s)
            if name == "claim_steps":
                self._quiet = not found
            return found

        return slow

    def _statements(self, name: str, args: Sequence[Any]) -> int:
        if name == "claim_steps":
            return STATEMENTS[name] + self._quiet
        if name == "settle_steps":
            outcomes: Sequence[Outcome] = args[0]
            size = sum(ROW_JSON + len(o.result or o.error or "") for o in outcomes)
            return 1 + size // MOST_JSON
        return STATEMENTS.get(name, 1)

    def reopen(self, role: str = "") -> Store:
        """Another connection, as slow."""
        return cast(Store, SlowStore(self._inner.reopen(role), self._latency_s))

    def change_signal(self) -> None:
        """A store that is far away tells nobody of commits."""
        return


def run() -> harness.Report:
    """Share of the slots' time in which a handler ran, for sync and async handlers."""
    report = harness.Report(f"One pod with max_parallelism={MAX_PARALLELISM} on a slow store")
    for latency_s, step_s in (HELD_TO, *OTHERS):
        _compare(report, latency_s, step_s)
    return report


def _compare(report: harness.Report, latency_s: float, step_s: float) -> None:
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}

    def busy(kind: str, folder: Path) -> float:
        args = (str(folder), kind, str(latency_s), str(step_s))
        found[kind].append(harness.child("benchmarks.slow_store", *args))
        return found[kind][-1]["busy"]

    held_to = (latency_s, step_s) == HELD_TO
    shares = harness.alternate(ROUNDS if held_to else 1, {kind: functools.partial(busy, kind) for kind in KINDS})
    for kind in KINDS:
        name = f"{1000 * latency_s:g} ms a statement, {kind} steps of {1000 * step_s:g} ms"
        if held_to:
            report.samples[f"{name}: busy"] = shares[kind]
        report.add(f"{name}: busy", harness.median(shares[kind]), "of the slots", TARGET if held_to else None)
        for what, unit in (("rate", "steps/s"), ("held", "steps at most"), ("cpu_us", "µs of CPU a step")):
            report.add(f"    {what}", harness.median([one[what] for one in found[kind]]), unit)


def busy_share(
    folder: Path, kind: str, latency_s: float, step_s: float, window_s: float = WINDOW_S
) -> dict[str, float]:
    """One pod at work; what its slots did in a window after the start."""
    ran: list[tuple[float, float]] = []
    tasks = TaskRegistry()

    @tasks.task("sync")
    def sleep(step: Step) -> None:
        started = time.perf_counter()
        time.sleep(step_s)
        ran.append((started, time.perf_counter()))

    @tasks.task("async")
    async def doze(step: Step) -> None:
        started = time.perf_counter()
        await asyncio.sleep(step_s)
        ran.append((started, time.perf_counter()))

    config = Config(
        store=f"sqlite:///{folder}/q.db", data_dir=folder / "data", pod_id="bench", max_parallelism=MAX_PARALLELISM
    )
    queue = connect(config)
    warm_s = max(LEAST_WARM_UP_S, WARM_UP_STATEMENTS * latency_s)
    queue.submit_steps({"task_type": kind} for _ in range(int(1.3 * (warm_s + window_s) * config.capacity / step_s)))
    pod = Pod(queue, config, tasks=tasks, store_opener=lambda: cast(Store, SlowStore(open_store(config), latency_s)))
    pod.start()
    held = 0
    time.sleep(warm_s)
    begins, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() < begins + window_s:
        time.sleep(LOOK_S)
        held = max(held, queue.stats().claimed)
    ends, cpu = time.perf_counter(), time.process_time() - cpu
    found = list(ran)
    left = queue.stats().pending
    pod.stop()
    queue.close()
    if not left:
        raise SystemExit("the queue ran empty before the window was over")
    busy_s = sum(max(0.0, min(ends, end) - max(begins, start)) for start, end in found)
    done = sum(begins <= end < ends for _, end in found)
    slots = config.capacity
    took = ends - begins
    return {
        "busy": busy_s / (slots * took), "rate": done / took, "slots": slots, "held": held, "cpu_us": 1e6 * cpu / done,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(busy_share(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))))
