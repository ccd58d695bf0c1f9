"""A seeded fuzzer that reads the OpenAPI document and fires at a live server what is right, nearly right and hostile.

No 5xx, no undocumented status, and JSON where it is promised. FLEETQ_FUZZ_SEED replays a run, FLEETQ_FUZZ_REQUESTS
makes it longer, FLEETQ_FUZZ_URL aims it at a server that runs already (one to throw away: it submits steps).

Our own, not schemathesis: that brings thirty packages, and knows none of the inputs that have hurt here (twin keys, NaN,
lone surrogates, other encodings, escaped line ends in addresses), while the document names all the fields we need.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse
from starlette.routing import Route
from streamlit.web.server.starlette.starlette_path_security_middleware import PathSecurityMiddleware

from fleetq_core import http
from fleetq_core.model import Identity
from fleetq_core.runtime import Runtime
from tests.doors import conformance
from tests.doors.conformance import DOCUMENT
from tests.doors.conftest import quiet_config, variant
from tests.support.waiting import eventually

SEED = int(os.environ.get("FLEETQ_FUZZ_SEED") or secrets.randbits(32))
REQUESTS = int(os.environ.get("FLEETQ_FUZZ_REQUESTS", "1000"))
KEY = "a-key-of-the-fuzzer"

OPERATIONS = [(path, method, found) for path, methods in DOCUMENT["paths"].items() for method, found in methods.items()]
OFTEN = OPERATIONS + 4 * [found for found in OPERATIONS if "requestBody" in found[2]]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FLY", "get")
TEXTS = (
    "",
    " ",
    "x",
    "é€😀",
    "\0",
    "\n",
    "\r\nX: 1",
    "../..",
    "a/b",
    "%",
    "'; --",
    "<b>",
    "\ud800",
    "x" * 300,
    "true",
    "1",
)
NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**70), 1.0, 0.1, 1e308, float("nan"), float("-inf"), 10**400)
SEGMENTS = (
    "%ff%fe",
    "%00",
    "a%0Ab",
    "%2e%2e%2f",
    "..",
    ".",
    "%2F",
    "//",
    "%",
    "a%",
    "%ud800",
    "+",
    ";a=b",
    "x" * 6000,
    "",
)
TYPES = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/JSON; charset=utf-8", "/",
         "", "application/json;;", "application/json, text/plain", "\xff")  # fmt: skip
HEADERS = {
    "Accept": (
        "*/*",
        "application/openmetrics-text; version=x",
        "text/plain; version=9.9.9; escaping=dots",
        "\xff",
        "",
    ),
    "Authorization": ("Bearer", "Bearer x", f"Bearer {KEY}", "Basic eA==", "\xff\xfe"),
    "X-API-Key": ("", "x", KEY, "\xe9"),
    "Origin": ("null", "", "http://localhost", "http://evil.example", "\xff"),
    "Host": ("localhost", "evil.example", "", "[::1]:80", "a b", "127.0.0.1:x", "\xff"),
    "Content-Encoding": ("gzip", "br"),
    "Expect": ("100-continue", "nothing"),
    "X-Forwarded-For": ("10.0.0.1", "\xff"),
    "Range": ("bytes=0-1", "bytes=x"),
}


class Fuzzer:
    """Makes requests from the document; the same seed makes the same ones."""

    def __init__(self, seed: int, keyed: bool) -> None:
        self.rng, self.keyed = random.Random(seed), keyed

    def request(self, operation: tuple[str, str, dict[str, Any]] | None = None) -> dict[str, Any]:
        """One request; without wishes a random one of a random kind, else a right one of `operation`."""
        rng = self.rng
        kind = "right" if operation else rng.choice(("right", "mutated", "mutated", "hostile"))
        path, method, described = operation or rng.choice(OFTEN)
        made: dict[str, Any] = {
            "method": method.upper(),
            "path": self._path(path, hostile=kind == "hostile"),
            "headers": {},
        }
        if "requestBody" in described:
            (content,) = described["requestBody"]["content"].values()
            made |= {"headers": {"Content-Type": "application/json"}, "content": self._body(content, kind)}
        if self.keyed and (kind == "right" or rng.random() < 0.7):
            made["headers"]["X-API-Key"] = KEY
        if kind == "hostile":
            self._spoil(made)
        return made

    def _path(self, template: str, *, hostile: bool) -> str:
        def segment() -> str:
            if hostile and self.rng.random() < 0.5:
                return self.rng.choice(SEGMENTS)
            names = ("known", "bedrock", "a/b", "x\ny", "nobody", *TEXTS)
            return quote(self.rng.choice(names).encode("utf-8", "surrogatepass"), safe="")

        path = template
        for parameter in ("{step_id}", "{name}"):
            path = path.replace(parameter, segment()) if hostile else path.replace(parameter, "known")
        if hostile and self.rng.random() < 0.3:
            path += self.rng.choice(("/", "//", "/x", "?priority=1", "?%ff=%00", "?", "/%0A", "%0A", "/..", "#x"))
        return path

    def _body(self, content: dict[str, Any], kind: str) -> bytes:
        if kind == "right":
            return json.dumps(content["example"]).encode()
        value = self._valid(content["schema"])
        for _ in range(self.rng.randint(1, 3)):
            value = self._mutated(value)
        text = json.dumps(value, ensure_ascii=self.rng.random() < 0.7)
        if text.endswith("}") and self.rng.random() < 0.15:  # a twin key
            text = text[:-1] + ("" if text == "{}" else ", ") + '"payload": 1, "payload": 2}'
        raw = text.encode("utf-8", "surrogatepass")
        if kind == "hostile" or self.rng.random() < 0.1:
            raw = self._broken(raw)
        return raw

    def _valid(self, schema: dict[str, Any]) -> Any:
        if "$ref" in schema:
            schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        kinds = schema.get("type", "string")
        kind = self.rng.choice(kinds) if isinstance(kinds, list) else kinds
        if kind == "object":
            required = schema.get("required", ())
            fields = schema.get("properties", {})
            found = {name: self._valid(f) for name, f in fields.items() if name in required or self.rng.random() < 0.5}
            return found | (
                {"extra": self.rng.choice((1, "é", None, [1, {"a": []}]))} if schema.get("additionalProperties") else {}
            )
        if kind == "integer":
            return self.rng.randint(schema.get("minimum", -5), schema.get("maximum", 5))
        if kind == "null":
            return None
        return f"s{self.rng.randint(0, 10**9)}"

    def _mutated(self, value: Any) -> Any:
        hostile = (None, True, False, [], {}, [[]] * 3, self.rng.choice(TEXTS), self.rng.choice(NUMBERS), self._deep())
        if not isinstance(value, dict) or not value or self.rng.random() < 0.15:
            return self.rng.choice(hostile)
        value = dict(value)
        name = self.rng.choice(list(value))
        match self.rng.randint(0, 3):
            case 0:
                del value[name]
            case 1:
                value[self.rng.choice(TEXTS)] = self.rng.choice(hostile)
            case 2:
                value[name] = self.rng.choice(hostile)
            case _:
                value[name] = self._mutated(value[name])
        return value

    def _deep(self) -> Any:
        deep: Any = 1
        for _ in range(self.rng.choice((10, 65, 300))):
            deep = [deep] if self.rng.random() < 0.5 else {"k": deep}
        return deep

    def _broken(self, raw: bytes) -> bytes:
        cut = self.rng.randint(0, len(raw))
        return self.rng.choice((
            raw[:cut], raw + b"x", b"\xef\xbb\xbf" + raw, raw[:cut] + b"\xff\xfe" + raw[cut:], raw.decode("latin-1").encode("utf-16"),
            b"[" * 100_000, b'{"a":' * 5_000, b'{"priority": 1' + b"0" * 5000 + b"}", b" " * 20_000, b'{"a": "' + b"x" * 20_000, b"", b"\0", b"NaN",
            b'{"payload": {"task_type": "x", "y": "' + b"z" * 3000 + b'"}}', b'{"payload": {"task_type": "x", "y": "\\ud800"}}',
        ))  # fmt: skip

    def _spoil(self, made: dict[str, Any]) -> None:
        rng = self.rng
        if rng.random() < 0.3:
            made["method"] = rng.choice(METHODS)
        if rng.random() < 0.3:
            made["headers"]["Content-Type"] = rng.choice(TYPES)
        for name in rng.sample(list(HEADERS), rng.randint(0, 2)):
            made["headers"][name] = rng.choice(HEADERS[name])
        if rng.random() < 0.2:
            made["content"] = [made.get("content", b"x") or b"", b""]  # in chunks, without a length


def fire(client: httpx.Client, made: dict[str, Any]) -> httpx.Response:
    """Send the request byte by byte as made; the client would tidy the address."""
    url = httpx.URL(str(client.base_url)).copy_with(raw_path=made["path"].partition("#")[0].encode("ascii"))
    headers = {name: value.encode("latin-1") for name, value in made["headers"].items()}
    content = made.get("content")
    body = (part for part in content) if isinstance(content, list) else content
    return client.send(client.build_request(made["method"], url, headers=headers, content=body))


@contextmanager
def serving(runtime: Runtime) -> Iterator[str]:
    page = Route("/{page:path}", lambda _: HTMLResponse("a page of Streamlit's"))
    before = [*http.middleware(), Middleware(PathSecurityMiddleware)]  # as in st.App
    app = Starlette(routes=[*http.routes(), page], middleware=before)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", ws="none", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started)
    try:
        yield f"http://localhost:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(params=["open", "with a key"])
def target(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, bool]]:
    """The address of a server with a step and throttles that the document's addresses can name."""
    keyed = request.param != "open"
    if "FLEETQ_FUZZ_URL" in os.environ:
        yield os.environ["FLEETQ_FUZZ_URL"], keyed
        return
    runtime = Runtime(quiet_config(tmp_path, max_payload_bytes=2048, dead_pod_threshold=3600))
    runtime.start()
    try:
        runtime.queue.submit_step({"task_type": "echo"}, step_id="known")
        throttles = {
            name: {"max_inflight": 3, "odd": float("nan")} for name in ("bedrock", "known", "a/b", "x\ny", "\ud800")
        }
        runtime.queue.store.register_pod(Identity("pod-001", "i1"), {"throttles": throttles, "claimed": "many"})
        key = {"api_key": SecretStr(KEY)} if keyed else {}
        shown = variant(runtime, config=runtime.config.model_copy(update=key))
        monkeypatch.setattr(http, "get_runtime", lambda: shown)
        with serving(shown) as url:
            yield url, keyed
    finally:
        runtime.stop()


def test_no_input_brings_an_undocumented_answer(target: tuple[str, bool]) -> None:
    url, keyed = target
    print(f"FLEETQ_FUZZ_SEED={SEED}")
    fuzzer, seen = Fuzzer(SEED, keyed), Counter[int]()
    with httpx.Client(base_url=url, timeout=30) as client:
        for operation in OPERATIONS:
            answer = fire(client, fuzzer.request(operation))
            assert answer.is_success or "FLEETQ_FUZZ_URL" in os.environ, (operation[:2], answer.text)
            conformance.check(answer)
        for number in range(REQUESTS):
            made = fuzzer.request()
            try:
                answer = fire(client, made)
                assert answer.status_code < 500, answer.text
                conformance.check(answer)
            except (AssertionError, httpx.HTTPError) as exc:
                raise AssertionError(f"FLEETQ_FUZZ_SEED={SEED}, request {number}: {str(made)[:3000]}") from exc
            seen[answer.status_code] += 1
        assert client.get("/health").json() == {"status": "ok", "pod": "running"}
    if REQUESTS >= 1000 and "FLEETQ_FUZZ_URL" not in os.environ:  # the run has reached what it is for
        assert seen.keys() >= {200, 201, 400, 404, 405, 413, 422, 401 if keyed else 403}, seen
