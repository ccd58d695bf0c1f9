"""Two pods on one file: no-op work cannot get faster by it, but it must hardly get slower, and both must be served."""

from __future__ import annotations

import functools
from pathlib import Path

from fleetq_core import connect
from fleetq_core.config import Config

from . import harness

STEPS = 20_000
ROUNDS = 5


def run() -> harness.Report:
    """Steps a second of one pod and of two, how evenly two are served, and whether anything ran twice."""
    served: list[float] = []
    twice: list[float] = []

    def rate(pods: int, folder: Path) -> float:
        answers = _drain(folder, pods)
        twice.append(sum(a["twice"] for a in answers) + sum(a["completed"] for a in answers) - STEPS)
        if pods > 1:
            counts = [a["completed"] for a in answers]
            served.append(min(counts) / max(counts))
        return STEPS / (max(a["last"] for a in answers) - min(a["started"] for a in answers))

    names = {1: "one pod (steps/s)", 2: "two pods (steps/s)"}
    samples = harness.alternate(ROUNDS, {name: functools.partial(rate, pods) for pods, name in names.items()})
    one, two = samples.values()
    report = harness.Report(f"Two pods on one file, {STEPS:,} no-op steps", samples=samples)
    report.samples["least ÷ most served"] = served
    report.add("two pods ÷ one pod", harness.paired(two, one), "×", 0.8)
    report.add("least ÷ most served", harness.median(served), "", 0.5)
    report.add("steps run twice, all rounds", sum(twice), "steps", 0, at_least=False)
    return report


def _drain(folder: Path, pods: int) -> list[dict[str, float]]:
    queue = connect(Config(store=f"sqlite:///{folder}/q.db", data_dir=folder / "data", pod_id="submitter"))
    queue.submit_steps({"task_type": "noop"} for _ in range(STEPS))
    queue.close()
    go = folder / "go"
    started = [harness.spawn("benchmarks.pod_process", str(folder), f"pod-{n}", str(go)) for n in range(pods)]
    for process in started:
        if process.stdout is None or process.stdout.readline().strip() != "ready":
            raise RuntimeError("a pod did not become ready")
    go.touch()
    return [harness.answer(process) for process in started]
