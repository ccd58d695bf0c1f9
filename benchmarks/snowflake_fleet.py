"""Eight pods on the Snowflake store: how many of their claims find nothing, and what 1,000 steps cost in statements.

The pods are processes of their own with the genuine connector, on the tests' emulator of Snowflake. Its times are not
Snowflake's; its locks and counts are: one writer of a table at a time, and the same statements.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fleetq_core import Pod, Queue, Step, TaskRegistry, connect
from fleetq_core.config import Config, load_config
from fleetq_core.store import Store
from fleetq_core.store.metered import metered
from fleetq_core.store.snowflake import SnowflakeStore
from fleetq_core.store.snowflake_connection import SnowflakeConnection, Statement
from tests.support.emulator import server

from . import harness

PODS = 8
FLEET_STEPS, STEP_S = 2_000, 0.25
ALONE_STEPS = 10_000
ROUNDS = 3
POLL_S = 0.01
TIME_LIMIT_S = 240.0
MOST_EMPTY, MOST_STATEMENTS = 10.0, 45.0
WORK = ("submit", "claim", "settle")  # what steps cost; beats and the leader cost the same without any


def run() -> harness.Report:
    """Eight pods that share 2,000 steps of 250 ms, and one pod that drains 10,000 no-op steps."""
    fleet = [drain(PODS, FLEET_STEPS, STEP_S) for _ in range(ROUNDS)]
    alone = [drain(1, ALONE_STEPS, 0.0) for _ in range(ROUNDS)]
    report = harness.Report(
        f"Snowflake (emulator): {PODS} pods and {FLEET_STEPS:,} steps of {1000 * STEP_S:g} ms; "
        f"one pod and {ALONE_STEPS:,} no-op steps"
    )
    for title, found in ((f"{PODS} pods", fleet), ("one pod", alone)):
        for name in found[0]:
            report.samples[f"{title}: {name}"] = [one[name] for one in found]
    middle = functools.partial(_median, fleet)
    report.add(f"{PODS} pods: claims that found nothing", 100 * middle("empty share"), "%", MOST_EMPTY, at_least=False)
    report.add(f"{PODS} pods: least ÷ most served", middle("least ÷ most"), "")
    report.add("steps run twice, all rounds", sum(one["twice"] for one in (*fleet, *alone)), "steps", 0, at_least=False)
    work = "submit, claim and settle, for 1,000 steps"
    report.add(f"{PODS} pods: {work}", middle("statements for 1,000"), "statements")
    cost = _median(alone, "statements for 1,000")
    report.add(f"one pod: {work}", cost, "statements", MOST_STATEMENTS, at_least=False)
    return report


def _median(found: list[dict[str, float]], name: str) -> float:
    return harness.median([one[name] for one in found])


def drain(pods: int, steps: int, step_s: float) -> dict[str, float]:
    """Submit, let the pods go at once, and count until the last step is done."""
    with server() as settings, harness.scratch() as folder:
        env = {f"SNOWFLAKE_{name.upper()}": str(value) for name, value in settings.items()}
        env |= {"FLEET_Q_DATA_DIR": str(folder / "data"), "FLEET_Q_STORE": "snowflake"}
        store = metered(SnowflakeStore(SnowflakeConnection(settings, "bench")))
        store.create_schema()
        queue = Queue(store, Config(pod_id="bench"))
        queue.submit_steps({"task_type": "work", "seconds": step_s} for _ in range(steps))
        submitted = store.meter.read()["submit"].statements  # type: ignore[attr-defined]
        started = [harness.spawn("benchmarks.snowflake_fleet", str(folder), f"pod-{n}", env=env) for n in range(pods)]
        try:
            for process in started:
                if process.stdout is None or not any("ready" in line for line in process.stdout):
                    raise RuntimeError("a pod did not become ready")
            began = time.perf_counter()
            (folder / "go").touch()
            _until(lambda: _is_done(queue, steps))
            took = time.perf_counter() - began
            (folder / "done").touch()
            answers = [harness.answer(process) for process in started]
        finally:
            for process in started:
                process.kill()
                process.communicate()
            queue.close()
    return _figures(answers, steps, took, submitted)


def _figures(answers: list[dict[str, float]], steps: int, took: float, submitted: int) -> dict[str, float]:
    total = {name: sum(answer[name] for answer in answers) for name in answers[0]}
    served = [answer["completed"] for answer in answers]
    return {
        "steps/s": steps / took,
        "claims": total["claims"],
        "empty claims": total["empty"],
        "looks": total["looks"],
        "empty share": total["empty"] / total["claims"],
        "least ÷ most": min(served) / max(served),
        "twice": total["twice"] + sum(served) - steps,
        "statements for 1,000": 1000 * (submitted + sum(total[kind] for kind in WORK)) / steps,
        "all statements": submitted + total["all"],
    }


def _is_done(queue: Queue, steps: int) -> bool:
    threading.Event().wait(10 * POLL_S)
    return queue.stats().completed >= steps


def _until(condition: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + TIME_LIMIT_S, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not done after {TIME_LIMIT_S:g} s")
        pause.wait(POLL_S)


class _Counted(SnowflakeConnection):
    """A connection that counts the claims it sends, those that changed nothing, and looks whether there is anything."""

    def __init__(self, settings: Mapping[str, Any], pod_id: str, sent: Counter[str]) -> None:
        super().__init__(settings, pod_id)
        self._sent = sent

    def write(self, statement: Statement, bind: Mapping[str, Any]) -> int:
        changed = super().write(statement, bind)
        if statement.purpose == "claim_steps":
            self._sent.update({"claims": 1, "empty": not changed})
        return changed

    def rows(self, statement: Statement, bind: Mapping[str, Any], **how: bool) -> list[tuple[Any, ...]]:
        self._sent["looks"] += statement.purpose == "any_pending"
        return super().rows(statement, bind, **how)


def _opened(config: Config, sent: Counter[str]) -> Store:
    store = SnowflakeStore(_Counted(config.snowflake_settings(), config.pod_id, sent))
    store.check_schema()
    return store


def _pod(folder: Path, pod_id: str, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """One pod, from the go to the end of the queue."""
    tasks, starts = TaskRegistry(), list[str]()

    @tasks.task("work")
    def work(step: Step) -> None:
        starts.append(step.step_id)
        if step.payload["seconds"]:
            time.sleep(step.payload["seconds"])

    config = load_config(environ, pod_id=pod_id)
    sent: Counter[str] = Counter()
    pod = Pod(connect(config), config, tasks=tasks, store_opener=lambda: _opened(config, sent))
    print("ready", flush=True)
    _until((folder / "go").exists)
    pod.start()
    _until((folder / "done").exists)
    counters, kinds = pod.counters, pod.meter.read()
    found = {"claims": sent["claims"], "empty": sent["empty"], "looks": sent["looks"], "completed": counters.completed}
    found |= {kind: kinds[kind].statements for kind in WORK}
    found |= {"all": sum(kind.statements for kind in kinds.values()), "twice": len(starts) - len(set(starts))}
    pod.stop()
    return found


if __name__ == "__main__":
    print(json.dumps(_pod(Path(sys.argv[1]), sys.argv[2])))
