"""Between the questions of the model and the SQL of the Snowflake store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fleetq_core.model import PageKey, StepFilter

from .snowflake_connection import timestamp

MOST_JSON = 500_000  # characters of one JSON bind: Snowflake cuts off the text of a statement at 1 MB


def conditions(where: StepFilter, after: PageKey | None) -> tuple[str, dict[str, Any]]:
    """The WHERE of `find_steps` with its values."""
    parts, bind = ["1 = 1"], dict[str, Any]()
    if where.dead_letters:
        parts.append("status = 'failed' AND retry_ts IS NULL")
    elif where.status is not None:
        parts.append("status = :status")
        bind["status"] = where.status.value
    for column in ("task_type", "claimed_by"):
        if (value := getattr(where, column)) is not None:
            parts.append(f"{column} = :{column}")
            bind[column] = value
    if where.text:
        columns = ("step_id", "payload", "COALESCE(error, '')")
        parts.append("(" + " OR ".join(f"CONTAINS(LOWER({column}), LOWER(:text))" for column in columns) + ")")
        bind["text"] = where.text
    if where.created_from is not None:
        parts.append("created_ts >= :created_from")
        bind["created_from"] = timestamp(where.created_from)
    if where.created_until is not None:
        parts.append("created_ts < :created_until")
        bind["created_until"] = timestamp(where.created_until)
    if after is not None:
        parts.append("(created_ts < :after_ts OR (created_ts = :after_ts AND step_id < :after_id))")
        bind |= {"after_ts": timestamp(after.created_ts), "after_id": after.step_id}
    return " AND ".join(parts), bind


def json_sets(items: Iterable[Sequence[Any] | str]) -> Iterator[tuple[int, str]]:
    """The items as JSON lists that are short enough for one bind, with the number of items in each."""
    texts: list[str] = []
    size = 0
    for item in items:
        text = json.dumps(item)
        if texts and size + len(text) > MOST_JSON:
            yield len(texts), f"[{','.join(texts)}]"
            texts, size = [], 0
        texts.append(text)
        size += len(text) + 1
    if texts:
        yield len(texts), f"[{','.join(texts)}]"
