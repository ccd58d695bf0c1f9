"""SQL stays where it belongs, and says what the code asks for."""

from __future__ import annotations

import ast
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fleetq_core.config import Config
from fleetq_core.model import TRANSITIONS, Status
from fleetq_core.store import open_store, snowflake_schema
from fleetq_core.store.snowflake_statements import SQL as SNOWFLAKE
from fleetq_core.store.sqlite import SQL, _claim_sql
from fleetq_core.store.sqlite_schema import migrations

ROOT = Path(__file__).parents[2]
SQL_LOOK = re.compile(r"\b(SELECT .* FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE)\b", re.DOTALL)
# The outbox and the local DLQ are files of this machine, not the store: their few statements stand with them.
LOCAL = {"outbox.py", "dlq.py"}
MOVES = {
    "claim_steps": (Status.PENDING, Status.CLAIMED),
    "settle_completed": (Status.CLAIMED, Status.COMPLETED),
    "settle_failed": (Status.CLAIMED, Status.FAILED),
    "settle_deferred": (Status.CLAIMED, Status.PENDING),
    "release_steps": (Status.CLAIMED, Status.PENDING),
    "release_unknown": (Status.CLAIMED, Status.PENDING),
    "requeue_steps": (Status.FAILED, Status.PENDING),
    "cancel_steps": (Status.PENDING, Status.FAILED),
    "retry_failed": (Status.FAILED, Status.PENDING),
    "recover_orphans": (Status.CLAIMED, Status.PENDING),
}


def test_no_sql_in_python() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (*ROOT.glob("fleetq_core/**/*.py"), *ROOT.glob("pages/*.py"), ROOT / "app.py")
        if path.name not in LOCAL
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL_LOOK.search(node.value)
        and not node.value.startswith(("Rows of", "The statements"))
    ]  # fmt: skip
    assert found == []


def test_every_statement_is_used_and_every_used_one_exists() -> None:
    source = (ROOT / "fleetq_core/store/sqlite.py").read_text()
    kinds = re.search(r"kinds = \((.*?)\)", source, re.DOTALL).group(1)
    purges = {f"purge_{kind}" for kind in re.findall(r'"(\w+)"', kinds)}
    used = set(re.findall(r'(?:SQL\[|_rows\(|_write\(|_found\()"(\w+)"', source)) | purges
    assert used == set(SQL)


@pytest.mark.parametrize("name", MOVES)
def test_every_move_in_sql_is_an_allowed_transition(name: str) -> None:
    source, target = MOVES[name]
    assert target in TRANSITIONS[source]
    assert f"status = '{source.value}'" in SQL[name]
    assert f"'{target.value}'" in SQL[name]


def test_no_other_statement_sets_a_status() -> None:
    writes = {name for name, text in SQL.items() if re.search(r"UPDATE step_tracker.*\bSET\s+status", text, re.DOTALL)}
    assert writes == set(MOVES)


# -- Snowflake --------------------------------------------------------------------------------------------------------

SNOWFLAKE_MOVES = {name: move for name, move in MOVES.items() if not name.startswith("settle_")}
SNOWFLAKE_MOVES["claim_chosen"] = MOVES["claim_steps"]


def test_every_statement_for_snowflake_is_used_and_every_used_one_exists() -> None:
    source = "".join(path.read_text() for path in sorted((ROOT / "fleetq_core/store").glob("snowflake*.py")))
    kinds = re.search(r"kinds = \((.*?)\)", source, re.DOTALL).group(1)
    purges = {f"purge_{kind}" for kind in re.findall(r'"(\w+)"', kinds)}
    used = set(re.findall(r'(?:SQL\[|run\.(?:rows|glance|write|found)\(|_move\()\s*"(\w+)"', source)) | purges
    assert used == set(SNOWFLAKE)


@pytest.mark.parametrize("name", SNOWFLAKE_MOVES)
def test_every_move_on_snowflake_is_an_allowed_transition_and_guarded_where_it_writes(name: str) -> None:
    source, target = SNOWFLAKE_MOVES[name]
    guard = f"status = '{source.value}'"
    written = re.split(r"\bWHERE\b", SNOWFLAKE[name])
    assert guard in (written[-1] if "FROM (" in SNOWFLAKE[name].split("WHERE")[0] else written[1])
    assert f"'{target.value}'" in SNOWFLAKE[name]


def test_outcomes_on_snowflake_settle_claims_only() -> None:
    assert "AND step_tracker.status = 'claimed'" in SNOWFLAKE["settle_steps"]
    assert "AND step_tracker.claim_token = told.told_token" in SNOWFLAKE["settle_steps"]
    outcomes = {target.value for source, target in MOVES.values() if source is Status.CLAIMED}
    assert set(re.search(r"IN \((.*?)\)", SNOWFLAKE["settle_steps"]).group(1).replace("'", "").split(", ")) == outcomes
    writes = {n for n, text in SNOWFLAKE.items() if re.search(r"UPDATE step_tracker\s+SET\s+status", text)}
    assert writes == {*SNOWFLAKE_MOVES, "settle_steps"}


def test_no_statement_for_snowflake_begins_a_transaction_or_asks_for_what_it_lacks() -> None:
    for name, text in SNOWFLAKE.items():
        code = re.sub(r"^--.*$", "", text, flags=re.MULTILINE)
        assert re.match(r"\s*(SELECT|UPDATE|MERGE|DELETE)\b", code), name
        assert not re.search(
            r"\b(RETURNING|ON CONFLICT|rowid|json_each|BEGIN|CURRENT_TIMESTAMP|SKIP LOCKED)\b", code
        ), name
        assert not re.search(r"(?<![\w:\]]):now\b", code), name


def test_both_stores_have_the_same_tables_and_columns() -> None:
    with sqlite3.connect(":memory:") as db:
        for script in migrations():
            db.executescript(script)
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        sqlite = {name: {row[1] for row in db.execute(f"PRAGMA table_info({name})")} for name in names}
    db.close()
    # Words that Snowflake reserves have another name there.
    renamed = {"sample": "fleet_sample", "trigger": "trigger_kind", "before": "limit_before", "after": "limit_after"}
    expected = {renamed.get(t, t): {renamed.get(c, c) for c in columns} for t, columns in sqlite.items()}
    expected["step_tracker"].add("write_token")
    script = snowflake_schema.text("standard")
    tables = re.findall(r"TABLE IF NOT EXISTS (\w+) \((.*?)\n\)", script, re.DOTALL)
    found = {name: set(re.findall(r"^    ([a-z]\w*) +[A-Z]", body, re.MULTILINE)) for name, body in tables}
    found.pop("fleetq_schema")
    assert found == expected
    described = re.findall(r"^    [a-z]\w* .*COMMENT '[^']+\.',$", script, re.MULTILINE)
    assert len(described) == sum(map(len, expected.values())) + 3


def test_the_root_schema_is_the_one_that_is_applied() -> None:
    assert (ROOT / "schema.sql").read_text() == snowflake_schema.text("standard")


@pytest.mark.parametrize("tables", ["standard", "hybrid"])
def test_each_kind_of_table_has_only_what_it_takes(tables: Any) -> None:
    found = {
        re.search(r"EXISTS (\w+)", text).group(1): text
        for text in snowflake_schema.statements(tables)
        if "CREATE" in text
    }
    assert len(found) == 10
    hybrid = {name for name, text in found.items() if text.startswith("CREATE HYBRID TABLE IF NOT EXISTS")}
    kept = {"step_tracker", "pod_health", "command_log", "command_answer", "recovery_run"}
    assert hybrid == (kept if tables == "hybrid" else set())
    for name, text in found.items():
        assert ("INDEX " in text) == (tables == "hybrid" and name in kept - {"pod_health", "command_answer"}), name
        assert "PRIMARY KEY (" in text
        assert not re.search(r"VARIANT|CLUSTER BY|DEFAULT|--|TIMESTAMP_NTZ(?!\(6\))", text), name
    (version,) = [text for text in snowflake_schema.statements(tables) if text.startswith("MERGE")]
    assert f"SELECT {snowflake_schema.VERSION} AS new_version" in version
    assert f"'{tables}' AS new_tables" in version


def test_claims_and_recovery_use_their_indexes(config: Config) -> None:
    store = open_store(config)
    plans = {
        "claim_steps": "step_pending",
        "recover_orphans": "step_claimed",
        "retry_failed": "step_failed",
        "any_claimable": "step_pending",
        "promote_due": "step_pending",
        "claim_within": "step_pending",
        "stats": "step_pending",
        "sample_times": "step_completed",
        "purge_completed": "step_completed",
    }
    with store._db.read() as db:  # type: ignore[attr-defined]
        for name, index in plans.items():
            binds = dict.fromkeys(re.findall(r":(\w+)", SQL[name]), 1) | {"caps": "[]"}
            plan = " | ".join(str(line[3]) for line in db.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", binds))
            assert index in plan, (name, plan)
            assert not re.search(r"SCAN (step_tracker|o|s)\b(?! USING)", plan), (name, plan)
    with store._db.read() as db:  # type: ignore[attr-defined]
        binds = dict.fromkeys(["pod_id", "incarnation", "token", "now", "limit", "threshold"], 1) | {"caps": "[]"}
        plan = str([line[3] for line in db.execute(f"EXPLAIN QUERY PLAN {SQL['claim_steps']}", binds)])
        assert "TEMP B-TREE" not in plan
        # With caps it sorts what it has looked at, a few hundred rows; it finds these in order.
        lines = [line[3] for line in db.execute(f"EXPLAIN QUERY PLAN {_claim_sql(capped=True)}", binds)]
        found = next(n for n, line in enumerate(lines) if "USING COVERING INDEX step_pending (due_ts=?)" in line)
        assert not any("TEMP B-TREE" in line for line in lines[:found])
        sorts = sum("TEMP B-TREE" in line for line in lines)
        assert sorts == 2, lines  # by type for the caps, and by rank again
    store.close()


def test_nothing_decides_by_the_pods_wall_clock() -> None:
    pattern = re.compile(r"datetime\.(now|utcnow)\(|time\.time\(\)")
    allowed = {"clock.py"}
    found = [
        path.name
        for path in (*ROOT.glob("fleetq_core/**/*.py"), *ROOT.glob("pages/*.py"))
        if path.name not in allowed and pattern.search(path.read_text())
    ]
    assert found == []
