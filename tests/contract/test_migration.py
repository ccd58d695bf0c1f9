"""A file of an earlier version is brought up to date with what is in it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fleetq_core.config import Config
from fleetq_core.model import Identity, Outcome, Status
from fleetq_core.store import open_store, sqlite_schema
from tests.support.clock import FakeClock

ME = Identity("pod-a", "inc-a")


def test_steps_of_version_1_are_claimed_and_deferred_after_the_migration(config: Config, clock: FakeClock) -> None:
    path = Path(config.store.removeprefix("sqlite:///"))
    with sqlite3.connect(path) as db:
        db.executescript(sqlite_schema.migrations()[0] + ";PRAGMA user_version=1")
        db.executemany(
            "INSERT INTO step_tracker (step_id, task_type, payload, priority, status, created_ts, last_update_ts)"
            " VALUES (?, 'echo', '{\"task_type\":\"echo\"}', ?, ?, 1.0, 1.0)",
            [("low", 0, "pending"), ("high", 5, "pending"), ("done", 0, "completed")],
        )
    db.close()
    store = open_store(config, clock)
    store.register_pod(ME, {})
    record = store.get_steps(["low"])[0]
    assert (record.status, record.due_ts, record.deferrals) == (Status.PENDING, None, 0)
    assert (store.stats().pending, store.stats().deferred, store.stats().oldest_pending_ts) == (2, 0, 1.0)
    assert [c.step_id for c in store.claim_steps(ME, "t1", 1, 60.0)] == ["high"]
    store.settle_steps([Outcome("high", "t1", Status.PENDING, 0.1, error="later", retry_delay_s=5.0)], 3)
    assert [c.step_id for c in store.claim_steps(ME, "t2", 9, 60.0)] == ["low"]
    clock.advance(5)
    assert [c.step_id for c in store.claim_steps(ME, "t3", 9, 60.0)] == ["high"]
    store.close()
