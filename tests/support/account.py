"""The real Snowflake account that `make test-snowflake` runs the contract on: the one of the environment.

The suite works in schemas of its own, `FLEETQ_TEST_<random>…`, which it creates and drops; nothing else is touched.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dotenv import dotenv_values

from fleetq_core.config import load_config
from fleetq_core.errors import FleetQError
from fleetq_core.store.snowflake_connection import SnowflakeConnection, Statement

WANTED = os.environ.get("FLEETQ_TEST_ACCOUNT") == "1"
NAME = f"FLEETQ_TEST_{secrets.token_hex(4).upper()}"  # of this run's schemas, with a number behind it
# Read before a fixture hides them from the tests, as the product reads them: the environment over `.env`.
VARIABLES: Mapping[str, str] = {
    name: value
    for name, value in {**dotenv_values(".env"), **os.environ}.items()
    if name.startswith("SNOWFLAKE_") and value
}


def settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """How to connect, for the driver. Raises ConfigError."""
    return load_config({**environ, "FLEET_Q_STORE": "snowflake"}, env_file=os.devnull).snowflake_settings()


@contextmanager
def schemas(environ: Mapping[str, str]) -> Iterator[Callable[[], dict[str, str]]]:
    """Gives a function that makes a new schema and returns the variables for it; they are dropped with the block."""
    admin = SnowflakeConnection({**settings(environ), "schema": None}, NAME, "test")
    made: list[str] = []

    def make() -> dict[str, str]:
        name = f"{NAME}_{len(made) + 1}"
        admin.write(Statement.of("test", f"CREATE SCHEMA {name}"), {})
        made.append(name)
        return {**environ, "SNOWFLAKE_SCHEMA": name}

    try:
        yield make
    finally:
        for name in made:
            admin.write(Statement.of("test", f"DROP SCHEMA {name}"), {})
        admin.close()


def problem() -> str | None:
    """What keeps the suite from running, in a line."""
    try:
        found = load_config({**VARIABLES, "FLEET_Q_STORE": "snowflake", "SNOWFLAKE_SCHEMA": NAME}).snowflake_problems()
    except FleetQError as exc:
        return str(exc)
    return "; ".join(found) or None


if __name__ == "__main__":
    told = problem()
    if told:
        print(f"make test-snowflake needs a Snowflake account in the environment: {told}", file=sys.stderr)
        raise SystemExit(2)
