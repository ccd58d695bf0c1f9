"""The tables of the Snowflake store: `schema.sql` in its two forms, cut into statements."""

from __future__ import annotations

import re
from typing import Literal

from .statements import read_sql

VERSION = 4
Tables = Literal["standard", "hybrid"]


def text(tables: Tables) -> str:
    """The DDL. One text serves both kinds: the hybrid form brings out what the standard form has in comments."""
    script = read_sql("snowflake_schema.sql")
    if tables == "standard":
        return script
    head, _, body = script.partition("\n\n")
    head = "-- FLEET-Q on Snowflake: tables and data dictionary, hybrid-table form. docs/snowflake.md has the grants."
    body = body.replace("/*HYBRID*/", "HYBRID").replace("--hybrid ,", ",").replace("/*kind*/ 'standard'", "'hybrid'")
    return f"{head}\n\n{body}"


def kind_of(tables: str) -> Tables:
    """The kind of tables that are there, by what they say of themselves."""
    return "hybrid" if tables == "hybrid" else "standard"


def statements(tables: Tables) -> list[str]:
    """The statements of `text`, one by one, without their comments: the driver takes one at a time."""
    code = re.sub(r"^\s*--.*\n", "", re.sub(r" --hybrid .*", "", text(tables)), flags=re.MULTILINE)
    return [part.strip() for part in re.split(r";\s*\n", code + "\n") if part.strip()]
