"""Pick-up: how long after a submit in another process an idle pod has the step in its handler."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from fleetq_core import Pod, Step, TaskRegistry, connect
from fleetq_core.config import Config

from . import harness

STEPS = 300
PAUSES_S = (0.02, 0.12)


def run() -> harness.Report:
    """Milliseconds from just before the submit to the first line of the handler, on one machine's clock."""
    with harness.scratch() as folder:
        pod = harness.spawn("benchmarks.pick_up", str(folder))
        if pod.stdout is None or pod.stdout.readline().strip() != "ready":
            raise RuntimeError("the pod did not become ready")
        latencies = _submit(folder, pod)
    report = harness.Report(f"Pick-up of {STEPS} single steps by an idle pod in another process")
    report.add("median", harness.median(latencies), "ms", 10, at_least=False)
    report.add("p99", harness.percentile(latencies, 0.99), "ms", 30, at_least=False)
    return report


def _submit(folder: Path, pod: subprocess.Popen[str]) -> list[float]:
    queue = connect(_config(folder, "submitter"))
    pause = threading.Event()
    sent: dict[str, float] = {}
    for seconds in harness.random_pauses(STEPS, *PAUSES_S):
        pause.wait(seconds)
        at = time.time()
        sent[queue.submit_step({"task_type": "note"})] = at
    queue.submit_step({"task_type": "enough"})
    queue.close()
    started = harness.answer(pod)
    return [1000 * (started[step_id] - at) for step_id, at in sent.items()]


def _config(folder: Path, pod_id: str) -> Config:
    return Config(store=f"sqlite:///{folder}/q.db", data_dir=folder / "data", pod_id=pod_id)


def _pod(folder: Path) -> None:
    tasks = TaskRegistry()
    started: dict[str, float] = {}
    enough = threading.Event()

    @tasks.task("note")
    def note(step: Step) -> None:
        started[step.step_id] = time.time()

    @tasks.task("enough")
    def stop(step: Step) -> None:
        enough.set()

    config = _config(folder, "idle")
    pod = Pod(connect(config), config, tasks=tasks)
    pod.start()
    print("ready", flush=True)
    enough.wait(harness.CHILD_TIMEOUT_S)
    pod.stop()
    print(json.dumps(started))


if __name__ == "__main__":
    _pod(Path(sys.argv[1]))
