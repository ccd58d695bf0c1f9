"""The dead-letter queue of one recovery run: a table in a local SQLite file that lives as long as the run.

It is a log of what was done, never the home of a step: losing it loses no work.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from fleetq_core.errors import StoreUnavailable
from fleetq_core.model import Decision

_CREATE = """CREATE TABLE dlq (step_id TEXT PRIMARY KEY, cause TEXT NOT NULL, action TEXT NOT NULL, owner TEXT,
                               retry_count INTEGER NOT NULL, reason TEXT NOT NULL)"""
_ADD = "INSERT OR REPLACE INTO dlq VALUES (?, ?, ?, ?, ?, ?)"


class LocalDlq:
    """Use as a context manager: the table is dropped at the end, and so is one that a crashed run left behind."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._path = folder / f"{run_id}.dlq"
        with self._named():
            folder.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            self._db = sqlite3.connect(self._path)
            # The file is thrown away: nothing in it is worth a wait for the disk.
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute(_CREATE)

    def add(self, decisions: Sequence[Decision]) -> None:
        """Log what was decided."""
        values = [(d.step_id, d.cause, d.action, d.owner, d.retry_count, d.reason) for d in decisions]
        with self._named(), self._db:
            self._db.executemany(_ADD, values)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise StoreUnavailable(f"local recovery log {self._path}: {exc}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._db.close()
        self._path.unlink(missing_ok=True)


def drop_leftovers(folder: Path) -> int:
    """Remove the tables of runs that a crash cut short; returns how many."""
    leftovers = list(folder.glob("*.dlq")) if folder.is_dir() else []
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
