"""The Snowflake connection without a Snowflake: what errors mean, what a session is set to, what is tried again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from snowflake.connector.errors import DatabaseError, OperationalError, ProgrammingError

from fleetq_core.errors import StoreError, StoreUnavailable
from fleetq_core.store import snowflake_connection as driver
from fleetq_core.store.snowflake_binds import MOST_JSON, json_sets
from fleetq_core.store.snowflake_connection import SnowflakeConnection, Statement
from fleetq_core.store.snowflake_errors import After, message, verdict

ASK = Statement.of("ask", "SELECT * FROM t WHERE a = :a AND b::VARCHAR = :b AND v[0]:c = :a LIMIT :limit")
PROBE = Statement.of("probe", "SELECT 1")


class FakeDriver:
    """Plays the driver: answers with what `script` holds, one entry a statement; an exception in it is raised."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.connects: list[dict[str, Any]] = []
        self.executed: list[tuple[str, Any, Any]] = []
        self.closed = 0
        self.rowcount = 1
        self._answer: Sequence[Any] = ()

    def connect(self, **settings: Any) -> FakeDriver:
        self.connects.append(settings)
        return self

    def cursor(self) -> FakeDriver:
        return self

    def __enter__(self) -> FakeDriver:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, text: str, values: Any = None, _statement_params: Any = None) -> None:
        self.executed.append((text, values, _statement_params))
        answer = self.script.pop(0) if self.script else []
        if isinstance(answer, Exception):
            raise answer
        self._answer = answer

    def fetchall(self) -> Sequence[Any]:
        return self._answer

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    made = FakeDriver()
    monkeypatch.setattr(driver.snowflake.connector, "connect", made.connect)
    return made


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def db(fake: FakeDriver, pauses: list[float]) -> SnowflakeConnection:
    return SnowflakeConnection({"account": "a"}, "pod-1", pause=pauses.append, monotonic=lambda: sum(pauses))


def error(errno: int | None, kind: type[Exception] = ProgrammingError) -> Exception:
    return kind(msg=f"{errno}: no", errno=errno)


# -- the package ------------------------------------------------------------------------------------------------------

OPEN = """
import sys
{before}
from fleetq_core.config import Config
from fleetq_core.errors import ConfigError
from fleetq_core.store import open_store
try:
    open_store(Config(**{settings})).close()
except ConfigError as exc:
    print(exc)
print("snowflake.connector" in sys.modules and sys.modules["snowflake.connector"] is not None)
"""


def opened(before: str = "", **settings: str) -> list[str]:
    program = OPEN.format(before=before, settings=settings)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def test_a_pod_on_sqlite_does_not_load_the_driver(tmp_path: Path) -> None:
    assert opened(store=f"sqlite:///{tmp_path}/q.db") == ["False"]


def test_without_the_driver_the_store_says_what_to_install() -> None:
    place = {f"snowflake_{name}": "x" for name in ("account", "database", "schema", "user", "password")}
    line, _ = opened('sys.modules["snowflake.connector"] = None', store="snowflake", **place)
    assert line.startswith("FLEET_Q_STORE=snowflake: ")
    assert "pip install snowflake-connector-python" in line


# -- what errors mean -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ProgrammingError, DatabaseError, OperationalError])
@pytest.mark.parametrize(
    ("errno", "raised", "after"),
    [
        (625, StoreUnavailable, After.WAIT),
        (200001, StoreUnavailable, After.WAIT),
        (390111, StoreUnavailable, After.SIGN_IN),
        (390112, StoreUnavailable, After.SIGN_IN),
        (390114, StoreUnavailable, After.SIGN_IN),
        (250002, StoreUnavailable, After.SIGN_IN),
        (250001, StoreUnavailable, After.DOUBT),
        (250003, StoreUnavailable, After.DOUBT),
        (14, StoreUnavailable, After.DOUBT),
        (630, StoreUnavailable, After.DOUBT),
        (604, StoreUnavailable, After.DOUBT),
        (606, StoreError, After.GIVE_UP),
        (2003, StoreError, After.GIVE_UP),
        (3001, StoreError, After.GIVE_UP),
        (390100, StoreError, After.GIVE_UP),
        (390189, StoreError, After.GIVE_UP),
        (1003, StoreError, After.GIVE_UP),
        (None, StoreError, After.GIVE_UP),
    ],
)
def test_an_error_is_judged_by_its_number_and_not_by_its_class(
    db: SnowflakeConnection, fake: FakeDriver, errno: int | None, raised: type, after: After, kind: Any
) -> None:
    assert (verdict(errno).error, verdict(errno).after) == (raised, after)
    fake.script = [error(errno, kind)] * 500
    with pytest.raises(StoreError) as caught:
        db.rows(PROBE, {})
    assert type(caught.value) is raised
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("errno", "way_out"),
    [
        (390100, "SNOWFLAKE_USER"),
        (90105, "SNOWFLAKE_DATABASE"),
        (90106, "SNOWFLAKE_SCHEMA"),
        (606, "SNOWFLAKE_WAREHOUSE"),
        (390189, "SNOWFLAKE_ROLE"),
        (2003, "fleetq schema --apply"),
        (3001, "what to grant"),
        (250001, "SNOWFLAKE_ACCOUNT"),
    ],
)
def test_each_common_mistake_is_one_line_with_the_way_out(errno: int, way_out: str) -> None:
    line = message(errno, f"{errno:06d} (42S02): SQL compilation error:\nObject does not exist")
    assert line.startswith(f"Snowflake: {errno:06d} (42S02): SQL compilation error:")
    assert way_out in line
    assert "\n" not in line


# -- the session ------------------------------------------------------------------------------------------------------


def test_a_session_is_opened_late_with_its_whole_profile(db: SnowflakeConnection, fake: FakeDriver) -> None:
    assert fake.connects == []
    db.rows(PROBE, {})
    db.rows(PROBE, {})
    (settings,) = fake.connects
    profile = settings["session_parameters"]
    assert (settings["paramstyle"], settings["autocommit"], settings["account"]) == ("qmark", True, "a")
    assert (profile["TIMEZONE"], profile["AUTOCOMMIT"], profile["ABORT_DETACHED_QUERY"]) == ("UTC", True, True)
    assert (profile["ERROR_ON_NONDETERMINISTIC_UPDATE"], profile["ERROR_ON_NONDETERMINISTIC_MERGE"]) == (True, True)
    assert 0 < profile["LOCK_TIMEOUT"] < profile["STATEMENT_TIMEOUT_IN_SECONDS"] < settings["network_timeout"]
    assert "READ_LATEST_WRITES" not in profile
    assert profile["QUERY_TAG"].startswith("fleetq pod-1 ")
    assert fake.executed[0][2] == {"QUERY_TAG": "fleetq pod-1 probe"}


def test_hybrid_tables_read_the_latest_writes_on_every_session(db: SnowflakeConnection, fake: FakeDriver) -> None:
    db.rows(PROBE, {})
    db.use_hybrid()
    fake.script = [error(390111)]
    db.rows(PROBE, {})
    texts = [text for text, *_ in fake.executed]
    assert texts.count("ALTER SESSION SET READ_LATEST_WRITES = TRUE") == 2
    assert len(fake.connects) == 2
    assert db.again().hybrid


def test_an_account_without_such_a_setting_is_used_all_the_same(
    db: SnowflakeConnection, fake: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    db.rows(PROBE, {})
    fake.script = [error(1003)]
    db.use_hybrid()
    assert "does not take READ_LATEST_WRITES" in caplog.text
    assert db.rows(PROBE, {}) == []


def test_a_key_that_cannot_be_read_is_told_without_a_traceback(
    db: SnowflakeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise ValueError("Could not deserialize key data")

    monkeypatch.setattr(driver.snowflake.connector, "connect", refuse)
    with pytest.raises(StoreError, match="cannot sign in: ValueError: Could not deserialize"):
        db.rows(PROBE, {})


# -- trying again -----------------------------------------------------------------------------------------------------


def test_a_full_lock_queue_is_waited_for_with_jitter(
    db: SnowflakeConnection, fake: FakeDriver, pauses: list[float]
) -> None:
    fake.script = [error(625), error(625), error(625), [(1,)]]
    assert db.rows(PROBE, {}) == [(1,)]
    assert len(pauses) == 3
    assert all(0 <= pause <= 0.2 for pause in pauses)


def test_a_lock_queue_that_stays_full_is_the_callers_business(
    db: SnowflakeConnection, fake: FakeDriver, pauses: list[float]
) -> None:
    fake.script = [error(625)] * 1000
    with pytest.raises(StoreUnavailable, match="wait for the lock"):
        db.rows(PROBE, {})
    assert driver.RETRY_FOR_S <= sum(pauses) < driver.RETRY_FOR_S + driver.RETRY_MAX_S


@pytest.mark.parametrize("errno", [390111, 390112, 390114, 250002])
def test_a_lost_session_is_opened_anew_once(db: SnowflakeConnection, fake: FakeDriver, errno: int) -> None:
    fake.script = [error(errno), [(1,)], error(errno), error(errno), [(1,)]]
    assert db.rows(PROBE, {}) == [(1,)]
    assert (len(fake.connects), fake.closed) == (2, 1)
    with pytest.raises(StoreUnavailable):
        db.rows(PROBE, {})
    assert db.rows(PROBE, {}) == [(1,)]


@pytest.mark.parametrize("errno", [14, 250001, 250003, 630])
def test_a_statement_that_may_have_run_is_not_run_again_by_itself(
    db: SnowflakeConnection, fake: FakeDriver, errno: int
) -> None:
    fake.script = [error(errno), [(1,)]]
    with pytest.raises(StoreUnavailable):
        db.write(PROBE, {})
    assert len(fake.executed) == 1
    assert db.rows(PROBE, {}) == [(1,)]
    assert len(fake.connects) == 2


def test_a_closed_connection_says_so_and_opens_no_other(db: SnowflakeConnection, fake: FakeDriver) -> None:
    db.rows(PROBE, {})
    db.close()
    db.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        db.rows(PROBE, {})
    assert (len(fake.connects), fake.closed) == (1, 1)


# -- values -----------------------------------------------------------------------------------------------------------


def test_names_become_question_marks_and_limits_constants() -> None:
    text, values = ASK.bound({"a": 1, "b": "x", "limit": 5, "not used": 0})
    assert text == "SELECT * FROM t WHERE a = ? AND b::VARCHAR = ? AND v[0]:c = ? LIMIT 5"
    assert values == [1, "x", 1]
    with pytest.raises(ValueError, match="invalid literal"):
        ASK.bound({"a": 1, "b": "x", "limit": "5; DROP TABLE t"})


def test_times_come_as_seconds_and_numbers_as_floats(db: SnowflakeConnection, fake: FakeDriver) -> None:
    at = 1_800_000_000.123456
    fake.script = [[(driver.timestamp(at), Decimal("1.5"), None, 7, datetime(1970, 1, 1))]]  # noqa: DTZ001
    assert db.rows(PROBE, {}) == [(at, 1.5, None, 7, 0.0)]


def test_sets_are_cut_to_what_one_bind_may_hold() -> None:
    sets = list(json_sets([["x" * 200_000, n] for n in range(5)]))
    assert [count for count, _ in sets] == [2, 2, 1]
    assert all(len(text) < MOST_JSON + 10 for _, text in sets)
    assert list(json_sets([])) == []
