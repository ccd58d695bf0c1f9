"""Screens: what the Steps screen and the tiles ask of a store with a million steps must be answered at once.

Only the store's part of a page is measured here; drawing it comes on top.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fleetq_core.config import Config
from fleetq_core.model import Identity, Status, StepFilter
from fleetq_core.store import Store, open_store

from . import harness

STEPS, PENDING, FAILED, TYPES = 1_000_000, 6_000, 4_000, 20
ROUNDS, PAGE = 20, 100
TARGET_MS = 300.0
DAY_S = 86_400.0


def run() -> harness.Report:
    """Milliseconds for each read, p95 over ROUNDS reads of each, all in turn."""
    with harness.scratch() as folder:
        store = open_store(Config(store=f"sqlite:///{folder / 'full.db'}"))
        store.register_pod(Identity("bench", "bench"), {})
        fill(folder / "full.db", store.now(), STEPS)
        samples = harness.alternate(ROUNDS, {name: functools.partial(_ms, read) for name, read in reads(store).items()})
        store.close()
    report = harness.Report(f"Reads of screens at {STEPS:,} steps", samples=samples)
    for name, took in samples.items():
        report.add(f"{name}, p95", statistics.quantiles(took, n=20)[-1], "ms", TARGET_MS, at_least=False)
    return report


def reads(store: Store) -> dict[str, Callable[[], object]]:
    """The reads by name; those by text and pod look for what is nowhere, which is the worst that a viewer can ask."""
    filters = {
        "all": StepFilter(),
        **{status.value: StepFilter(status=status) for status in Status},
        "one task type": StepFilter(task_type="type03"),
        "failed of one task type": StepFilter(task_type="type03", status=Status.FAILED),
        "dead letters": StepFilter(dead_letters=True),
        "an unknown pod": StepFilter(claimed_by="nobody"),
        "text that is nowhere": StepFilter(text="zzzqq"),
    }
    by_filter = {f"steps: {name}": functools.partial(store.find_steps, where, PAGE) for name, where in filters.items()}
    return {"stats": store.stats, "held by pod": store.held_by_pod, **by_filter}


def fill(path: Path, now: float, steps: int) -> None:
    """Put `steps` steps of a day into the store, the newest of them failed or waiting."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA synchronous=OFF")
    db.executemany(
        "INSERT INTO step_tracker (step_id, task_type, payload, priority, status, created_ts, claimed_ts, finished_ts,"
        " last_update_ts, run_s, result) VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?6, ?5, ?7, ?8)",
        _rows(now, steps),
    )
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    os.sync()


def _rows(now: float, steps: int) -> Iterator[tuple[object, ...]]:
    for n in range(steps):
        left = steps - n
        status = "pending" if left <= PENDING else "failed" if left <= PENDING + FAILED else "completed"
        task, created = f"type{n % TYPES:02}", now - DAY_S * left / steps
        payload = f'{{"task_type":"{task}","customer":"c-{n:07}","note":"{"x" * 150}"}}'
        ended = None if status == "pending" else created + 1
        done = status == "completed"
        yield (
            f"old-{n:08}",
            task,
            payload,
            status,
            created,
            ended,
            0.1 if ended else None,
            '{"ok":true}' if done else None,
        )


def _ms(read: Callable[[], object], _: Path) -> float:
    started = time.perf_counter()
    read()
    return 1000 * (time.perf_counter() - started)
