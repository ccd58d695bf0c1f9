"""How times, counts and values are written on a screen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleetq_core.model import JSON

SHORT = 120  # characters of a payload or an error in a table


@dataclass(frozen=True, slots=True)
class Fact:
    """One named value; `tone` is good, bad, warn or plain."""

    label: str
    value: str
    tone: str = "plain"
    hint: str = ""


def clock(ts: float) -> str:
    """`HH:MM:SS` in UTC."""
    return datetime.fromtimestamp(ts, UTC).strftime("%H:%M:%S")


def day_and_hour(ts: float) -> str:
    """`Wed 25 Nov 14:00` in UTC."""
    return datetime.fromtimestamp(ts, UTC).strftime("%a %d %b %H:%M")


def day_and_second(ts: float) -> str:
    """`25 Nov 14:00:05` in UTC."""
    return datetime.fromtimestamp(ts, UTC).strftime("%d %b %H:%M:%S")


def duration(seconds: float | None) -> str:
    """A span in one or two units, e.g. `3 min 20 s`."""
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s" if seconds < 10 else f"{seconds:.0f} s"
    whole = int(seconds)
    for unit, name, part, part_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit} {name}" + (f" {rest} {part_name}" if rest else "")
    return f"{whole} s"


def plural(count: int, noun: str) -> str:
    """`1 step`, `2 steps`, `12,000 steps`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shortened(value: JSON, limit: int = SHORT) -> str:
    """A value on one line, cut to `limit` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0
