"""Screens: with a million steps in the store, every page must be read and drawn at once.

What the pages Steps and Overview ask of the store is measured alone, and every page is drawn whole (drawn_pages.py).
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleetq_core.config import Config
from fleetq_core.dashboard import search
from fleetq_core.model import Status, StepFilter
from fleetq_core.store import Store, open_store

from . import full_store, harness

STEPS, ROUNDS, PAGE = 1_000_000, 20, 100
TARGET_MS = 300.0


def run() -> harness.Report:
    """Milliseconds for each read and for each page, p95 over ROUNDS of each, all in turn."""
    report = harness.Report(f"Screens at {STEPS:,} steps")
    with harness.scratch() as folder:
        path = folder / "full.db"
        full_store.create(path, STEPS)
        store = open_store(Config(store=f"sqlite:///{path}"))
        report.samples = harness.alternate(
            ROUNDS, {name: functools.partial(_ms, read) for name, read in reads(store).items()}
        )
        store.close()
        drawn: Any = harness.child("benchmarks.drawn_pages", f"sqlite:///{path}", str(ROUNDS))
    report.samples |= {f"page {address}": took for address, took in drawn.items()}
    for name, took in report.samples.items():
        report.add(f"{name}, p95", statistics.quantiles(took, n=20)[-1], "ms", TARGET_MS, at_least=False)
    return report


def reads(store: Store) -> dict[str, Callable[[], object]]:
    """The reads by name; those by text and pod look for what is nowhere, which is the worst that a viewer can ask.

    Such a look goes through one slice of the steps, as the page Steps does.
    """
    slice_from = store.created_behind(StepFilter(), search.SLICE)
    filters = {
        "all": StepFilter(),
        **{status.value: StepFilter(status=status) for status in Status},
        "one task type": StepFilter(task_type="type03"),
        "failed of one task type": StepFilter(task_type="type03", status=Status.FAILED),
        "dead letters": StepFilter(dead_letters=True),
        "an unknown pod": StepFilter(claimed_by="nobody", created_from=slice_from),
        "text that is nowhere": StepFilter(text="zzzqq", created_from=slice_from),
    }
    by_filter = {f"steps: {name}": functools.partial(store.find_steps, where, PAGE) for name, where in filters.items()}
    end = functools.partial(store.created_behind, StepFilter(), search.SLICE)
    return {"stats": store.stats, "end of a slice": end, "held by pod": store.held_by_pod, **by_filter}


def _ms(read: Callable[[], object], _: Path) -> float:
    started = time.perf_counter()
    read()
    return 1000 * (time.perf_counter() - started)
