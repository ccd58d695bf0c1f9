"""Large sets on Snowflake: one JSON value for a set, as the store sends it, against array binding.

Both go through the genuine connector to the tests' emulator, in statements of at most 500,000 characters of values, and
the HTTP requests with a statement that the connector really sends are counted. Array binding serves INSERT alone: it is
given a plain INSERT here, where the store's statement also passes over steps that are there already. The emulator
inserts bound rows one by one: the times tell of the emulator, the requests of what Snowflake would be asked.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fleetq_core.ids import new_step_id, new_token
from fleetq_core.store.snowflake import SnowflakeStore
from fleetq_core.store.snowflake_binds import MOST_JSON, json_sets
from fleetq_core.store.snowflake_connection import SnowflakeConnection, Statement
from fleetq_core.store.snowflake_statements import SQL
from tests.support.emulator import server

from . import harness

COUNTS = (100, 500, 2_000, 10_000)
PAYLOADS = {"small": 0, "2 kB": 2_000}  # padding, in bytes
ROUNDS, FEW = 3, 500  # larger sets are sent once
BOUND_ROW = 18  # characters of a row's quotes and commas, at most, in both forms

Row = tuple[str, str, str, int, None]

INSERT = (
    "INSERT INTO step_tracker (step_id, task_type, payload, priority, max_retries, status, retry_count, deferrals, "
    "created_ts, last_update_ts, write_token) "
    "SELECT ?, ?, ?, ?, ?, 'pending', 0, 0, SYSDATE(), SYSDATE(), 'bench'"
)


class Wire:
    """Counts what a connection of the driver sends."""

    def __init__(self, driver: Any) -> None:
        self.requests, self.chars = 0, 0
        send = driver.rest._request_exec

        def counted(*args: Any, **kwargs: Any) -> Any:
            # Not those that ask whether a long statement has ended yet.
            if "/query-request" in kwargs["full_url"]:
                self.requests += 1
                self.chars += len(kwargs["data"])
            return send(*args, **kwargs)

        driver.rest._request_exec = counted

    def of(self, action: Callable[[], None]) -> tuple[int, int, float]:
        """(requests, characters sent, milliseconds) of `action`."""
        requests, chars, began = self.requests, self.chars, time.perf_counter()
        action()
        return self.requests - requests, self.chars - chars, 1000 * (time.perf_counter() - began)


def run() -> harness.Report:
    """Requests, size and time of an insert of so many steps, in both forms."""
    report = harness.Report("Sets on Snowflake (emulator): one JSON value ÷ array binding")
    with server() as settings:
        bench = Bench(settings)
        for padding in PAYLOADS:
            for count in COUNTS:
                bench.compare(report, count, padding, ROUNDS if count <= FEW else 1)
        bench.close()
    return report


class Bench:
    """A table of steps and a connection to it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._db = SnowflakeConnection(settings, "bench")
        SnowflakeStore(self._db).create_schema()
        self._driver = self._db._open()
        self._wire = Wire(self._driver)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def compare(self, report: harness.Report, count: int, padding: str, rounds: int) -> None:
        """Insert `count` steps in both forms, and add the figures to the report."""
        found: dict[str, list[tuple[int, int, float]]] = {"json": [], "array": []}

        def measure(form: str, _: Path) -> float:
            steps = _steps(count, PAYLOADS[padding])
            found[form].append(self._wire.of(functools.partial(self._insert, form, steps)))
            self._check(count)
            return found[form][-1][2]

        name = f"{count:,} steps, {padding}"
        times = harness.alternate(rounds, {form: functools.partial(measure, form) for form in found})
        for form, told in (("json", "one JSON value"), ("array", "array binding")):
            requests, chars, _ = found[form][-1]
            report.samples[f"{name}: {told} (ms)"] = times[form]
            report.add(f"{name}: {told}", requests, f"requests, {chars / 1000:,.0f} kB")
        most = found["array"][-1][0]
        report.add(f"{name}: requests, JSON ÷ array", found["json"][-1][0] / most, "×", 1.0, at_least=False)
        report.add(f"{name}: time, JSON ÷ array", harness.paired(times["json"], times["array"]), "×")

    def _insert(self, form: str, steps: Sequence[Row]) -> None:
        if form == "json":
            statement = Statement.of("insert_steps", SQL["insert_steps"])
            for _, text in json_sets(steps):
                self._db.write(statement, {"steps": text, "token": new_token()})
            return
        with self._driver.cursor() as cursor:
            for rows in _array_sets(steps):
                cursor.executemany(INSERT, rows)

    def _check(self, count: int) -> None:
        """All are there; take them away."""
        deleted = self._db.write(Statement.of("bench", "DELETE FROM step_tracker"), {})
        if deleted != count:
            raise RuntimeError(f"{deleted} steps where there should be {count}")


def _steps(count: int, padding: int) -> list[Row]:
    payload = f'{{"task_type":"noop","text":"{"x" * padding}"}}'
    return [(new_step_id(), "noop", payload, 0, None) for _ in range(count)]


def _array_sets(steps: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows in sets whose values are no longer than those of one JSON value may be."""
    rows: list[Row] = []
    size = 0
    for step in steps:
        length = sum(len(str(value)) for value in step) + BOUND_ROW
        if rows and size + length > MOST_JSON:
            yield rows
            rows, size = [], 0
        rows.append(step)
        size += length
    yield rows
