"""The task `snowflake_sql` through the genuine Snowpark, against a Snowflake of this machine that fails when told to."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleetq_core.builtin import snowflake_sql as module
from fleetq_core.builtin.snowflake_sql import Request, snowflake_sql
from fleetq_core.config import Config
from fleetq_core.errors import StoreError, StoreUnavailable, TerminalError
from fleetq_core.model import Status, Step
from fleetq_core.pod import Pod
from fleetq_core.queue import Queue
from fleetq_core.store import open_store
from tests.support.server_faults import ServerFaults

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def sessions(snowflake_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A pod's environment, with sessions of the test's own."""
    for name, value in snowflake_settings.items():
        monkeypatch.setenv(f"SNOWFLAKE_{name.upper()}", str(value))
    fresh = module._Sessions()
    monkeypatch.setattr(module, "_sessions", fresh)
    yield fresh
    fresh.close()


@pytest.fixture
def faults(snowflake_settings: dict[str, Any]) -> Iterator[ServerFaults]:
    control = ServerFaults(snowflake_settings["port"])
    yield control
    control.clear()


@pytest.fixture
def table(sessions: Any) -> Iterator[str]:
    """A table with a row of every kind of value."""
    run(sql="CREATE OR REPLACE TABLE kinds (i INTEGER, d DECIMAL(10, 2), f FLOAT, s VARCHAR, b BOOLEAN, bin BINARY, "
            "day DATE, moment TIMESTAMP_NTZ, v VARIANT, o OBJECT, n INTEGER)")  # fmt: skip
    run(
        sql="INSERT INTO kinds SELECT ?, 1.50, ?, ?, TRUE, TO_BINARY('ff00', 'hex'), '2026-01-02'::DATE, "
        "'2026-01-02 03:04:05.5'::TIMESTAMP_NTZ, PARSE_JSON(?), PARSE_JSON(?), NULL",
        params=[7, 0.25, "it's \" ? :1 -- x", [1, {"a": None}], {"k": "v"}],
    )
    yield "kinds"
    run(sql="DROP TABLE kinds")


def step(**payload: Any) -> Step:
    return Step("step-1", {"task_type": "snowflake_sql", **payload}, 0, 0, "token", "pod-a")


def run(**payload: Any) -> dict[str, Any]:
    result = snowflake_sql(step(**payload))
    json.dumps(result, allow_nan=False)
    return result


def test_every_kind_of_value_comes_back_as_json(table: str) -> None:
    found = run(sql=f"SELECT * FROM {table}")
    assert dict(zip(found["columns"], found["rows"][0], strict=True)) == {
        "I": 7, "D": "1.50", "F": 0.25, "S": "it's \" ? :1 -- x", "B": True, "BIN": "ff00", "DAY": "2026-01-02",
        "MOMENT": "2026-01-02T03:04:05.500000", "V": [1, {"a": None}], "O": {"k": "v"}, "N": None,
    }  # fmt: skip
    assert (found["row_count"], found["truncated"]) == (1, False)
    assert found["query_id"]
    assert found["seconds"] >= 0


def test_values_are_bound_and_never_spliced(table: str) -> None:
    evil = "x' OR 1 = 1; DROP TABLE kinds --"
    assert run(sql="SELECT COUNT(*) AS n FROM kinds WHERE s = ?", params=[evil])["rows"] == [[0]]
    assert run(sql="SELECT ? AS v", params=[evil])["rows"] == [[evil]]
    assert run(sql="SELECT COUNT(*) AS n FROM kinds")["rows"] == [[1]]


def test_a_result_without_rows_still_names_its_columns(table: str) -> None:
    found = run(sql='SELECT i, s AS "a b" FROM kinds WHERE i > ?', params=[100])
    assert (found["columns"], found["rows"], found["row_count"], found["truncated"]) == (["I", "a b"], [], 0, False)


def test_two_columns_of_one_name_are_both_kept(sessions: Any) -> None:
    assert run(sql="SELECT 1 AS a, 2 AS a")["rows"] == [[1, 2]]


def test_a_write_tells_how_many_rows(table: str) -> None:
    found = run(sql="UPDATE kinds SET i = i + ?", params=[1])
    assert found["rows"][0][0] == 1
    assert run(sql="SELECT i FROM kinds")["rows"] == [[8]]


@pytest.mark.parametrize(("rows", "kept", "truncated"), [(4, 3, True), (3, 3, False)])
def test_rows_beyond_the_limit_are_left_out_and_it_says_so(
    sessions: Any, rows: int, kept: int, truncated: bool
) -> None:
    found = run(sql=f"SELECT SEQ4() AS n FROM TABLE(GENERATOR(ROWCOUNT => {rows}))", max_rows=3)
    assert (found["row_count"], len(found["rows"]), found["truncated"]) == (kept, kept, truncated)


def test_a_result_that_no_step_may_hold_fails_for_good(sessions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_Q_MAX_PAYLOAD_BYTES", "1024")
    sql = "SELECT REPEAT('x', 100) AS t FROM TABLE(GENERATOR(ROWCOUNT => 50))"
    with pytest.raises(TerminalError, match=r"over 1,024 bytes \(FLEET_Q_MAX_PAYLOAD_BYTES\).*max_rows"):
        run(sql=sql)
    assert run(sql=sql, max_rows=5)["row_count"] == 5


def test_a_statement_is_tagged_and_limited_on_the_server(sessions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from snowflake.connector.cursor import SnowflakeCursor

    told: list[dict[str, str]] = []
    execute = SnowflakeCursor.execute

    def listened(self: Any, command: str, *args: Any, **options: Any) -> Any:
        if "marked" in command and not options.get("_describe_only") and not options.get("_is_internal"):
            told.append(options.get("_statement_params") or {})
        return execute(self, command, *args, **options)

    monkeypatch.setattr(SnowflakeCursor, "execute", listened)
    run(sql="SELECT 'marked' AS m", timeout_s=7)
    (asked,) = told
    assert asked["QUERY_TAG"] == "fleetq pod-a snowflake_sql step-1"
    assert asked["STATEMENT_TIMEOUT_IN_SECONDS"] == asked["STATEMENT_QUEUED_TIMEOUT_IN_SECONDS"] == "7"


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "said"),
    [("SELEC 1", "001003"), ("SELECT * FROM nowhere", "002003"), ("SELECT ? AS a", "Snowflake")],
    ids=["syntax", "no such table", "no value"],
)
def test_sql_that_is_wrong_fails_for_good(sessions: Any, sql: str, said: str) -> None:
    with pytest.raises(TerminalError, match=said) as caught:
        run(sql=sql)
    assert "fleetq schema" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("code", "kind"), [(3001, TerminalError), (200001, TerminalError), (630, StoreUnavailable)])
def test_what_snowflake_refuses_is_final_and_what_passes_is_not(
    sessions: Any, faults: ServerFaults, code: int, kind: type[Exception]
) -> None:
    run(sql="SELECT 1 AS warm")
    faults.add("SELECT 2", f"error:{code}")
    with pytest.raises(kind, match=f"{code:06d}"):
        run(sql="SELECT 2 AS two")


def test_a_full_lock_queue_is_waited_for(sessions: Any, faults: ServerFaults) -> None:
    faults.add("SELECT 3", "error:625", times=2)
    assert run(sql="SELECT 3 AS three")["rows"] == [[3]]
    assert len(faults.hits()) == 2


@pytest.mark.parametrize("code", [390111, 390114])
def test_a_session_that_has_ended_is_replaced_within_the_step(sessions: Any, faults: ServerFaults, code: int) -> None:
    run(sql="SELECT 1 AS warm")
    faults.add("SELECT 4", f"error:{code}", times=1)
    assert run(sql="SELECT 4 AS four")["rows"] == [[4]]


def test_a_lost_reply_is_retried_on_a_new_session(sessions: Any, faults: ServerFaults) -> None:
    run(sql="SELECT 1 AS warm")
    faults.add("SELECT 5", "cut_reply", times=1)
    with pytest.raises(StoreUnavailable):
        run(sql="SELECT 5 AS five")
    assert sessions._idle == []
    assert run(sql="SELECT 5 AS five")["rows"] == [[5]]


def test_a_pod_that_cannot_sign_in_lets_the_step_be_retried(sessions: Any, faults: ServerFaults) -> None:
    faults.add("", "error:390100", on="login")
    with pytest.raises(StoreError, match="390100") as caught:
        run(sql="SELECT 1 AS one")
    assert not isinstance(caught.value, TerminalError)
    assert "never-printed" not in str(caught.value)


def test_without_snowflake_settings_it_says_what_to_set() -> None:
    with pytest.raises(TerminalError, match="SNOWFLAKE_ACCOUNT") as caught:
        run(sql="SELECT 1")
    assert "\n" not in str(caught.value)


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_steps_use_one_session_after_the_other(sessions: Any, faults: ServerFaults) -> None:
    faults.add("", "watch", on="login")
    for n in range(3):
        run(sql="SELECT ? AS n", params=[n])
    assert len(faults.hits()) == 1
    assert len(sessions._idle) == 1


def test_what_a_statement_sets_does_not_reach_the_next_step(sessions: Any) -> None:
    for sql in ("ALTER SESSION SET LOCK_TIMEOUT = 1", "/* x */ -- y\n BEGIN", "USE SCHEMA PUBLIC"):
        run(sql="SELECT 1 AS one")
        assert len(sessions._idle) == 1
        run(sql=sql)
        assert sessions._idle == [], sql


def test_two_steps_at_once_have_a_session_each(sessions: Any, faults: ServerFaults) -> None:
    faults.add("", "watch", on="login")
    faults.add("SELECT 6", "slow:0.5")
    together = threading.Barrier(2)

    def work() -> None:
        together.wait(10)
        run(sql="SELECT 6 AS six")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(sessions._idle) == 2


def test_idle_sessions_are_few_and_closed_in_the_end(sessions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IDLE", 2)
    for timeout_s in (11, 12, 13):
        run(sql="SELECT 1 AS one", timeout_s=timeout_s)
    kept = [connection for _, connection in sessions._idle]
    assert [key[1] for key, _ in sessions._idle] == [12, 13]
    sessions.close()
    for connection in kept:
        with pytest.raises(StoreUnavailable, match="closed"):
            connection.with_driver(lambda _: [])


def test_our_sessions_are_not_what_a_program_gets_as_the_active_one(sessions: Any) -> None:
    from snowflake.snowpark import Session

    run(sql="SELECT 1 AS one")
    assert Session.get_active_session() is None


# -- procedures, which this server does not have ------------------------------------------------------------------------


class StubRow(list[Any]):
    def as_dict(self) -> dict[str, Any]:
        return dict(zip(["MY_PROC"], self, strict=True))


class StubSession:
    """Notes what it is asked, and answers as a procedure does."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    @contextmanager
    def query_history(self) -> Iterator[Any]:
        yield SimpleNamespace(queries=[SimpleNamespace(query_id="01-id")])

    def sql(self, text: str, params: Any = None) -> Any:
        self.asked.append((text, params))
        return SimpleNamespace(to_local_iterator=lambda statement_params: iter([StubRow(["done"])]))


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [
        ("MY_PROC", [], "CALL MY_PROC()"),
        ("db.sch.my_proc$1", [1, "it's", None, {"a": 1}], "CALL db.sch.my_proc$1(?, ?, ?, ?)"),
    ],
)
def test_a_call_binds_its_arguments(name: str, params: list[Any], text: str) -> None:
    stub = StubSession()
    request = module._request({"call": name, "params": params})
    found = module._run(stub, request, step(), 10_000)
    bound = [json.dumps(value) if isinstance(value, dict) else value for value in params] or None
    assert stub.asked == [(text, bound)]
    assert (found["columns"], found["rows"], found["query_id"]) == (["MY_PROC"], [["done"]], "01-id")


# -- the payload ------------------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "sql.*or call"),
    ({"sql": "SELECT 1", "call": "P"}, "not both"),
    ({"sql": " "}, "payload.sql"),
    ({"sql": 3}, "payload.sql"),
    ({"call": "P(); DROP TABLE x"}, "payload.call"),
    ({"call": "a.b.c.d"}, "payload.call"),
    ({"call": '"P"'}, "payload.call"),
    ({"call": "P\n"}, "payload.call"),
    ({"sql": "SELECT ?", "params": "x"}, "payload.params"),
    ({"sql": "SELECT ?", "params": {"a": 1}}, "payload.params"),
    ({"sql": "SELECT 1", "max_rows": 0}, "payload.max_rows"),
    ({"sql": "SELECT 1", "max_rows": 10_001}, "payload.max_rows"),
    ({"sql": "SELECT 1", "max_rows": True}, "payload.max_rows"),
    ({"sql": "SELECT 1", "timeout_s": 0.5}, "payload.timeout_s"),
    ({"sql": "SELECT 1", "timeout_s": 901}, "payload.timeout_s"),
]


@pytest.mark.parametrize(("payload", "said"), WRONG, ids=[str(payload)[:50] for payload, _ in WRONG])
def test_a_payload_that_makes_no_sense_fails_for_good(payload: dict[str, Any], said: str) -> None:
    with pytest.raises(TerminalError, match=said):
        run(**payload)


@pytest.mark.parametrize(
    ("sql", "verb"),
    [
        ("select 1", "SELECT"),
        ("  -- c\n/* d\n */ With x", "WITH"),
        ("// e\nCALL p()", "CALL"),
        ("(select 1)", ""),
        ("", ""),
    ],
)
def test_the_verb_of_a_statement(sql: str, verb: str) -> None:
    assert Request(sql, (), 1, 1).verb == verb


# -- in a pod ---------------------------------------------------------------------------------------------------------


def test_a_pod_on_sqlite_runs_it(sessions: Any, make_config: Callable[..., Config]) -> None:
    config = make_config(claim_interval=0.05, heartbeat_interval=0.2, dead_pod_threshold=5.0, stop_grace=5.0)
    queue = Queue(open_store(config), config)
    pod = Pod(queue, config)
    pod.start()
    try:
        good = queue.submit_step({"task_type": "snowflake_sql", "sql": "SELECT ? AS n", "params": [42]})
        bad = queue.submit_step({"task_type": "snowflake_sql", "sql": "SELEC"})
        assert queue.wait(good, 60).result["rows"] == [[42]]  # type: ignore[index,call-overload]
        refused = queue.wait(bad, 60)
        assert (refused.status, refused.retry_count) == (Status.FAILED, 0)
        assert "TerminalError" in (refused.error or "")
    finally:
        pod.stop()
        queue.close()


def test_snowpark_is_loaded_by_nobody_else() -> None:
    program = (
        "import sys; import fleetq_core, fleetq_core.pod, fleetq_core.builtin, fleetq_core.cli, fleetq_core.connect\n"
        "assert not {'snowflake.connector', 'snowflake.snowpark'} & set(sys.modules)\n"
        "import fleetq_core.store.snowflake\n"
        "assert 'snowflake.snowpark' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)
