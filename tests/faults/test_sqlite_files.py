"""The database file itself: full, read-only, newer, foreign, missing tables, many writers."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetq_core.config import Config
from fleetq_core.errors import SchemaMismatch, StoreError, StoreFull, StoreUnavailable
from fleetq_core.model import Identity, Outcome, Status, StepRow
from fleetq_core.store import open_store, sqlite_schema
from tests.support.clock import FakeClock

ME = Identity("pod-a", "inc-a")


def row(step_id: str, size: int = 0) -> StepRow:
    return StepRow(step_id, "echo", '{"task_type":"echo","x":"' + "x" * size + '"}', 0, None)


def test_a_full_disk_loses_nothing_and_is_named(config: Config, clock: FakeClock) -> None:
    store = open_store(config, clock)
    store.register_pod(ME, {})
    store.insert_steps([row("a")])
    store.claim_steps(ME, "t", 1, 60)
    with store._db.read() as db:  # type: ignore[attr-defined]
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreFull, match=r"disk under .*fleetq\.db is full; nothing was lost"):
        store.insert_steps([row(f"big{n}", 50_000) for n in range(20)])
    assert store.stats().by_status() == {"pending": 0, "claimed": 1, "completed": 0, "failed": 0}
    with pytest.raises(StoreUnavailable):
        store.settle_steps([Outcome("a", "t", Status.COMPLETED, 1.0, '"' + "r" * 100_000 + '"')], 3)
    with store._db.read() as db:  # type: ignore[attr-defined]
        db.execute("PRAGMA max_page_count=1000000")
    assert store.settle_steps([Outcome("a", "t", Status.COMPLETED, 1.0, "1")], 3) == {("a", "t")}
    store.close()


def test_a_newer_schema_is_refused(config: Config) -> None:
    open_store(config).close()
    db = sqlite3.connect(config.sqlite_path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(SchemaMismatch, match=r"has schema version 99, this program knows \d+: upgrade"):
        open_store(config)


def test_an_older_schema_is_migrated_forward(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(config)
    store.insert_steps([row("a")])
    store.close()
    later = [
        *sqlite_schema.migrations(),
        "ALTER TABLE step_tracker RENAME COLUMN error TO failure;\nCREATE TABLE x (y);",
    ]
    monkeypatch.setattr(sqlite_schema, "migrations", lambda: later)
    store = open_store(config)
    with store._db.read() as db:  # type: ignore[attr-defined]
        assert db.execute("SELECT step_id, failure FROM step_tracker").fetchall() == [("a", None)]
        assert db.execute("PRAGMA user_version").fetchone()[0] == len(later)
    store.close()


def test_a_migration_that_fails_leaves_the_old_schema_whole(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(config).close()
    broken = [*sqlite_schema.migrations(), "CREATE TABLE fine (x);\nCREATE TABLE broken (;"]
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema, "migrations", lambda: broken)
        with pytest.raises(StoreError):
            open_store(config)
    store = open_store(config)
    with store._db.read() as db:  # type: ignore[attr-defined]
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'fine'").fetchone()[0] == 0
    store.close()


@pytest.mark.parametrize("path", ["/proc/fleetq/fleetq.db", "/dev/null/fleetq.db"])
def test_a_folder_that_cannot_be_written_is_named(make_config: Callable[..., Config], path: str) -> None:
    with pytest.raises(StoreUnavailable, match=path.rsplit("/", 1)[0]):
        open_store(make_config(store=f"sqlite:///{path}"))


def test_a_read_only_database_is_named(config: Config) -> None:
    store = open_store(config)
    with store._db.read() as db:  # type: ignore[attr-defined]
        db.execute("PRAGMA query_only=1")  # what root cannot be denied by file modes
    with pytest.raises(StoreUnavailable, match="is read-only for this user"):
        store.insert_steps([row("a")])
    store.close()


def test_a_file_that_is_no_database_is_named(config: Config) -> None:
    config.sqlite_path.write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(StoreError, match="is not a sound SQLite database"):
        open_store(config)


def test_a_database_of_another_program_is_left_alone(config: Config) -> None:
    db = sqlite3.connect(config.sqlite_path)
    db.execute("CREATE TABLE step_tracker (theirs)")
    db.close()
    with pytest.raises(SchemaMismatch, match="holds tables of another program"):
        open_store(config)


def test_an_sqlite_that_is_too_old_is_named(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StoreError, match=r"FLEET-Q needs 3\.38\.0 or newer"):
        open_store(config)


def test_a_missing_table_is_named_with_the_way_out(config: Config) -> None:
    store = open_store(config)
    with store._db.write() as db:  # type: ignore[attr-defined]
        db.execute("DROP TABLE sample")
    with pytest.raises(StoreError, match=r"lacks a table \(no such table: sample\): run `fleetq schema --apply`"):
        store.list_samples(0, 1)
    store.close()


def test_a_lock_that_does_not_come_is_named(make_config: Callable[..., Config]) -> None:
    config = make_config(sqlite_busy_timeout=0.05)
    store = open_store(config)
    other = sqlite3.connect(config.sqlite_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="is busy: no lock in"):
        store.insert_steps([row("a")])
    other.execute("ROLLBACK")
    other.close()
    assert store.insert_steps([row("a")]) == 1
    store.close()


def test_many_pods_may_create_the_schema_at_once(config: Config) -> None:
    code = "from fleetq_core import connect, load_config; connect(load_config(env_file='none')).submit_step({'task_type': 'echo'})"
    env = {"FLEET_Q_STORE": config.store, "PYTHONPATH": str(Path(__file__).parents[2])}
    started = [subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE) for _ in range(6)]
    for process in started:
        assert process.communicate(timeout=60)[1] == b""
    store = open_store(config)
    assert store.stats().pending == 6
    store.close()


def test_threads_that_share_a_store_take_turns(config: Config, clock: FakeClock) -> None:
    store = open_store(config, clock)
    store.register_pod(ME, {})
    store.insert_steps([row(f"s{n:03}") for n in range(200)])
    claimed: list[str] = []

    def claim(number: int) -> None:
        for turn in range(5):
            claimed.extend(c.step_id for c in store.claim_steps(ME, f"t{number}.{turn}", 10, 60))

    threads = [threading.Thread(target=claim, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(claimed) == len(set(claimed)) == 200
    store.close()
