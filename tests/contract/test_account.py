"""The suite for a real account: run with an environment like an account's, it works in schemas of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fleetq_core.store.snowflake_connection import SnowflakeConnection, Statement

ROOT = Path(__file__).parents[2]


def ran(folder: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """In a folder without the `.env` of whoever works here."""
    environ |= {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *args], cwd=folder, env=os.environ | environ, capture_output=True, text=True, timeout=100
    )


def schemas(settings: Mapping[str, Any]) -> set[str]:
    connection = SnowflakeConnection(settings, "test")
    found = connection.rows(Statement.of("test", "SELECT schema_name FROM information_schema.schemata"), {})
    connection.close()
    return {name for (name,) in found}


@pytest.mark.slow
def test_the_suite_for_an_account_runs_from_the_environment_and_cleans_up(
    snowflake_settings: dict[str, Any], tmp_path: Path
) -> None:
    given = {f"SNOWFLAKE_{name.upper()}": str(value) for name, value in snowflake_settings.items() if name != "schema"}
    before = schemas(snowflake_settings)
    chosen = (
        "-m",
        "account",
        "-k",
        "the_same_token_returns_the_same_claim",
        str(ROOT / "tests/contract/test_steps.py"),
    )
    done = ran(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, **given, FLEETQ_TEST_ACCOUNT="1")
    assert "4 passed" in done.stdout, done.stdout + done.stderr  # on either kind of table, plain and with lost replies
    assert schemas(snowflake_settings) == before


def test_without_an_account_it_says_what_to_set(tmp_path: Path) -> None:
    done = ran(tmp_path, "-m", "tests.support.account")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    for name in ("SNOWFLAKE_ACCOUNT", "SNOWFLAKE_USER", "SNOWFLAKE_DATABASE", "SNOWFLAKE_PRIVATE_KEY_FILE"):
        assert name in done.stderr
