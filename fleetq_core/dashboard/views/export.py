"""Steps as a file: CSV for spreadsheets, JSON lines for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from fleetq_core.model import JSON, PageKey, QueueStats, StepFilter, StepRecord, format_ts
from fleetq_core.shapes import step_view

from .words import plural

MAX_ROWS = 10_000
MAX_BYTES = 50_000_000
PAGE = 250
# A spreadsheet takes a cell that begins with one of these for a formula, or skips it and looks behind.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

Read = Callable[[PageKey | None, int], list[StepRecord]]


class Format(StrEnum):
    """The kinds of file, by the ends of their names."""

    CSV = "csv"
    JSON_LINES = "jsonl"


@dataclass(frozen=True, slots=True)
class Expected:
    """How many steps a filter finds, as far as the fleet's counts tell: exactly, or at most."""

    count: int
    exact: bool

    @property
    def rows(self) -> int:
        """The most rows that the file will hold."""
        return min(self.count, MAX_ROWS)


@dataclass(slots=True)
class StepFile:
    """The file as far as it has been written; `cut` says why it does not hold every step."""

    format: Format
    data: io.BytesIO = field(default_factory=io.BytesIO)
    rows: int = 0
    cut: str | None = None


def expected(where: StepFilter, stats: QueueStats) -> Expected:
    """What there is to read."""
    counts = stats.by_status()
    narrow = (where.task_type, where.claimed_by, where.text, where.created_from, where.created_until)
    count = counts[where.status.value] if where.status else sum(counts.values())
    return Expected(stats.dead_letters if where.dead_letters else count, all(part is None for part in narrow))


def before_sentence(found: Expected) -> str:
    """How much will be read."""
    if not found.count:
        return "No step matches yet."
    if found.exact and found.count <= MAX_ROWS:
        return f"{plural(found.count, 'step')} to read, the newest first."
    if found.exact:
        return f"{plural(found.count, 'step')} match; the newest {MAX_ROWS:,} are read."
    return f"Those of {plural(found.count, 'step')} that match are read, the newest first, at most {MAX_ROWS:,}."


def after_sentence(made: StepFile) -> str:
    """How much was read."""
    return f"{plural(made.rows, 'step')} in the file" + (f"; {made.cut}" if made.cut else "") + "."


def fill(made: StepFile, read: Read) -> Iterator[int]:
    """Read page after page into an empty file, the newest steps first; yields the rows so far after each."""
    after: PageKey | None = None
    while made.cut is None:
        room = min(PAGE, MAX_ROWS - made.rows)
        # One more than there is room for tells whether anything is left out.
        steps = read(after, room + 1)
        for number, step in enumerate(steps[:room], 1):
            made.data.write(_line(made.format, step, first=made.rows == 0))
            made.rows += 1
            if made.data.tell() >= MAX_BYTES and number < len(steps):
                made.cut = f"at {MAX_BYTES // 1_000_000} MB it is full: narrow the filters for the older ones"
                break
        more = len(steps) > room
        if more and made.cut is None and made.rows >= MAX_ROWS:
            made.cut = "older ones are left out: narrow the filters for those"
        yield made.rows
        if not more:
            return
        after = PageKey(steps[room - 1].created_ts, steps[room - 1].step_id)


def file_name(made: StepFile, now_ts: float) -> str:
    """The file's name, with the database's time."""
    return f"fleetq-steps-{datetime.fromtimestamp(now_ts, UTC):%Y%m%d-%H%M%SZ}.{made.format.value}"


def safe_cell(value: JSON) -> JSON:
    """A value as a cell that no spreadsheet takes for a formula. Numbers stay numbers."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _line(form: Format, step: StepRecord, *, first: bool) -> bytes:
    fields: dict[str, JSON] = {"step_id": step.step_id, "task_type": step.task_type, **step_view(step)}
    fields |= {"claimed_ts": format_ts(step.claimed_ts), "finished_ts": format_ts(step.finished_ts)}
    fields |= {"run_s": step.run_s}
    if form is Format.JSON_LINES:
        text = json.dumps(fields, ensure_ascii=False) + "\n"
    else:
        out = io.StringIO()
        rows = csv.writer(out)
        if first:
            rows.writerow(fields)
        rows.writerow([safe_cell(value) for value in fields.values()])
        text = out.getvalue()
    # A lone surrogate has no encoding; as \udXXX it is what JSON calls it.
    return text.encode("utf-8", "backslashreplace")
