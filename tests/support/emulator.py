"""A Snowflake to test against: the genuine connector over HTTP, a server of this machine, and a clock of the test's."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleetq_core.store.snowflake import SnowflakeStore
from fleetq_core.store.snowflake_connection import SnowflakeConnection, Statement, timestamp
from fleetq_core.store.snowflake_schema import Tables
from tests.support.clock import FakeClock
from tests.support.waiting import eventually

TABLES = (
    "step_tracker", "pod_health", "command_log", "command_answer", "recovery_run", "recovery_decision", "fleet_sample",
    "throttle_sample", "throttle_change",
)  # fmt: skip


@contextmanager
def server() -> Iterator[dict[str, Any]]:
    """A server process on loopback that ends with the block, and with this process however it ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, str(Path(__file__).with_name("fakesnow_sf.py")), "--port", str(port), "--until-eof"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet) as process:
        try:
            eventually(lambda: _answers(port) or process.poll() is not None, timeout_s=30)
            assert process.poll() is None, "the Snowflake server did not start"
            yield {
                "account": "fakesnow", "user": "fake", "password": "never-printed", "host": "127.0.0.1", "port": port,
                "protocol": "http", "database": "FLEETQ", "schema": "PUBLIC",
            }  # fmt: skip
        finally:
            process.kill()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ClockedConnection(SnowflakeConnection):
    """A connection whose statements have the test's time where they would ask for the server's."""

    clock: FakeClock

    def _execute(self, purpose: str, text: str, values: Sequence[Any]) -> tuple[int, list[tuple[Any, ...]]]:
        now = timestamp(self.clock.now()).isoformat(" ", "microseconds")
        return super()._execute(purpose, text.replace("SYSDATE()", f"'{now}'::TIMESTAMP_NTZ"), values)


def open_clocked(settings: dict[str, Any], clock: FakeClock, tables: Tables = "standard") -> SnowflakeStore:
    """A store whose time is the clock's, with its tables."""
    connection = ClockedConnection(settings, "pod-a")
    connection.clock = clock
    store = SnowflakeStore(connection)
    store.create_schema(tables)
    return store


def fresh(store: SnowflakeStore, clock: FakeClock) -> SnowflakeStore:
    """A store on the same connection, with a clock of its own and empty tables."""
    connection: Any = store._db
    connection.clock = clock
    counts = ", ".join(f"(SELECT COUNT(*) FROM {table})" for table in TABLES)
    (found,) = connection.rows(Statement.of("test", f"SELECT {counts}"), {})
    for table, count in zip(TABLES, found, strict=True):
        if count:
            run(store, f"DELETE FROM {table}")
    again = SnowflakeStore(connection)
    again.tables = store.tables
    return again


def run(store: SnowflakeStore, sql: str) -> int:
    """A statement of the test's own."""
    return store._db.write(Statement.of("test", sql), {})
