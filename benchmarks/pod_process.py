"""A pod in a process of its own, for the benchmarks: `python -m benchmarks.pod_process FOLDER POD_ID GO_FILE`.

It stands ready, paused by a missing file, so that several of them can be let go in the same moment; then it works until
nothing is pending or claimed, and prints how much it completed and how often a step was started here.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from fleetq_core import Pod, Step, TaskRegistry, connect
from fleetq_core.config import Config

POLL_S = 0.002


def main(folder: Path, pod_id: str, go: Path) -> None:
    """Run one pod to the end of the queue."""
    tasks = TaskRegistry()
    starts: Counter[str] = Counter()

    @tasks.task("noop")
    def noop(step: Step) -> None:
        starts[step.step_id] += 1

    config = Config(store=f"sqlite:///{folder}/q.db", data_dir=folder / "data", pod_id=pod_id)
    queue = connect(config)
    pod = Pod(queue, config, tasks=tasks)
    print("ready", flush=True)
    pause = threading.Event()
    while not go.exists():
        pause.wait(POLL_S)
    started = time.time()
    pod.start()
    seen, last = 0, started
    while (stats := queue.stats()).pending + stats.claimed:
        if pod.counters.completed > seen:
            seen, last = pod.counters.completed, time.time()
        pause.wait(POLL_S)
    if pod.counters.completed > seen:
        last = time.time()
    pod.stop()
    twice = sum(count - 1 for count in starts.values())
    print(json.dumps({"started": started, "last": last, "completed": pod.counters.completed, "twice": twice}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
