"""Values as Snowflake takes them: sets as JSON lists that fit into one bind, and what `find_steps` asks for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .snowflake_connection import timestamp
from .step_filter import Dialect

MOST_JSON = 500_000  # characters of one JSON bind: Snowflake cuts off the text of a statement at 1 MB
DIALECT = Dialect(
    contains="CONTAINS(LOWER({}), LOWER(:text))",
    before="(created_ts < :after_ts OR (created_ts = :after_ts AND step_id < :after_id))",
    text=str,
    moment=timestamp,
)


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
