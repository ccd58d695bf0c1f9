"""Between the questions of the model and the SQL of the embedded store."""

from __future__ import annotations

from typing import Any

from fleetq_core.model import PageKey, StepFilter


def conditions(where: StepFilter, after: PageKey | None) -> tuple[str, dict[str, Any]]:
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
        bind["text"] = "%" + where.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        columns = ("step_id", "payload", "COALESCE(error, '')")
        parts.append("(" + " OR ".join(f"{column} LIKE :text ESCAPE '\\'" for column in columns) + ")")
    if where.created_from is not None:
        parts.append("created_ts >= :created_from")
        bind["created_from"] = where.created_from
    if where.created_until is not None:
        parts.append("created_ts < :created_until")
        bind["created_until"] = where.created_until
    if after is not None:
        parts.append("(created_ts, step_id) < (:after_ts, :after_id)")
        bind |= {"after_ts": after.created_ts, "after_id": after.step_id}
    return " AND ".join(parts), bind
