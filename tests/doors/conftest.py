"""The HTTP routes in process: a pod on a temporary store, and behind the routes a page as Streamlit's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from fleetq_core import http
from fleetq_core.config import Config
from fleetq_core.runtime import Runtime
from tests.doors import conformance

LOOPBACK = ("127.0.0.1", 50000)


class Api:
    """Calls the routes; an exception that they let through fails the test, as it would be a 500 for the caller.

    So does an answer that the OpenAPI document does not tell of.
    (Starlette's TestClient wants httpx2; httpx, which we have, can call an application by itself.)
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        page = Route("/{page:path}", lambda _: HTMLResponse("a page of Streamlit's"))
        self.app = Starlette(routes=[*http.routes(), page])

    def __call__(self, method: str, path: str, *, client: tuple[str, int] = LOOPBACK, **options: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=client)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8501") as caller:
                return await caller.request(method, path, **options)

        answer = anyio.run(call)
        conformance.check(answer)
        return answer

    def refuses(self, status: int, field: str | None, method: str, path: str, **options: Any) -> str:
        """Expect a JSON refusal that names `field`; returns its error."""
        answer = self(method, path, **options)
        assert answer.headers["content-type"] == "application/json", answer.text
        body = answer.json()
        assert (answer.status_code, body.get("field")) == (status, field), body
        assert len(body["error"]) <= 600
        return str(body["error"])

    def submit(self, **fields: Any) -> str:
        answer = self("POST", "/submit", json=fields)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["step_id"])


def quiet_config(folder: Path, **override: Any) -> Config:
    """A pod whose heartbeat does not disturb, on a store of its own."""
    values: dict[str, Any] = {
        "store": f"sqlite:///{folder}/fleetq.db",
        "data_dir": folder / "data",
        "pod_id": "pod-here",
        "sqlite_synchronous": "NORMAL",
        "stop_grace": 0,
    }
    return Config(**(values | override))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """One runtime for the tests of a module: they use step ids of their own."""
    runtime = Runtime(quiet_config(tmp_path_factory.mktemp("running")))
    runtime.start()
    yield runtime
    runtime.stop()


@pytest.fixture
def api_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Runtime], Api]:
    """The routes of a given runtime."""

    def of(runtime: Runtime) -> Api:
        monkeypatch.setattr(http, "get_runtime", lambda: runtime)
        return Api(runtime)

    return of


@pytest.fixture
def api(api_of: Callable[[Runtime], Api], running: Runtime) -> Api:
    return api_of(running)


def variant(runtime: Runtime, **changed: Any) -> Runtime:
    """The same runtime with another `config` or `queue`."""
    other = copy.copy(runtime)
    for name, value in changed.items():
        setattr(other, name, value)
    return other
