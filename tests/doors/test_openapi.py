"""The OpenAPI document and its page tell what is served: no route without its words, no words without a route."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from starlette.routing import Route
from streamlit.web.server.starlette.starlette_path_security_middleware import PathSecurityMiddleware

from fleetq_core import http
from fleetq_core.dashboard import shell
from fleetq_core.http_door import API_HEADERS, SafeHeaders
from fleetq_core.http_routes import ENDPOINTS
from fleetq_core.model import StepRow
from fleetq_core.runtime import Runtime
from tests.doors.conformance import DOCUMENT, PREFIXES, validator
from tests.doors.conftest import Api, quiet_config

OPERATIONS = [(path, method, found) for path, methods in DOCUMENT["paths"].items() for method, found in methods.items()]


def every(node: Any, key: str) -> Iterator[Any]:
    """All values under `key`, at any depth."""
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from every(inner, key)


def test_every_route_is_documented_and_the_reverse() -> None:
    served = {re.sub(r":rest}", "}", route.path) for route in http.routes() if isinstance(route, Route)}
    catching = {f"/{prefix}" for prefix in PREFIXES} | {f"/{prefix}/{{rest}}" for prefix in PREFIXES}
    assert served - catching == DOCUMENT["paths"].keys() - catching
    assert {(endpoint.path, endpoint.method) for endpoint in ENDPOINTS} == {
        (path, method) for path, method, _ in OPERATIONS
    }


def test_the_routes_of_the_contract_are_there() -> None:
    assert {(method, path) for path, method, _ in OPERATIONS} >= {
        ("post", "/submit"), ("get", "/status/{step_id}"), ("get", "/admin/queue"), ("get", "/admin/leader"),
        ("post", "/admin/recovery/run"), ("get", "/admin/throttle"), ("post", "/admin/throttle/{name}/reset"),
        ("get", "/health"), ("get", "/metrics"), ("get", "/docs"), ("get", "/openapi.json"),
    }  # fmt: skip


def test_the_document_is_whole() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    schemas = DOCUMENT["components"]["schemas"]
    references = set(every(DOCUMENT, "$ref"))
    assert references == {f"#/components/schemas/{name}" for name in schemas}
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    names = [found["operationId"] for _, _, found in OPERATIONS]
    assert len(set(names)) == len(names)
    for path, _, found in OPERATIONS:
        assert [p["name"] for p in found.get("parameters", ())] == re.findall(r"\{(\w+)\}", path)


def test_every_example_is_what_its_schema_says() -> None:
    count = 0
    for path, _, found in OPERATIONS:
        for part in (found.get("requestBody"), *found["responses"].values()):
            for content in part["content"].values() if part else ():
                if "$ref" in content["schema"]:
                    validator(content["schema"]["$ref"].rpartition("/")[2]).validate(content["example"])
                    count += 1
                assert "example" in content or path in ("/docs", "/openapi.json")
    assert count > 40


@pytest.mark.parametrize("wrong", [
    {"payload": {"task_type": "echo"}, "priority": True}, {"payload": {"task_type": "echo"}, "prioritty": 1},
    {"payload": {}}, {"payload": {"task_type": " "}}, {}, {"payload": {"task_type": "echo"}, "step_id": "a b"},
])  # fmt: skip
def test_the_schema_of_a_step_refuses_what_the_route_refuses(api: Api, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        validator("NewStep").validate(wrong)
    assert api("POST", "/submit", json=wrong).status_code == 422


def test_the_document_is_served(api: Api) -> None:
    assert api("GET", "/openapi.json").json() == json.loads(json.dumps(DOCUMENT))


def test_the_page_runs_its_own_parts_and_asks_this_server_only(api: Api) -> None:
    answer = api("GET", "/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for kind in ("style", "script"):
        (part,) = re.findall(rf"<{kind}>(.*?)</{kind}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?://|//[a-z]+\.|@import|\burl\(|innerHTML|style=| on\w+=", answer.text)


def test_no_page_of_the_dashboard_has_an_address_of_the_api() -> None:
    pages = {url.split("/")[0] for *_, url in shell._PAGES}
    assert not pages & PREFIXES


# -- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/health", "/metrics", "/openapi.json", "/status/unknown", "/admin/nothing", "/submit"]
)
def test_every_answer_of_the_api_has_safe_headers(api: Api, path: str) -> None:
    answer = api("GET", path)
    assert {name: answer.headers[name] for name in API_HEADERS} == API_HEADERS


def test_pages_may_not_be_framed_by_other_sites(api: Api) -> None:
    api.app = SafeHeaders(api.app)  # type: ignore[assignment]
    page = api("GET", "/steps")
    assert (page.headers["x-frame-options"], page.headers["x-content-type-options"]) == ("SAMEORIGIN", "nosniff")
    assert page.headers["content-security-policy"] == "frame-ancestors 'self'"
    assert api("GET", "/health").headers["x-frame-options"] == "DENY"


def test_an_address_that_streamlit_refuses_is_refused_in_json(api: Api) -> None:
    api.app = PathSecurityMiddleware(api.app)  # type: ignore[assignment]
    for middleware in reversed(http.middleware()):
        api.app = middleware.cls(api.app, **middleware.kwargs)
    for path in ("/status/%00", "/admin/throttle/..%2Fx/reset", "/health/..%5Cx"):
        api.refuses(400, None, "POST" if path.endswith("reset") else "GET", path)
    assert "content-type" not in api("GET", "/steps/%00").headers  # a page of Streamlit's, and its own refusal
    assert api("GET", "/status/unknown").status_code == 404


# -- what only the table's rows decide --------------------------------------------------------------------------------


def test_what_a_route_does_not_take_is_refused(api: Api) -> None:
    for path in ("/submit", "/admin/recovery/run", "/admin/throttle/x/reset"):
        api.refuses(422, "priority", "POST", f"{path}?priority=5", json={})
    api.refuses(422, "force", "POST", "/admin/recovery/run", json={"force": True})
    api.refuses(415, "Content-Type", "POST", "/admin/recovery/run", content="force=1")
    api.refuses(400, "body", "POST", "/admin/recovery/run", content="{", headers={"Content-Type": "application/json"})
    assert api("POST", "/admin/recovery/run", json={}).status_code == 200
    assert api("GET", "/health?probe=1").status_code == 200


def test_payloads_that_only_python_can_read_are_told(tmp_path: Path, api_of: Callable[[Runtime], Api]) -> None:
    app = Runtime(quiet_config(tmp_path))
    app.start()
    try:
        for name, value in {"odd": "NaN", "deep": "[" * 980 + "]" * 980}.items():
            payload = f'{{"task_type": "nobody knows", "x": {value}}}'
            app.queue.store.insert_steps([StepRow(name, "nobody knows", payload, 0, 0)])
        assert api_of(app)("GET", "/status/odd").json()["payload"]["x"] is None
        assert "nested too deeply" in api_of(app)("GET", "/status/deep").text
    finally:
        app.stop()
