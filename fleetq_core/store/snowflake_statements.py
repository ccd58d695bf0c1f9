"""The statements of snowflake.sql by name, run over one connection."""

from __future__ import annotations

from typing import Any

from .snowflake_connection import SnowflakeConnection, Statement
from .statements import load_statements

SQL = load_statements("snowflake.sql")
SQL["claim_steps"] = SQL["claim_steps"].replace("/*best_steps*/", "\n" + SQL["best_steps"])


class Statements:
    """Runs named statements; each is one autocommit statement that may be repeated."""

    def __init__(self, connection: SnowflakeConnection) -> None:
        self._db = connection

    @property
    def hybrid(self) -> bool:
        """Whether the tables lock rows."""
        return self._db.hybrid

    @property
    def count(self) -> int:
        """How many statements the connection has run."""
        return self._db.statements

    def rows(self, name: str, **bind: Any) -> list[tuple[Any, ...]]:
        """The rows that a statement reads."""
        return self._db.rows(Statement.of(name, SQL[name]), bind)

    def glance(self, name: str, *, cached: bool) -> list[tuple[Any, ...]]:
        """The same of a statement without binds, which the result cache may answer."""
        return self._db.rows(Statement.of(name, SQL[name]), {}, cached=cached)

    def write(self, name: str, **bind: Any) -> int:
        """How many rows a statement wrote."""
        return self._db.write(Statement.of(name, SQL[name]), bind)

    def found(self, name: str, chosen: tuple[str, dict[str, Any]], limit: int) -> list[tuple[Any, ...]]:
        """At most `limit` rows that meet a condition with its binds."""
        condition, bind = chosen
        return self._db.rows(Statement.of(name, SQL[name].replace("/*where*/", condition)), bind | {"limit": limit})


def microseconds(seconds: float) -> int:
    """Whole microseconds, the unit in which statements take lengths of time."""
    return round(seconds * 1_000_000)
