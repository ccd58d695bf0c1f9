"""History: a claim must cost the same whether the table holds no finished rows or a million."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

from fleetq_core.config import Config
from fleetq_core.ids import new_step_id, new_token
from fleetq_core.model import Identity, StepRow
from fleetq_core.store import Store, open_store

from . import harness

FINISHED = 1_000_000
CLAIMS = 50
SET = 100
ROUNDS = 11
ME = Identity("bench", "bench")
FOREVER_S = 1e9


def run() -> harness.Report:
    """Milliseconds for a claim of 100 at no history and at a million finished rows, round by round in turn."""
    with harness.scratch() as folder:
        stores = {0: _store(folder / "empty.db"), FINISHED: _store(folder / "full.db")}
        _fill(folder / "full.db")
        contestants: dict[str, Callable[[Path], float]] = {
            f"claim of {SET} at {rows:,} finished rows (ms)": functools.partial(_claim_ms, store)
            for rows, store in stores.items()
        }
        samples = harness.alternate(ROUNDS, contestants)
        for store in stores.values():
            store.close()
    empty, full = samples.values()
    report = harness.Report(f"Claims at {FINISHED:,} finished rows", samples=samples)
    report.add("with history ÷ without", harness.paired(full, empty), "×", 1.2, at_least=False)
    return report


def _store(path: Path) -> Store:
    store = open_store(Config(store=f"sqlite:///{path}"))
    store.register_pod(ME, {})
    return store


def _fill(path: Path) -> None:
    import sqlite3

    db = sqlite3.connect(path)
    db.execute("PRAGMA synchronous=OFF")
    rows = ((f"old-{n:08}", float(n)) for n in range(FINISHED))
    db.executemany(
        "INSERT INTO step_tracker (step_id, task_type, payload, priority, status, created_ts, claimed_ts, finished_ts,"
        " last_update_ts, run_s, result) "
        "VALUES (?1, 'echo', '{\"task_type\":\"echo\"}', 0, 'completed', ?2, ?2, ?2, ?2, 0.1, 'null')",
        rows,
    )
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    os.sync()  # half a gigabyte on its way to the disk would slow both contestants, one more than the other


def _claim_ms(store: Store, _: Path) -> float:
    """The median claim, with the rows put there before and taken away after."""
    rows = [StepRow(new_step_id(), "echo", '{"task_type":"echo"}', 0, None) for _ in range(CLAIMS * SET)]
    store.insert_steps(rows)
    took: list[float] = []
    for _turn in range(CLAIMS):
        token = new_token()
        started = time.perf_counter()
        claimed = store.claim_steps(ME, token, SET, FOREVER_S)
        took.append(1000 * (time.perf_counter() - started))
        if len(claimed) != SET:
            raise RuntimeError(f"claimed {len(claimed)} steps instead of {SET}")
    return harness.median(took)
