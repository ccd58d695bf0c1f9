"""The HTTP door: a few JSON routes in the dashboard's process, and the lifespan that runs the pod there.

Streamlit answers unknown GETs with its own page, so each prefix of ours ends in a JSON 404.
"""

from __future__ import annotations

import gc
import hmac
import ipaddress
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from . import runtime
from .errors import FleetQError, InvalidPayload, NotLeader, StepConflict, StoreError, StoreUnavailable
from .leader.election import leader_of
from .logs import log_to_stdout
from .model import NewStep, format_ts
from .runtime import Runtime, get_runtime

log = logging.getLogger(__name__)

RETRY_AFTER_S = "5"
Endpoint = Callable[[Request], Awaitable[Response]]
Answer = tuple[int, dict[str, Any]]


@asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[None]:
    """Start the pod with the server and stop it with the server."""
    log_to_stdout()
    try:
        await anyio.to_thread.run_sync(get_runtime)
    except FleetQError as exc:
        for line in str(exc).splitlines():
            print(f"FLEET-Q cannot start: {line}", file=sys.stderr)  # noqa: T201
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
    return [
        Route("/submit", _write(_submit), methods=["POST"]),
        Route("/submit", _unknown, methods=["GET"]),
        Route("/status/{step_id:path}", _read(_status), methods=["GET"]),
        Route("/admin/queue", _read(_queue), methods=["GET"]),
        Route("/admin/leader", _read(_leader), methods=["GET"]),
        Route("/admin/recovery/run", _write(_recover, body=False), methods=["POST"]),
        Route("/admin/{rest:path}", _unknown),
        Route("/health", _read(_health), methods=["GET"]),
    ]


# -- answers, run in a thread: the event loop also serves every viewer ------------------------------------------------


def _submit(app: Runtime, _: Request, body: dict[str, Any]) -> Answer:
    unknown = sorted(set(body) - {"payload", "priority", "step_id", "max_retries"})
    if unknown:
        raise InvalidPayload(
            unknown[0], "is not a field of a submit; there are payload, priority, step_id, max_retries"
        )
    if "payload" not in body:
        raise InvalidPayload("payload", "is missing")
    step = NewStep(body["payload"], body.get("priority", 0), body.get("step_id"), body.get("max_retries"))
    return 201, {"step_id": app.queue.submit_steps([step])[0], "status": "submitted"}


def _status(app: Runtime, request: Request, _: dict[str, Any]) -> Answer:
    step_id = request.path_params["step_id"]
    record = app.queue.get_step(step_id)
    if record is None:
        return 404, {"error": f"there is no step {step_id!r}", "field": "step_id"}
    return 200, {
        "step_id": record.step_id,
        "status": record.status.value,
        "claimed_by": record.claimed_by,
        "payload": record.payload,
        "retry_count": record.retry_count,
        "priority": record.priority,
        "created_ts": format_ts(record.created_ts),
        "last_update_ts": format_ts(record.last_update_ts),
        "result": record.result,
        "error": record.error,
    }


def _queue(app: Runtime, _: Request, __: dict[str, Any]) -> Answer:
    return 200, dict(app.queue.stats().by_status())


def _leader(app: Runtime, _: Request, __: dict[str, Any]) -> Answer:
    store, threshold_s = app.queue.store, app.config.dead_pod_threshold
    pods, now_ts = store.list_pods(), store.now()
    leader = leader_of(pods, now_ts, threshold_s)
    alive = [pod.pod_id for pod in pods if pod.may_lead and pod.is_alive(now_ts, threshold_s)]
    return 200, {
        "leader_pod_id": leader.pod_id if leader else None,
        "this_pod_id": app.pod.who.pod_id,
        "is_leader": leader is not None and leader.incarnation == app.pod.who.incarnation,
        "total_alive_pods": len(alive),
        "alive_pods": alive,
    }


def _recover(app: Runtime, _: Request, __: dict[str, Any]) -> Answer:
    try:
        run = app.pod.recovery.run_now()
    except NotLeader as exc:
        return 409, {"error": str(exc), "leader_pod_id": app.pod.leader_pod_id}
    return 200, {
        "message": "Recovery cycle completed successfully",
        "stats": {
            "dead_pods": len(run.dead_pods),
            "total_orphans": run.total_orphans,
            "resubmitted": run.resubmitted,
            "terminal_failures": run.terminal_failures,
        },
    }


def _health(app: Runtime, _: Request, __: dict[str, Any]) -> Answer:
    app.queue.store.now()
    app.queue.store.list_pods()
    healthy = app.pod.failure is None
    return (200 if healthy else 503), {"status": "ok" if healthy else "failed", "pod": app.pod.state}


async def _unknown(request: Request) -> Response:
    error = {"error": f"there is no {request.method} {request.url.path}"}
    if request.url.path == "/submit":
        return JSONResponse({"error": "submit with POST"}, 405, {"Allow": "POST"})
    return JSONResponse(error, 404)


# -- around every answer ----------------------------------------------------------------------------------------------


def _read(answer: Callable[[Runtime, Request, dict[str, Any]], Answer]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await _answered(answer, request, {})

    return endpoint


def _write(answer: Callable[[Runtime, Request, dict[str, Any]], Answer], *, body: bool = True) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        app = await anyio.to_thread.run_sync(get_runtime)
        refused = _refused(app, request)
        if refused is not None:
            return refused
        values: dict[str, Any] = {}
        if body:
            try:
                values = await _json_body(request, app.config.max_payload_bytes + 4096)
            except _BadBody as exc:
                return JSONResponse({"error": str(exc), "field": "body"}, exc.status)
        return await _answered(answer, request, values)

    return endpoint


async def _answered(
    answer: Callable[[Runtime, Request, dict[str, Any]], Answer], request: Request, body: dict[str, Any]
) -> Response:
    def run() -> Answer:
        return answer(get_runtime(), request, body)

    try:
        status, content = await anyio.to_thread.run_sync(run)
    except InvalidPayload as exc:
        status, content = 422, {"error": str(exc), "field": exc.field}
    except StepConflict as exc:
        status, content = 409, {"error": str(exc), "field": "step_id"}
    except StoreUnavailable as exc:
        return JSONResponse({"error": str(exc)}, 503, {"Retry-After": RETRY_AFTER_S})
    except StoreError as exc:
        log.error("%s", exc)
        status, content = 503, {"error": str(exc)}
    return JSONResponse(content, status)


def _refused(app: Runtime, request: Request) -> Response | None:
    """Who may write: whoever has the key, or, where none is configured, only this machine."""
    if app.config.api_key is not None:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        if hmac.compare_digest(given.encode(), app.config.api_key.get_secret_value().encode()):
            return None
        return JSONResponse(
            {"error": "send the API key as Authorization: Bearer …"}, 401, {"WWW-Authenticate": "Bearer"}
        )
    # A page of another site can make a browser on this machine post: no Origin of a foreign host is let in.
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        return JSONResponse({"error": "cross-site requests are refused"}, 403)
    if request.client is not None and ipaddress.ip_address(request.client.host).is_loopback:
        return None
    return JSONResponse({"error": "writes from other machines need FLEET_Q_API_KEY to be set"}, 403)


class _BadBody(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


async def _json_body(request: Request, limit: int) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _BadBody(415, "send Content-Type: application/json")
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > limit:
            raise _BadBody(413, f"the body is larger than {limit:,} bytes")
    try:
        body = json.loads(received.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise _BadBody(400, f"the body is not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise _BadBody(422, f"the body must be a JSON object, not {type(body).__name__}")
    return body
