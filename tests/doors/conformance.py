"""Holds an answer against the OpenAPI document: its status, its type, its body, and the headers that it must carry."""

from __future__ import annotations

import functools
import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from fleetq_core.http_door import API_HEADERS
from fleetq_core.http_routes import openapi

DOCUMENT: dict[str, Any] = openapi()
PREFIXES = {path.split("/")[1] for path in DOCUMENT["paths"]}


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+\}", template)
    return re.compile(r"[\s\S]*".join(re.escape(part) for part in parts))


_PATTERNS = {template: _pattern(template) for template in DOCUMENT["paths"]}


def template_of(path: str) -> str | None:
    """The documented address that `path`, unescaped, belongs to."""
    if path in DOCUMENT["paths"]:
        return path
    return next((template for template, pattern in _PATTERNS.items() if pattern.fullmatch(path)), None)


@functools.cache
def validator(schema: str) -> Draft202012Validator:
    """For bodies of a schema of the document."""
    return Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]})


def check(answer: httpx.Response) -> None:
    """Fail unless the document allows this answer to its request. Addresses outside the API are not ours to judge."""
    path, method = answer.request.url.path, answer.request.method
    if path.split("/")[1] not in PREFIXES:
        return
    for name in API_HEADERS:
        assert name in answer.headers, name
    template = template_of(path)
    methods = DOCUMENT["paths"].get(template, {})
    asked = "get" if method == "HEAD" else method.lower()
    refused = {400} if any(part in path for part in ("..", "\0", "\\", "//")) else set()
    if template is None:
        assert answer.status_code in refused | {404}, (answer.status_code, answer.text)
        _body(answer, "application/json", {"$ref": "#/components/schemas/Error"})
    elif asked not in methods and answer.status_code in refused:
        _body(answer, "application/json", {"$ref": "#/components/schemas/Error"})
    elif asked not in methods:
        assert answer.status_code == 405, (answer.status_code, answer.text)
        allowed = {name.strip().lower() for name in answer.headers["allow"].split(",")}
        assert allowed == methods.keys() | ({"head"} if "get" in methods else set())
        _body(answer, "application/json", {"$ref": "#/components/schemas/Error"})
    else:
        described = methods[asked]["responses"].get(str(answer.status_code))
        assert described is not None, f"{answer.status_code} is not documented for {method} {template}: {answer.text}"
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
        ((media, content),) = described["content"].items()
        _body(answer, media, content["schema"])


def _body(answer: httpx.Response, media: str, schema: dict[str, Any]) -> None:
    accepted = {media, "application/openmetrics-text"} if media == "text/plain" else {media}
    assert answer.headers["content-type"].partition(";")[0] in accepted, answer.headers["content-type"]
    if media == "application/json" and answer.request.method != "HEAD":
        body = answer.json()
        if "$ref" in schema:
            validator(schema["$ref"].rpartition("/")[2]).validate(body)
