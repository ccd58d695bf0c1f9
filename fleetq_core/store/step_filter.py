"""Between the questions of the model and the SQL that finds steps and decisions, for either kind of store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fleetq_core.model import DecisionFilter, PageKey, StepFilter

_SEARCHED = ("step_id", "payload", "COALESCE(error, '')")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the stores say differently: two conditions, and how their values are bound.

    `contains` looks for :text in the column that stands for {}; `before` is for steps behind :after_ts, :after_id.
    """

    contains: str
    before: str
    text: Callable[[str], str]
    moment: Callable[[float], Any]


def conditions(where: StepFilter, after: PageKey | None, dialect: Dialect) -> tuple[str, dict[str, Any]]:
    """The WHERE of `find_steps` with its values; statuses are literals so that partial indexes apply."""
    parts, bind = ["1 = 1"], dict[str, Any]()
    if where.dead_letters:
        parts.append("status = 'failed' AND retry_ts IS NULL")
    elif where.status is not None:
        parts.append(f"status = '{where.status.value}'")
    for column in ("task_type", "claimed_by"):
        if (value := getattr(where, column)) is not None:
            parts.append(f"{column} = :{column}")
            bind[column] = value
    if where.text:
        parts.append("(" + " OR ".join(dialect.contains.format(column) for column in _SEARCHED) + ")")
        bind["text"] = dialect.text(where.text)
    if where.created_from is not None:
        parts.append("created_ts >= :created_from")
        bind["created_from"] = dialect.moment(where.created_from)
    if where.created_until is not None:
        parts.append("created_ts < :created_until")
        bind["created_until"] = dialect.moment(where.created_until)
    if after is not None:
        parts.append(dialect.before)
        bind |= {"after_ts": dialect.moment(after.created_ts), "after_id": after.step_id}
    return " AND ".join(parts), bind


def decision_conditions(where: DecisionFilter) -> tuple[str, dict[str, Any]]:
    """The WHERE of `find_decisions` with its values."""
    names = ("run_id", "step_id", "owner", "cause")
    bind = {name: value for name in names if (value := getattr(where, name)) is not None}
    return " AND ".join(["1 = 1", *(f"d.{name} = :{name}" for name in bind)]), bind
