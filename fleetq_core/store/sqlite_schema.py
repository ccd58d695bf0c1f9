"""The tables of the embedded store: migration scripts, and bringing a file up to date with them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from fleetq_core.errors import SchemaMismatch


def migrations() -> list[str]:
    """The migration scripts in order; number n takes a database from schema version n-1 to n."""
    folder = files(__package__).joinpath("sql", "sqlite_migrations")
    names = sorted(entry.name for entry in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", entry.name))
    return [folder.joinpath(name).read_text(encoding="utf-8") for name in names]


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Run what is missing, inside the caller's write transaction: all of it, or nothing. May raise SchemaMismatch."""
    scripts = migrations()
    # Read under the lock: another pod may have migrated while this one waited.
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > len(scripts):
        raise SchemaMismatch(
            f"{path} has schema version {version}, this program knows {len(scripts)}: "
            "upgrade this FLEET-Q, or point FLEET_Q_STORE at another file"
        )
    tables = [name for _, name, *_ in db.execute("PRAGMA table_list") if not name.startswith("sqlite_")]
    if version == 0 and tables:
        raise SchemaMismatch(f"{path} holds tables of another program: point FLEET_Q_STORE at a file of its own")
    for number, script in enumerate(scripts[version:], start=version + 1):
        for statement in _split(script):
            db.execute(statement)
        db.execute(f"PRAGMA user_version={number}")


def _split(script: str) -> Iterable[str]:
    """The single statements of a script; executescript() would commit the transaction around them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
