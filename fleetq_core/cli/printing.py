"""How the command line prints: lines for people, JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

# What a handler put into its error must not move the reader's cursor or colour the screen.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def print_json(value: Any) -> None:
    """One line of JSON."""
    click.echo(_writable(json.dumps(value, ensure_ascii=False)))


def print_fields(values: Mapping[str, Any], as_json: bool) -> None:
    """One thing, a line for each of its fields."""
    if as_json:
        print_json(values)
        return
    width = max(len(key) for key in values)
    for key, value in values.items():
        click.echo(f"{key:<{width}}  {_text(value)}")


def print_table(rows: Sequence[Mapping[str, Any]], as_json: bool, empty: str) -> None:
    """Many things, a line each; `empty` is said where there are none."""
    if as_json:
        print_json(list(rows))
    elif not rows:
        click.echo(empty)
    else:
        columns = list(dict.fromkeys(column for row in rows for column in row))
        cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
        widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
        for line in cells:
            click.echo("  ".join(_padded(line, widths)).rstrip())


def complain(text: str) -> None:
    """Say on stderr what went wrong, with our name before each line."""
    for line in text.splitlines():
        click.echo(f"fleetq: {_text(line)}", err=True)


def _padded(cells: Iterable[str], widths: Iterable[int]) -> Iterable[str]:
    return (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))


def _cell(value: Any) -> str:
    return _text(value).replace("\n", "\\n")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _writable(_CONTROL.sub(lambda found: repr(found[0])[1:-1], text))


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
