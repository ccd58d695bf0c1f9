"""`snowflake_sql`: run one statement, or call a procedure, on Snowflake through Snowpark."""

from __future__ import annotations

import atexit
import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from fleetq_core.config import Config, load_config
from fleetq_core.errors import ConfigError, InvalidPayload, StoreError, StoreUnavailable, TerminalError
from fleetq_core.model import Step
from fleetq_core.payload import encode_result
from fleetq_core.tasks import task

if TYPE_CHECKING:
    from fleetq_core.store.snowpark import PatientConnection

MAX_TIMEOUT_S, DEFAULT_TIMEOUT_S = 900, 60
MAX_ROWS, DEFAULT_ROWS = 10_000, 1_000
MAX_PARAMS = 1_000
MAX_SQL = 100_000
MAX_IDLE = 8  # sessions that are kept for the next steps
DUPLICATE_KEY = 200001
_PART = r"[A-Za-z_][A-Za-z0-9_$]{0,254}"
PROCEDURE = re.compile(rf"{_PART}(\.{_PART}){{0,2}}")
_COMMENTS = re.compile(r"(\s|--[^\n]*(\n|$)|//[^\n]*(\n|$)|/\*.*?\*/)*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z]+")
QUERIES = frozenset({"SELECT", "WITH"})
# What leaves a session as it was. After USE, SET, BEGIN, a temporary table and the like the next step gets a new one.
HARMLESS = QUERIES | {"INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "SHOW", "DESCRIBE", "DESC", "LIST", "CALL"}


@dataclass(frozen=True, slots=True)
class Request:
    """What a payload asks for."""

    sql: str
    params: tuple[Any, ...]
    max_rows: int
    timeout_s: int

    @property
    def verb(self) -> str:
        """The first word of the statement, in capitals."""
        start = _COMMENTS.match(self.sql)
        word = _WORD.match(self.sql, start.end() if start else 0)
        return word.group().upper() if word else ""


@task("snowflake_sql", timeout_s=2 * MAX_TIMEOUT_S + 120)
def snowflake_sql(step: Step) -> dict[str, Any]:
    """Run the statement `sql`, or call the procedure `call`, with `params` for its question marks, on Snowflake.

    `max_rows` (default 1,000, at most 10,000) bounds the rows of the result, `timeout_s` (default 60, at most 900) the
    time on the server. The pod signs in as its SNOWFLAKE_* settings say, also where its queue is on SQLite.

    What Snowflake refuses (wrong SQL, a missing privilege) fails for good; lost connections, full lock queues and
    timeouts are retried. A statement may run twice: make it one that may.
    """
    request, config = _request(step.payload), _settings()
    found: dict[str, Any] = {}
    with _sessions.lent(config, request) as connection:
        began = False

        def work(driver: Any) -> list[Any]:
            nonlocal began, found
            began = True
            found = _run(connection.session(driver), request, step, config.max_payload_bytes)
            return found["rows"]  # type: ignore[no-any-return]

        try:
            connection.with_driver(work)
        except StoreError as exc:
            # A sign-in that fails is this pod's trouble and may be over soon; a statement that is refused stays so.
            if not began or isinstance(exc, StoreUnavailable):
                raise
            raise TerminalError(_said(exc)) from exc
    return found


def _run(session: Any, request: Request, step: Step, max_bytes: int) -> dict[str, Any]:
    from snowflake.connector.errors import Error as DriverError

    from fleetq_core.store.snowpark import driver_errors

    started = time.monotonic()
    try:
        with driver_errors(), session.query_history() as history:
            frame = session.sql(request.sql, params=list(request.params) or None)
            # Only a query is described beforehand: Snowpark may run other statements to learn what they return.
            columns = _columns(frame) if request.verb in QUERIES else None
            rows = frame.to_local_iterator(statement_params=_parameters(request, step))
            kept, names, truncated = _kept(rows, columns, request.max_rows, max_bytes)
    except DriverError as exc:
        if exc.errno == DUPLICATE_KEY:  # of a hybrid table: it is there, and will be next time
            raise TerminalError(_text(exc.errno, exc.raw_msg or str(exc))) from exc
        raise
    result = {
        "columns": names,
        "rows": kept,
        "row_count": len(kept),
        "truncated": truncated,
        "query_id": history.queries[-1].query_id if history.queries else None,
        "seconds": round(time.monotonic() - started, 3),
    }
    try:
        encode_result(result, max_bytes)
    except InvalidPayload as exc:
        raise TerminalError(f"{exc}, or lower payload.max_rows") from exc
    return result


def _parameters(request: Request, step: Step) -> dict[str, str]:
    return {
        "QUERY_TAG": f"fleetq {step.pod_id} snowflake_sql {step.step_id}",
        "STATEMENT_TIMEOUT_IN_SECONDS": str(request.timeout_s),
        "STATEMENT_QUEUED_TIMEOUT_IN_SECONDS": str(request.timeout_s),
    }


# -- rows -------------------------------------------------------------------------------------------------------------


def _columns(frame: Any) -> list[tuple[str, bool]]:
    """The name of each column, and whether its text is JSON."""
    from snowflake.snowpark.types import ArrayType, MapType, StructType, VariantType

    json_types = (ArrayType, MapType, StructType, VariantType)
    return [(_unquoted(field.name), isinstance(field.datatype, json_types)) for field in frame.schema.fields]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _kept(
    rows: Iterator[Any], columns: list[tuple[str, bool]] | None, max_rows: int, max_bytes: int
) -> tuple[list[list[Any]], list[str], bool]:
    """(rows, names of columns, whether there are more). Raises TerminalError once they are too large to keep."""
    kept: list[list[Any]] = []
    size = 0
    for row in rows:
        columns = columns or [(name, False) for name in row.as_dict()]
        if len(kept) == max_rows:
            return kept, [name for name, _ in columns], True
        values = [_plain(value, is_json) for value, (_, is_json) in zip(row, columns, strict=True)]
        size += len(json.dumps(values, ensure_ascii=False))
        if size > max_bytes:
            raise TerminalError(
                f"the result is over {max_bytes:,} bytes (FLEET_Q_MAX_PAYLOAD_BYTES) after {len(kept) + 1:,} rows; "
                "select less, lower payload.max_rows, or write it to a table and pass its name"
            )
        kept.append(values)
    return kept, [name for name, _ in columns or ()], False


def _plain(value: Any, is_json: bool) -> Any:
    """A value as JSON: numbers that a float would change, times and binary as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _parsed(value) if is_json else value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return value if abs(value) != float("inf") and value == value else str(value)
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, Decimal):
        return format(value, "f")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


# -- sessions ---------------------------------------------------------------------------------------------------------


class _Sessions:
    """Signed-in sessions, each lent to one step at a time; a few stay for the next steps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[tuple[str, int], PatientConnection]] = []
        self._registered = False

    @contextmanager
    def lent(self, config: Config, request: Request) -> Iterator[PatientConnection]:
        """A connection for one statement. After an error, or a statement that may have changed it, it is closed."""
        settings = config.snowflake_settings()
        # A session waits for as long as its statements may take: on a dead network no step hangs for longer.
        key = (repr(sorted(settings.items())), request.timeout_s)
        connection = self._taken(key) or _opened(settings, config.pod_id, request.timeout_s)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if request.verb in HARMLESS:
            self._give_back(key, connection)
        else:
            connection.close()

    def _taken(self, key: tuple[str, int]) -> PatientConnection | None:
        with self._lock:
            for index in reversed(range(len(self._idle))):
                if self._idle[index][0] == key:
                    return self._idle.pop(index)[1]
        return None

    def _give_back(self, key: tuple[str, int], connection: PatientConnection) -> None:
        with self._lock:
            if not self._registered:
                atexit.register(self.close)
                self._registered = True
            self._idle.append((key, connection))
            surplus = self._idle.pop(0)[1] if len(self._idle) > MAX_IDLE else None
        if surplus is not None:
            surplus.close()

    def close(self) -> None:
        """Close those that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()


_sessions = _Sessions()


def _opened(settings: dict[str, Any], pod_id: str, timeout_s: int) -> PatientConnection:
    try:
        import snowflake.snowpark  # noqa: F401  a second, which no statement should seem to take

        from fleetq_core.store.snowpark import PatientConnection
    except ModuleNotFoundError as exc:
        raise TerminalError(f"snowflake_sql needs the package of {exc.name}: pip install -r requirements.txt") from exc
    return PatientConnection(settings, pod_id, "snowflake_sql", timeout_s)


def _settings() -> Config:
    try:
        config = load_config()
    except ConfigError as exc:
        raise TerminalError(f"the settings of this pod cannot be read: {'; '.join(exc.problems)}") from exc
    problems = config.snowflake_problems()
    if problems:
        raise TerminalError(f"snowflake_sql has no Snowflake to run on: {'; '.join(problems)}")
    return config


def _said(exc: StoreError) -> str:
    """What Snowflake says, without the advice that is meant for the queue's own tables."""
    cause = exc.__cause__
    return _text(getattr(cause, "errno", None), getattr(cause, "raw_msg", None) or str(exc))


def _text(errno: int | None, text: str) -> str:
    said = " ".join(text.split())[:1000]
    number = f"{errno:06d}" if errno else ""
    return f"Snowflake: {said}" if number in said else f"Snowflake: {number}: {said}"


# -- the payload ------------------------------------------------------------------------------------------------------


def _request(payload: dict[str, Any]) -> Request:
    sql, call = payload.get("sql"), payload.get("call")
    if (sql is None) == (call is None):
        raise TerminalError("payload needs sql, a statement, or call, the name of a procedure; and not both")
    params = _params(payload.get("params", []))
    if call is not None:
        if not isinstance(call, str) or not PROCEDURE.fullmatch(call):
            raise TerminalError(
                f"payload.call is {call!r}; it must be a procedure's name, such as MY_DB.MY_SCHEMA.MY_PROC"
            )
        sql = f"CALL {call}({', '.join('?' * len(params))})"
    elif not isinstance(sql, str) or not sql.strip() or len(sql) > MAX_SQL:
        raise TerminalError(f"payload.sql must be one statement, as text of at most {MAX_SQL:,} characters")
    max_rows = _whole(payload, "max_rows", DEFAULT_ROWS, MAX_ROWS)
    return Request(sql, params, max_rows, _whole(payload, "timeout_s", DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S))


def _params(params: Any) -> tuple[Any, ...]:
    if not isinstance(params, Sequence) or isinstance(params, str) or len(params) > MAX_PARAMS:
        raise TerminalError(
            f"payload.params must be a list of at most {MAX_PARAMS:,} values, one for each question mark"
        )
    # Snowflake binds no objects: they go as JSON text, for PARSE_JSON(?).
    return tuple(json.dumps(value) if isinstance(value, dict | list) else value for value in params)


def _whole(payload: dict[str, Any], name: str, default: int, most: int) -> int:
    value = payload.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise TerminalError(f"payload.{name} is {value!r}; it must be a whole number from 1 to {most:,}")
    return value
