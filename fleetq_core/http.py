"""The HTTP door: a few JSON routes in the dashboard's process, and the lifespan that runs the pod there.

Streamlit answers unknown addresses with its own page, so everything below a prefix of ours is answered here.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from . import runtime
from .commands import ALL_PODS, CommandKind
from .errors import FleetQError, InvalidPayload, NotLeader, StepConflict, StoreUnavailable
from .http_guard import Refused, check_writer, json_body
from .ids import STEP_ID
from .logs import log_to_stdout
from .model import JSON
from .runtime import Runtime, get_runtime
from .shapes import (
    fleet_of,
    leader_view,
    new_step,
    printable,
    published_throttles,
    recovery_stats,
    step_view,
    throttle_view,
)

log = logging.getLogger(__name__)

RETRY_AFTER_S = "5"
Fields = dict[str, JSON]
Answer = tuple[int, Fields]
Answering = Callable[[Runtime, Request, Fields], Answer]


@asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[None]:
    """Start the pod with the server and stop it with the server."""
    log_to_stdout()
    try:
        await anyio.to_thread.run_sync(get_runtime)
    except FleetQError as exc:
        for line in str(exc).splitlines():
            print(f"FLEET-Q cannot start: {line}", file=sys.stderr)  # noqa: T201
        # The line says it all; the server would add the traceback of this exit.
        logging.getLogger("uvicorn.error").disabled = True
        raise SystemExit(3) from None
    runtime.stop_claiming_on_signals()
    # What is loaded by now stays: scanning it at every collection would cost each viewer tens of milliseconds.
    gc.freeze()
    try:
        yield
    finally:
        await anyio.to_thread.run_sync(runtime.shutdown)


def routes() -> list[BaseRoute]:
    """All routes of the API."""
    nothing = _Door()
    return [
        Route("/submit", _Door(post=_submit, takes_body=True)),
        Route("/status", nothing),
        Route("/status/{step_id:rest}", _Door(get=_status)),
        Route("/admin", nothing),
        Route("/admin/queue", _Door(get=_queue)),
        Route("/admin/leader", _Door(get=_leader)),
        Route("/admin/recovery/run", _Door(post=_recover)),
        Route("/admin/throttle", _Door(get=_throttles)),
        Route("/admin/throttle/{name:rest}/reset", _Door(post=_reset_throttle)),
        Route("/health", _Door(get=_health)),
        *(Route(f"/{prefix}/{{rest:rest}}", nothing) for prefix in ("submit", "admin", "health")),
    ]


class _Rest(Convertor[str]):
    """The rest of a path. Starlette's own `path` stops at a line end, which would lead past us to Streamlit's page."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("rest", _Rest())


# -- answers, run in a thread: the event loop also serves every viewer ------------------------------------------------


def _submit(app: Runtime, _: Request, body: Fields) -> Answer:
    step_id = app.queue.submit_steps([new_step(body)])[0]
    return 201, {"step_id": step_id, "status": "submitted"}


def _status(app: Runtime, request: Request, _: Fields) -> Answer:
    step_id = request.path_params["step_id"]
    # What no step can be called needs no look into the store.
    record = app.queue.get_step(step_id) if STEP_ID.fullmatch(step_id) else None
    if record is None:
        raise Refused(404, f"there is no step {step_id!r}", "step_id")
    return 200, step_view(record)


def _queue(app: Runtime, _: Request, __: Fields) -> Answer:
    return 200, dict(app.queue.stats().by_status())


def _leader(app: Runtime, _: Request, __: Fields) -> Answer:
    return 200, leader_view(*fleet_of(app.queue), me=app.pod.who)


def _recover(app: Runtime, _: Request, __: Fields) -> Answer:
    try:
        if app.pod.state in ("stopping", "stopped"):
            raise NotLeader(f"pod {app.pod.who.pod_id} is {app.pod.state}, so it may not run a recovery")
        run = app.pod.recovery.run_now()
    except NotLeader as exc:
        return 409, {"error": str(exc), **leader_view(*fleet_of(app.queue), me=app.pod.who)}
    return 200, {"message": "Recovery cycle completed successfully", "stats": recovery_stats(run)}


def _throttles(app: Runtime, _: Request, __: Fields) -> Answer:
    found = published_throttles(*fleet_of(app.queue))
    return 200, {"throttles": {name: throttle_view(by_pod) for name, by_pod in sorted(found.items())}}


def _reset_throttle(app: Runtime, request: Request, _: Fields) -> Answer:
    name = request.path_params["name"]
    if name not in published_throttles(*fleet_of(app.queue)):
        raise Refused(404, f"no living pod publishes a throttle {name!r}", "name")
    command_id = app.queue.order(CommandKind.RESET_THROTTLE, ALL_PODS, by="http", name=name)
    app.pod.poke()
    return 202, {"message": f"Reset of throttle {name} ordered from all pods", "command_id": command_id}


def _health(app: Runtime, _: Request, __: Fields) -> Answer:
    app.queue.store.list_pods()
    healthy = app.pod.failure is None
    return (200 if healthy else 503), {"status": "ok" if healthy else "failed", "pod": app.pod.state}


# -- around every answer ----------------------------------------------------------------------------------------------


class _Door:
    """One address: what answers a GET and what a POST. Without either, the address does not exist."""

    def __init__(
        self, get: Answering | None = None, post: Answering | None = None, *, takes_body: bool = False
    ) -> None:
        self._get, self._post, self._takes_body = get, post, takes_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            status, content = await self._answer(request)
            response: Response = _Json(content, status)
        except Refused as exc:
            response = _refusal(exc)
        except FleetQError as exc:
            response = _refusal(_refused(exc))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Answer:
        answering = self._answering(request)
        app = await anyio.to_thread.run_sync(get_runtime)
        body: Fields = {}
        if answering is self._post:
            check_writer(request, app.config)
            if self._takes_body:
                body = await json_body(request, app.config)
        return await anyio.to_thread.run_sync(answering, app, request, body)

    def _answering(self, request: Request) -> Answering:
        path, get, post = request.url.path, self._get, self._post
        if get is None and post is None:
            raise Refused(404, f"there is no {path}")
        if get is not None and request.method in ("GET", "HEAD"):
            return get
        if post is not None and request.method == "POST":
            return post
        allowed = [*(("GET", "HEAD") if get else ()), *(("POST",) if post else ())]
        raise Refused(405, f"{path} takes {' or '.join(allowed)}", headers={"Allow": ", ".join(allowed)})


def _refused(exc: FleetQError) -> Refused:
    match exc:
        case InvalidPayload():
            return Refused(422, str(exc), exc.field)
        case StepConflict():
            return Refused(409, str(exc), "step_id")
        case StoreUnavailable():
            return Refused(503, str(exc), headers={"Retry-After": RETRY_AFTER_S})
        case _:
            log.error("%s", exc)
            return Refused(503, str(exc))


def _refusal(refused: Refused) -> Response:
    field = {} if refused.field is None else {"field": printable(refused.field)}
    return _Json({"error": printable(refused.error), **field}, refused.status, refused.headers)


class _Json(JSONResponse):
    """JSON that also says what UTF-8 cannot: a lone surrogate from somebody's input becomes its escape."""

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")
