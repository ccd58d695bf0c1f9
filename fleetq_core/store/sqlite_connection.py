"""One SQLite connection as the store uses it: pragmas, write transactions, retry while busy, and error names."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from fleetq_core.errors import StoreError, StoreFull, StoreUnavailable

T = TypeVar("T")

OLDEST_SQLITE = (3, 38, 0)  # the first with the ->> operator

_gates: dict[Path, threading.Lock] = {}
_gates_lock = threading.Lock()


def _gate_of(path: Path) -> threading.Lock:
    with _gates_lock:
        return _gates.setdefault(path.resolve(), threading.Lock())


class SqliteConnection:
    """A connection that many threads may share; they take turns.

    Writers of one process queue up at a gate of their own, so that only one of them polls for the file's write lock.
    """

    def __init__(self, path: Path, busy_timeout_s: float, synchronous: str) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._lock = threading.RLock()
        self._closed = False
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            needed = ".".join(map(str, OLDEST_SQLITE))
            raise StoreError(f"this Python has SQLite {sqlite3.sqlite_version}; FLEET-Q needs {needed} or newer")
        with self._translated():
            self._gate = _gate_of(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            # isolation_level=None: transactions begin and end where we say, and never by themselves.
            self._db = sqlite3.connect(path, timeout=0.002, isolation_level=None, check_same_thread=False)
        with self._translated():
            self.retry_busy(lambda: self._db.execute("PRAGMA journal_mode=WAL"))
            self._db.execute(f"PRAGMA synchronous={synchronous}")
            self._db.execute("PRAGMA cache_size=-8000")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: BEGIN IMMEDIATE … COMMIT, or ROLLBACK if the block raises. Keep it short."""
        with self._lock, self._translated():
            if not self._gate.acquire(timeout=self._busy_timeout_s):
                raise StoreUnavailable(f"database {self.path} is busy: no write lock in {self._busy_timeout_s:g} s")
            try:
                # IMMEDIATE, because a read that turns into a write fails at once with SQLITE_BUSY_SNAPSHOT.
                self.retry_busy(lambda: self._db.execute("BEGIN IMMEDIATE"))
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            finally:
                self._gate.release()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Single SELECTs outside a transaction; WAL readers never wait for writers."""
        with self._lock, self._translated():
            yield self._db

    def retry_busy(self, action: Callable[[], T]) -> T:
        """Repeat `action` while the file is locked.

        The pauses are short and random: SQLite's own busy handler backs off to 100 ms and starves one of two busy pods.
        """
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                return action()
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(random.uniform(0.0002, 0.002))

    def close(self) -> None:
        """Close it; idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._db.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise self._name(exc) from exc

    def _name(self, exc: sqlite3.Error | OSError) -> StoreError:
        if isinstance(exc, OSError):
            return StoreUnavailable(f"cannot make the folder of the database {self.path}: {exc.strerror}")
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        text = str(exc)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreUnavailable(f"database {self.path} is busy: no lock in {self._busy_timeout_s:g} s")
        if code == sqlite3.SQLITE_FULL:
            return StoreFull(f"the disk under {self.path} is full; nothing was lost: free some space")
        if code == sqlite3.SQLITE_READONLY:
            return StoreUnavailable(
                f"database {self.path} is read-only for this user: make the file and folder writable"
            )
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
            return StoreUnavailable(
                f"cannot open or read {self.path} ({text}): check that the folder exists and is writable"
            )
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreError(f"{self.path} is not a sound SQLite database ({text}): restore it or name another file")
        if text.startswith("no such table"):
            return StoreError(f"database {self.path} lacks a table ({text}): run `fleetq schema --apply`")
        if text.startswith("Cannot operate on a closed database"):
            return StoreUnavailable(f"the connection to {self.path} is closed")
        return StoreError(f"{self.path}: {text}")
