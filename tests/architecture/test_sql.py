"""SQL stays where it belongs, and says what the code asks for."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fleetq_core.config import Config
from fleetq_core.model import TRANSITIONS, Status
from fleetq_core.store import open_store
from fleetq_core.store.sqlite import SQL, _claim_sql

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
    used = set(re.findall(r'(?:SQL\[|_rows\(|_write\()"(\w+)"', source)) | purges
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
