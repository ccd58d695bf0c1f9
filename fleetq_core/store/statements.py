"""SQL lives in .sql files, in blocks that begin `-- name: <method>`; this reads them."""

from __future__ import annotations

import re
from importlib.resources import files

_HEAD = re.compile(r"^-- name: (\w+)[^\n]*$", re.MULTILINE)


def load_statements(file_name: str) -> dict[str, str]:
    """The named blocks of `store/sql/<file_name>`, without their trailing semicolon."""
    parts = _HEAD.split(read_sql(file_name))
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file_name} names a block twice")
    return {name: body.strip().rstrip(";") for name, body in zip(names, bodies, strict=True)}


def read_sql(file_name: str) -> str:
    """The whole text of `store/sql/<file_name>`."""
    return files(__package__).joinpath("sql", file_name).read_text(encoding="utf-8")
