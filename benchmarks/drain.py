"""Drain: 10,000 no-op steps that are already submitted, against Huey and against a bare sqlite3 loop."""

from __future__ import annotations

import functools
from pathlib import Path

from . import harness

STEPS = 10_000
ROUNDS = 5


def run() -> harness.Report:
    """Steps a second of one pod, of Huey's consumer, and of sqlite3 claiming and completing in sets of 100."""

    def rate(contestant: str, folder: Path) -> float:
        return harness.child("benchmarks.contestants", contestant, str(folder), str(STEPS))["rate"]

    contestants = {
        "FLEET-Q, one pod (steps/s)": functools.partial(rate, "fleetq"),
        "Huey on SQLite, one worker (steps/s)": functools.partial(rate, "huey"),
        "raw sqlite3, sets of 100 (steps/s)": functools.partial(rate, "raw"),
    }
    samples = harness.alternate(ROUNDS, contestants)
    ours, huey, raw = samples.values()
    report = harness.Report(f"Drain {STEPS:,} no-op steps, durable rows, synchronous=FULL everywhere", samples=samples)
    report.add("FLEET-Q ÷ Huey", harness.paired(ours, huey), "×", 5.0)
    report.add("FLEET-Q ÷ raw sqlite3", harness.paired(ours, raw), "×", 0.25)
    return report
