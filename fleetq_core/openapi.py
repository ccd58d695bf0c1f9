"""What the HTTP API says of itself: an OpenAPI 3.1 document, made from the table of routes that `http` serves.

What every route of a kind may answer is written once, here; a route adds what is its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .openapi_schemas import NAMES, SCHEMAS
from .version import VERSION

JSON_TYPE = "application/json"
Fragment = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: what it means, the schema of its JSON body, and an example. Without a schema it is `media` text."""

    text: str
    schema: str | None = None
    example: Any = None
    media: str = JSON_TYPE
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Body:
    """The JSON body that a route takes."""

    schema: str
    example: Any
    required: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address. `replies` holds what is its own beside what all of its kind answer."""

    name: str
    summary: str
    replies: Mapping[int, Reply]
    text: str = ""
    body: Body | None = None
    tag: str = "Steps"
    public: bool = False  # answered to anybody, key or none


@dataclass(frozen=True, slots=True)
class Described:
    """Where an operation is served. `path` holds names in braces, which are path parameters."""

    method: str
    path: str
    operation: Operation


_AWAY = Reply(
    "The store is away, or this pod cannot work. Where waiting helps, Retry-After says how long.",
    "Error",
    {"error": "the database is locked"},
    headers=("Retry-After",),
)
_READS = {
    401: Reply(
        "A key is needed, and it is missing or wrong.",
        "Error",
        {"error": "send the API key as Authorization: Bearer …", "field": "Authorization"},
        headers=("WWW-Authenticate",),
    ),
}
_WRITES = {
    **_READS,
    403: Reply(
        "The key may only read; or the request comes from another site's page, or, while no key is set, from another "
        "machine; or this process is a viewer, which changes nothing.",
        "Error",
        {"error": "cross-site requests are refused", "field": "Origin"},
    ),
    422: Reply(
        "A field is unknown, missing or has a wrong value. Query parameters are not taken.",
        "Error",
        {"error": "priority: must be a whole number of at most ±2147483647, not True", "field": "priority"},
    ),
}
_BODIES = {
    400: Reply(
        "The body is not JSON in UTF-8, is nested too deeply, or holds a key twice; or the address holds .. or NUL.",
        "Error",
        {"error": "priority: is there twice in one JSON object", "field": "priority"},
    ),
    413: Reply(
        "The body is larger than three times FLEET_Q_MAX_PAYLOAD_BYTES and 4 KiB.",
        "Error",
        {"error": "body: is larger than 790,528 bytes", "field": "body"},
    ),
    415: Reply(
        "The body is not declared as application/json.",
        "Error",
        {"error": "send Content-Type: application/json", "field": "Content-Type"},
    ),
}
_ADDRESSES = {
    400: Reply(
        "The address holds what is refused everywhere, such as .. or NUL.",
        "Error",
        {"error": "the address holds what is refused everywhere, such as .. or NUL"},
    )
}
_HEADERS = {
    "Retry-After": {"description": "Seconds to wait before asking again.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"schema": {"type": "string", "const": "Bearer"}},
}
_PARAMETERS = {
    "step_id": "The id of a step. Characters other than letters, digits and _ . : @ / + - are in no id.",
    "name": "The name of a throttle.",
}
_ABOUT = """\
FLEET-Q answers on the dashboard's own port. Every error is JSON: `error`, and `field` where a field or a header is at \
fault. Each GET answers HEAD too; another method is a 405 that names the right ones in `Allow`; an unknown address \
below one of these is a 404, and one that holds .. or NUL a 400.

Writing needs the key of FLEET_Q_API_KEY or one of FLEET_Q_API_KEYS that may write; where none is set, it is open to \
programs of the same machine only, addressed as localhost. Reading is open to whoever reaches the port, until \
FLEET_Q_API_KEYS is set or people sign in to the dashboard: from then on it needs a key too. `/health`, this document \
and `/docs` are always open."""


def replies(described: Described) -> dict[int, Reply]:
    """Every status that a route answers to its own method."""
    operation = described.operation
    found = {503: _AWAY} | (_ADDRESSES if "{" in described.path else {})
    if not operation.public:
        found |= _WRITES if described.method == "post" else _READS
    found |= _BODIES if operation.body else {}
    return dict(sorted((found | dict(operation.replies)).items()))


def document(routes: Iterable[Described]) -> Fragment:
    """The whole document."""
    paths: dict[str, Fragment] = {}
    for described in routes:
        paths.setdefault(described.path, {})[described.method] = _operation(described)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "FLEET-Q",
            "version": VERSION,
            "summary": "A brokerless distributed task queue",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(described: Described) -> Fragment:
    operation = described.operation
    found: Fragment = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {str(status): _reply(reply) for status, reply in replies(described).items()},
    }
    if operation.text:
        found["description"] = operation.text
    if names := re.findall(r"\{(\w+)\}", described.path):
        found["parameters"] = [_parameter(name) for name in names]
    if operation.body:
        content = {"schema": _ref(operation.body.schema), "example": operation.body.example}
        found["requestBody"] = {"required": operation.body.required, "content": {JSON_TYPE: content}}
    if not operation.public:
        # Either way to send a key does; none is needed where none is set, for a write from this machine alone.
        found["security"] = [{"bearer": []}, {"header": []}, {}]
    return found


def _parameter(name: str) -> Fragment:
    schema = NAMES[name]
    return {"name": name, "in": "path", "required": True, "description": _PARAMETERS[name], "schema": schema}


def _reply(reply: Reply) -> Fragment:
    schema = _ref(reply.schema) if reply.schema else {"type": "string" if reply.media != JSON_TYPE else "object"}
    content: Fragment = {"schema": schema}
    if reply.example is not None:
        content["example"] = reply.example
    found: Fragment = {"description": reply.text, "content": {reply.media: content}}
    if reply.headers:
        found["headers"] = {name: _HEADERS[name] for name in reply.headers}
    return found


def _ref(schema: str) -> Fragment:
    return {"$ref": f"#/components/schemas/{schema}"}
