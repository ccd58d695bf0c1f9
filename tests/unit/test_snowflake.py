"""The Snowflake connection without a Snowflake: what errors mean, what a session is set to, what is tried again."""

from __future__ import annotations

import re
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
from fleetq_core.store import snowflake_session, snowflake_sign_in
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
        self.checks: list[Any] = []  # what the session's own look at its parameters was tagged with
        self.in_force: dict[str, Any] = {}  # what the account has made of the parameters that were asked for
        self.refuses_checks: Exception | None = None
        self.closed = 0
        self.rowcount = 1
        self._answer: Sequence[Any] = ()
        self._network_timeout = self._socket_timeout = 0

    def connect(self, **settings: Any) -> FakeDriver:
        self.connects.append(settings)
        self.parameters = dict(settings["session_parameters"])
        return self

    def cursor(self) -> FakeDriver:
        return self

    def __enter__(self) -> FakeDriver:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, text: str, values: Any = None, _statement_params: Any = None) -> None:
        if text == "SHOW PARAMETERS IN SESSION":
            self._check(_statement_params)
            return
        if (told := re.fullmatch(r"ALTER SESSION SET (\w+) = (\w+)", text)) and not self.script:
            self.parameters[told[1]] = told[2]
        self.executed.append((text, values, _statement_params))
        answer = self.script.pop(0) if self.script else []
        if isinstance(answer, Exception):
            raise answer
        self._answer = answer

    def _check(self, parameters: Any) -> None:
        self.checks.append(parameters["QUERY_TAG"])
        if self.refuses_checks:
            raise self.refuses_checks
        shown = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in
                 (self.parameters | self.in_force).items()}  # fmt: skip
        self._answer = [(name, value, "", "SESSION", "", "") for name, value in shown.items() if value != "None"]

    def fetchall(self) -> Sequence[Any]:
        return self._answer

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    made = FakeDriver()
    monkeypatch.setattr(snowflake_sign_in.snowflake.connector, "connect", made.connect)
    monkeypatch.setattr(snowflake_session, "_told", set())
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
    assert 0 < profile["LOCK_TIMEOUT"] < profile["STATEMENT_TIMEOUT_IN_SECONDS"] < fake._network_timeout
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
    assert db.rows(PROBE, {}) == []
    assert "does not take READ_LATEST_WRITES" in caplog.text


# -- whether it is in force -------------------------------------------------------------------------------------------


def test_the_parameters_are_read_back_once_after_each_sign_in(
    db: SnowflakeConnection, fake: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    db.rows(PROBE, {})
    db.rows(PROBE, {})
    assert fake.checks == ["fleetq pod-1 session"]
    fake.script = [error(390111)]
    db.rows(PROBE, {})
    assert len(fake.checks) == 2
    db.use_hybrid()
    db.rows(PROBE, {})
    db.rows(PROBE, {})
    assert len(fake.checks) == 3
    assert caplog.text == ""


@pytest.mark.parametrize(("name", "found"), [("AUTOCOMMIT", False), ("TIMEZONE", "America/Los_Angeles")])
@pytest.mark.parametrize("sign_ins", [1, 2])
def test_a_session_that_is_not_safe_is_not_used(
    db: SnowflakeConnection, fake: FakeDriver, name: str, found: Any, sign_ins: int
) -> None:
    if sign_ins == 2:
        db.rows(PROBE, {})
        fake.script = [error(390111)]
        before = len(fake.executed) + 1
    else:
        before = 0
    fake.in_force[name] = found
    with pytest.raises(StoreError, match=rf"has {name} = {str(found).replace('False', 'false')}, and .* was asked for"):
        db.write(PROBE, {})
    assert len(fake.executed) == before
    assert db._driver is None
    del fake.in_force[name]
    assert db.rows(PROBE, {}) == []


def test_another_setting_of_the_account_is_one_warning(
    db: SnowflakeConnection, fake: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    fake.in_force |= {"LOCK_TIMEOUT": 43200, "READ_LATEST_WRITES": False, "ABORT_DETACHED_QUERY": None}
    db.use_hybrid()
    db.rows(PROBE, {})
    fake.script = [error(390111)]
    db.rows(PROBE, {})
    lines = sorted(record.getMessage() for record in caplog.records)
    assert len(lines) == 3
    assert lines[0].startswith("Snowflake does not show ABORT_DETACHED_QUERY")
    assert "LOCK_TIMEOUT = 43200, and 10 was asked for" in lines[1]
    assert "READ_LATEST_WRITES = false, and true was asked for" in lines[2]
    fake.in_force["LOCK_TIMEOUT"] = 0
    fake.script = [error(390111)]
    db.rows(PROBE, {})
    assert len(caplog.records) == 4


def test_a_session_that_cannot_be_checked_is_used_with_a_warning(
    db: SnowflakeConnection, fake: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    fake.refuses_checks = error(3001)
    assert db.rows(PROBE, {}) == []
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the Snowflake session could not be checked"
    ]


def test_a_check_without_an_answer_is_an_outage_and_no_session(db: SnowflakeConnection, fake: FakeDriver) -> None:
    fake.refuses_checks = error(250003)
    with pytest.raises(StoreUnavailable):
        db.rows(PROBE, {})
    assert db._driver is None
    fake.refuses_checks = None
    assert db.rows(PROBE, {}) == []


# -- how long a role may wait -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["", "dashboard", "claim", "settle", "lead", "beat"])
@pytest.mark.parametrize("threshold", [0.5, 3.0, 6.0, 60.0, 900.0, 86_400.0])
def test_the_server_ends_a_statement_before_the_driver_leaves_it(role: str, threshold: float) -> None:
    limits = snowflake_session.limits_of(role, threshold / 3)
    assert 1 <= limits.lock_s <= limits.statement_s < limits.network_s <= 90
    assert 1 <= limits.login_s <= 10
    assert 1 <= limits.socket_s < limits.network_s


def test_a_heartbeat_waits_no_longer_than_its_lease_allows_and_a_page_no_minute() -> None:
    for threshold in (6.0, 30.0, 60.0):
        beat = snowflake_session.limits_of("beat", threshold / 3)
        assert beat.network_s + 2 * beat.login_s < threshold
        assert beat.statement_s < threshold / 3
    assert snowflake_session.limits_of("").network_s < 60
    assert snowflake_session.limits_of("dashboard") == snowflake_session.limits_of("")
    assert snowflake_session.limits_of("claim").statement_s == 60


def test_each_role_asks_for_its_own_limits_and_a_heartbeat_stops_trying_sooner(fake: FakeDriver) -> None:
    pauses: list[float] = []
    root = SnowflakeConnection(
        {"account": "a"}, "pod-1", patience_s=4.0, pause=pauses.append, monotonic=lambda: sum(pauses)
    )
    beat = root.again("beat")
    beat.rows(PROBE, {})
    root.again("claim").rows(PROBE, {})
    locks = [told["session_parameters"]["LOCK_TIMEOUT"] for told in fake.connects]
    assert locks == [2, 20]
    fake.script = [error(625)] * 1000
    with pytest.raises(StoreUnavailable):
        beat.rows(PROBE, {})
    assert 4.0 <= sum(pauses) < 4.0 + driver.RETRY_MAX_S


def test_a_sign_in_is_given_up_sooner_than_a_statement(db: SnowflakeConnection, fake: FakeDriver) -> None:
    """Connector 4 tries a sign-in again for as long as `network_timeout` says, whatever `login_timeout` is."""
    db.rows(PROBE, {})
    (settings,) = fake.connects
    assert (settings["network_timeout"], settings["socket_timeout"], settings["login_timeout"]) == (10, 10, 10)
    assert (fake._network_timeout, fake._socket_timeout) == (40, 15)


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
