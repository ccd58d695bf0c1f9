"""`connect(session=…)`: the queue over a Snowpark session that the caller keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import snowflake.connector
from snowflake.snowpark import Session

from fleetq_core import Pod, connect
from fleetq_core.config import Config
from fleetq_core.errors import ConfigError, NotAllowed, StoreError, StoreUnavailable
from fleetq_core.model import Identity, Status
from fleetq_core.store import open_snowflake
from fleetq_core.tasks import TaskRegistry
from tests.support.server_faults import ServerFaults

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(snowflake_schemas: Callable[[], dict[str, str]], make_config: Callable[..., Config]) -> dict[str, Any]:
    """How to connect to a schema of the test's own, with the tables of a queue in it."""
    variables = {name.lower(): value for name, value in snowflake_schemas().items()}
    config = make_config(store="snowflake", **variables)
    open_snowflake(config, create=True).close()
    return {name.removeprefix("snowflake_"): value for name, value in variables.items()}


@pytest.fixture
def session(settings: dict[str, Any]) -> Iterator[Session]:
    opened = Session.builder.configs(settings).create()
    yield opened
    opened.close()


@pytest.fixture
def full_config(make_config: Callable[..., Config], settings: dict[str, Any]) -> Callable[..., Config]:
    """A config that can sign in by itself too."""

    def make(**override: Any) -> Config:
        return make_config(**{f"snowflake_{name}": value for name, value in settings.items()}, **override)

    return make


def test_a_queue_on_a_session_works_and_leaves_the_session_open(session: Session, make_config: Any) -> None:
    queue = connect(make_config(), session=session)
    step_id = queue.submit_step({"task_type": "t", "x": [1]})
    (step,) = queue.claim_steps(5)
    queue.complete_step(step, {"ok": True})
    found = queue.get_step(step_id)
    assert found is not None
    assert (found.status, found.result) == (Status.COMPLETED, {"ok": True})
    queue.close()
    assert session.sql("SELECT COUNT(*) AS n FROM step_tracker").collect()[0][0] == 1
    with pytest.raises(StoreUnavailable, match="closed"):
        queue.stats()


def test_its_history_is_read_with_the_callers_session(session: Session, make_config: Any) -> None:
    queue = connect(make_config(), session=session)
    who = Identity("pod-x", "inc-x")
    queue.store.register_pod(who, {})
    queue.store.take_sample(who, 10.0, 60.0)
    with session.query_history() as history:
        (hour,) = queue.store.work_history(0.0, 3600.0)
    assert (hour.start_ts % 3600, hour.completed) == (0, 0)
    assert any("fleet_sample" in query.sql_text.lower() for query in history.queries)


def test_limits_go_with_each_statement_and_the_session_keeps_its_own(
    session: Session, make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = connect(make_config(), session=session)
    told: list[dict[str, str]] = []
    cursor = session.connection.cursor

    def listened(*args: Any) -> Any:
        made = cursor(*args)
        execute = made.execute

        def noted(text: str, *rest: Any, **options: Any) -> Any:
            assert "ALTER SESSION" not in text
            told.append(options["_statement_params"])
            return execute(text, *rest, **options)

        made.execute = noted
        return made

    monkeypatch.setattr(session.connection, "cursor", listened)
    queue.stats()
    (asked,) = told
    assert asked["TIMEZONE"] == "UTC"
    assert asked["QUERY_TAG"].startswith("fleetq pod-a")
    assert int(asked["LOCK_TIMEOUT"]) < int(asked["STATEMENT_TIMEOUT_IN_SECONDS"])


def test_what_is_no_session_is_refused(make_config: Any) -> None:
    with pytest.raises(ConfigError, match="str is no Snowpark session"):
        connect(make_config(), session="session")


def test_a_connection_that_binds_in_another_way_is_refused(settings: dict[str, Any], make_config: Any) -> None:
    with snowflake.connector.connect(**settings, paramstyle="pyformat") as driver:
        other = Session.builder.configs({"connection": driver}).create()
        with pytest.raises(ConfigError, match=r"pyformat.*qmark"):
            connect(make_config(), session=other)
        other.close()


def test_a_session_without_autocommit_is_refused(session: Session, make_config: Any) -> None:
    session.sql("ALTER SESSION SET AUTOCOMMIT = FALSE").collect()
    with pytest.raises(StoreError, match="ALTER SESSION SET AUTOCOMMIT = TRUE"):
        connect(make_config(), session=session)


def test_a_session_in_a_transaction_is_refused(
    session: Session, make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fleetq_core.store.snowflake_on_session import SessionConnection

    rows = SessionConnection.rows

    def in_transaction(self: Any, statement: Any, bind: Any, **options: Any) -> Any:
        return (
            [("1700000000",)] if "CURRENT_TRANSACTION" in statement.parts[0] else rows(self, statement, bind, **options)
        )

    monkeypatch.setattr(SessionConnection, "rows", in_transaction)  # this server never tells of one
    with pytest.raises(StoreError, match="in a transaction"):
        connect(make_config(), session=session)


def test_a_session_that_has_left_the_schema_is_not_used(session: Session, make_config: Any) -> None:
    queue = connect(make_config(), session=session)
    home = str(session.connection.schema)
    session.sql("CREATE SCHEMA IF NOT EXISTS elsewhere").collect()
    session.use_schema("elsewhere")
    with pytest.raises(StoreError, match=f"has left .*{home}"):
        queue.stats()
    session.use_schema(home)
    assert queue.stats().pending == 0


def test_a_session_that_has_ended_is_told_in_one_line(settings: dict[str, Any], make_config: Any) -> None:
    session = Session.builder.configs(settings).create()
    queue = connect(make_config(), session=session)
    session.close()
    with pytest.raises(StoreUnavailable, match="has ended: open another"):
        queue.stats()


def test_an_expired_session_is_not_signed_in_again(
    session: Session, make_config: Any, snowflake_settings: dict[str, Any]
) -> None:
    faults = ServerFaults(snowflake_settings["port"])
    queue = connect(make_config(), session=session)
    faults.add("stats", "error:390111", times=2)
    faults.add("", "watch", on="login")
    try:
        with pytest.raises(StoreUnavailable, match="390111"):
            queue.stats()
        assert len(faults.hits()) == 2
    finally:
        faults.clear()


def test_a_pod_without_settings_of_its_own_says_what_to_set(session: Session, make_config: Any) -> None:
    pod = Pod(connect(make_config(), session=session), tasks=TaskRegistry())
    with pytest.raises(ConfigError, match=r"(?s)connections of its own.*SNOWFLAKE_ACCOUNT"):
        pod.start()


def test_a_pod_signs_in_beside_the_session(session: Session, full_config: Callable[..., Config]) -> None:
    tasks = TaskRegistry()
    tasks.task("double")(lambda step: step.payload["n"] * 2)
    config = full_config(heartbeat_interval=1.0, claim_interval=0.1, dead_pod_threshold=30.0, stop_grace=5.0)
    queue = connect(config, session=session)
    pod = Pod(queue, tasks=tasks)
    pod.start()
    try:
        assert queue.wait(queue.submit_step({"task_type": "double", "n": 21}), 60).result == 42
    finally:
        pod.stop()
    assert not session.connection.is_closed()


@pytest.mark.parametrize("name", ["database", "schema", "account"])
def test_a_pod_never_works_on_another_queue(session: Session, full_config: Callable[..., Config], name: str) -> None:
    config = full_config().model_copy(update={f"snowflake_{name}": "ANOTHER"})
    pod = Pod(connect(config, session=session), tasks=TaskRegistry())
    with pytest.raises(ConfigError, match=f"SNOWFLAKE_{name.upper()}=ANOTHER is not the session's"):
        pod.start()


def test_a_viewer_on_a_session_changes_nothing(session: Session, make_config: Any) -> None:
    queue = connect(make_config(role="viewer"), session=session)
    assert queue.stats().pending == 0
    with pytest.raises(NotAllowed):
        queue.submit_step({"task_type": "t"})
