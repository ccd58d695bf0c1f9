"""Steps from a file: JSON lines or CSV, each line checked for itself, for the command line and the dashboard."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .errors import InvalidPayload
from .model import JSON, NewStep
from .shapes import STEP_FIELDS, new_step, parse_json

OF_STEP = tuple(name for name in STEP_FIELDS if name != "payload")  # columns of a CSV file that are not payload


@dataclass(frozen=True, slots=True)
class Line:
    """One line that holds something: its step, or what is wrong with it."""

    number: int
    step: NewStep | None
    problem: str = ""


def read_steps(content: bytes, *, is_csv: bool, priority: int, check: Callable[[NewStep], None]) -> Iterator[Line]:
    """The lines of a file in order. `priority` is for steps without one; `check` raises InvalidPayload.

    A JSON line is a payload, or an object with a payload and step_id, priority or max_retries. A CSV file has a header;
    these names are columns of the step and all others of its payload, task_type among them.
    """
    parts = _csv_values(content) if is_csv else _json_values(content)
    for number, value in parts:
        if isinstance(value, InvalidPayload):
            yield Line(number, None, str(value))
            continue
        try:
            step = _step_of(value, priority)
            check(step)
        except InvalidPayload as exc:
            yield Line(number, None, str(exc))
        else:
            yield Line(number, step)


def _step_of(value: Any, priority: int) -> NewStep:
    whole = isinstance(value, dict) and "payload" in value and "task_type" not in value
    return new_step(value, priority=priority) if whole else NewStep(value, priority)


def _json_values(content: bytes) -> Iterator[tuple[int, Any]]:
    # Bytes, because str knows line ends that JSON does not.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, parse_json(line.decode("utf-8"), "the line")
        except UnicodeDecodeError as exc:
            yield number, InvalidPayload("the line", f"is not UTF-8 text ({exc.reason})")
        except InvalidPayload as exc:
            yield number, exc


def _csv_values(content: bytes) -> Iterator[tuple[int, Any]]:
    try:
        text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as exc:
        yield content.count(b"\n", 0, exc.start) + 1, InvalidPayload("the file", f"is not UTF-8 text ({exc.reason})")
        return
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        number = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as exc:
            yield number, InvalidPayload("the line", f"is not CSV: {exc}")
            return
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [name.strip() for name in cells]
            if problem := _header_problem(header):
                yield number, InvalidPayload("the header", problem)
                return
        elif len(cells) != len(header):
            yield number, InvalidPayload("the line", f"has {len(cells)} cells, the header has {len(header)}")
        else:
            yield number, _csv_step(header, cells)


def _header_problem(header: list[str]) -> str:
    if "task_type" not in header:
        return "has no column task_type"
    doubled = sorted({name for name in header if header.count(name) > 1})
    return f"names {doubled[0]!r} twice" if doubled else ""


def _csv_step(header: list[str], cells: list[str]) -> dict[str, JSON]:
    named = {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
    payload: dict[str, JSON] = {
        name: cell if name == "task_type" else _value(cell) for name, cell in named.items() if name not in OF_STEP
    }
    of_step: dict[str, JSON] = {
        name: cell if name == "step_id" else _value(cell) for name, cell in named.items() if name in OF_STEP
    }
    return {"payload": payload, **of_step}


def _value(cell: str) -> JSON:
    """What a cell holds: JSON where it is that (numbers, true, lists, objects), else the text itself."""
    try:
        value: JSON = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return cell if isinstance(value, float) and not abs(value) < float("inf") else value
