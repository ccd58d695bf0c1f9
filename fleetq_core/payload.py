"""What a payload or a result may be: JSON that comes back exactly as it went in, of a bounded size."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from .errors import InvalidPayload
from .model import JSON

MAX_DEPTH = 64
MAX_INT = 2**63 - 1
_LEAVES = (str, int, float, bool, type(None))


def encode_payload(payload: Any, max_bytes: int) -> tuple[str, str]:
    """Check `payload` and return (task_type, JSON text).

    Raises InvalidPayload, which names the path of the value at fault.
    """
    if not isinstance(payload, Mapping):
        raise InvalidPayload("payload", f"must be a JSON object, not {type(payload).__name__}")
    task_type = payload.get("task_type")
    if not isinstance(task_type, str) or not task_type.strip():
        raise InvalidPayload("payload.task_type", "must be a non-empty string that names a task")
    if len(task_type) > 200:
        raise InvalidPayload("payload.task_type", "must not be longer than 200 characters")
    _check(dict(payload), "payload", 1)
    return task_type, _sized(json.dumps(payload, ensure_ascii=False, separators=(",", ":")), "payload", max_bytes)


def encode_result(result: Any, max_bytes: int) -> str | None:
    """JSON text of what a handler returned; None stays None. Tuples become lists, as everywhere in JSON."""
    if result is None:
        return None
    try:
        text = json.dumps(result, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidPayload("result", f"is not JSON: {exc}") from exc
    if "\\u0000" in text:
        _check(json.loads(text), "result", 1)
    return _sized(text, "result", max_bytes)


def decode(text: str | None) -> JSON:
    """The value behind stored JSON text."""
    return None if text is None else json.loads(text)


def canonical(text: str) -> str:
    """One spelling for equal JSON values, to compare a submit with what is stored."""
    return json.dumps(json.loads(text), sort_keys=True)


def _sized(text: str, what: str, max_bytes: int) -> str:
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as exc:
        raise InvalidPayload(what, f"holds a lone surrogate ({exc.object[exc.start]!r}), which is not text") from exc
    if size > max_bytes:
        raise InvalidPayload(
            what, f"is {size:,} bytes, the limit is {max_bytes:,}; keep large data in a file or table and pass its name"
        )
    return text


def _check(value: Any, path: str, depth: int) -> None:
    kind = type(value)
    if depth > MAX_DEPTH:
        raise InvalidPayload(path, f"is nested deeper than {MAX_DEPTH} levels")
    if kind is str:
        _check_text(value, path)
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidPayload(path, f"has the key {key!r}; JSON keys are strings")
            _check_text(key, path)
            _check(item, f"{path}.{key}", depth + 1)
    elif kind is list:
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", depth + 1)
    elif kind is float and not math.isfinite(value):
        raise InvalidPayload(path, f"is {value}, which JSON cannot hold")
    elif kind is int and abs(value) > MAX_INT:
        raise InvalidPayload(path, "is an integer of more than 64 bits; pass it as a string")
    elif kind not in _LEAVES:
        raise InvalidPayload(path, f"is a {kind.__name__}, which is not JSON")


def _check_text(text: str, path: str) -> None:
    if "\0" in text:
        raise InvalidPayload(path, "holds a NUL character")
