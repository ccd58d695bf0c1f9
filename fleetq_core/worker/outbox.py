"""Outcomes that the store could not take yet, on this machine's disk, so that a finished result is never dropped.

Each pod has a file of its own. A pod that starts also adopts the files that dead pods of this machine left behind.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from fleetq_core.errors import ConfigError, StoreUnavailable
from fleetq_core.model import Outcome, Status

try:
    import fcntl
except ImportError:  # not on Windows: there, outboxes of other pods are left alone
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

_CREATE = "CREATE TABLE IF NOT EXISTS outcome (claim TEXT PRIMARY KEY, body TEXT NOT NULL)"
_PUT = "INSERT INTO outcome VALUES (?, ?) ON CONFLICT (claim) DO NOTHING"
_TAKE = "SELECT claim, body FROM outcome ORDER BY rowid LIMIT ?"
_DROP = "DELETE FROM outcome WHERE claim = ?"


class Outbox:
    """A durable set of outcomes, keyed by claim and step. The file exists only while there is something in it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.outbox"
        self._count = 0
        self._lock_fd: int | None = None
        if self._path.exists():
            self._claim_file()
            with self._open() as db:
                self._count = int(db.execute("SELECT count(*) FROM outcome").fetchone()[0])

    def __len__(self) -> int:
        return self._count

    def put(self, outcomes: Sequence[Outcome]) -> None:
        """Keep `outcomes` on disk. Raises StoreUnavailable if the disk will not take them."""
        self._claim_file()
        with self._open() as db:
            self._count += db.executemany(_PUT, [(_key(o), json.dumps(asdict(o))) for o in outcomes]).rowcount

    def peek(self, limit: int) -> list[Outcome]:
        """The oldest outcomes."""
        if not self._count:
            return []
        with self._open() as db:
            return [_outcome(body) for _, body in db.execute(_TAKE, (limit,)).fetchall()]

    def drop(self, outcomes: Iterable[Outcome]) -> None:
        """These have been answered by the store."""
        with self._open() as db:
            self._count -= db.executemany(_DROP, [(_key(o),) for o in outcomes]).rowcount
        if not self._count:
            self._remove()

    def close(self) -> None:
        """Let go of the file, so that another pod may adopt it."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _claim_file(self) -> None:
        if self._lock_fd is None and fcntl is not None:
            self._lock_fd = _lock_file(self._path)

    def _remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self.close()
        self._path.with_suffix(".lock").unlink(missing_ok=True)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._path, timeout=5)
            try:
                db.execute("PRAGMA synchronous=FULL")
                with db:
                    db.execute(_CREATE)
                    yield db
            finally:
                db.close()
        except (sqlite3.Error, OSError) as exc:
            raise StoreUnavailable(f"outbox {self._path}: {exc}") from exc


def check_writable(folder: Path) -> None:
    """Results that the store cannot take are kept there: a pod that could not do so must not start."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise ConfigError([f"FLEET_Q_DATA_DIR={folder}: must be a folder this user may write to ({exc})"]) from exc


def adopt_abandoned(folder: Path) -> list[Outbox]:
    """The outboxes in `folder` whose pods are gone: those whose lock nobody holds."""
    found: list[Outbox] = []
    if fcntl is None or not folder.is_dir():
        return found
    for path in sorted(folder.glob("*.outbox")):
        try:
            found.append(Outbox(folder, path.stem))
            log.info("adopting the outbox of pod %s: %d outcomes", path.stem, len(found[-1]))
        except StoreUnavailable as exc:
            log.info("leaving outbox %s alone: %s", path.name, exc)
    return found


def _lock_file(path: Path) -> int:
    """Lock `path` for this process. The lock is on a file of its own: SQLite would drop one on its database."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise StoreUnavailable(f"outbox {path}: {exc}") from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        raise StoreUnavailable(f"outbox {path} belongs to a living pod") from exc
    return fd


def _key(outcome: Outcome) -> str:
    return f"{outcome.claim_token}/{outcome.step_id}"


def _outcome(body: str) -> Outcome:
    values = json.loads(body)
    return Outcome(**(values | {"status": Status(values["status"])}))
