"""What each route of the HTTP API answers, and the table of them: what is served, and what the document says of it.

Answers run in a thread: the event loop also serves every viewer.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from .commands import ALL_PODS, THE_LEADER, CommandKind
from .errors import InvalidPayload, NotLeader
from .http_door import Answer, Endpoint, Fields
from .http_guard import Refused
from .ids import STEP_ID
from .metrics import Metrics
from .openapi import Body, Described, Operation, Reply, document
from .runtime import Runtime
from .shapes import (
    fleet_of,
    leader_view,
    new_step,
    published_throttles,
    recovery_stats,
    step_view,
    throttle_view,
)


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
    return 200, _leadership(app)


def _leadership(app: Runtime) -> Fields:
    # The fields are the same without a pod: programs rely on them.
    me = app.pod.who if app.pod is not None else None
    return {"this_pod_id": None, "is_leader": False} | leader_view(*fleet_of(app.queue), me=me)


def _recover(app: Runtime, request: Request, body: Fields) -> Answer:
    _only(body, ())
    if app.pod is None:
        return _ask_leader(app, request)
    try:
        if app.pod.state in ("stopping", "stopped"):
            raise NotLeader(f"pod {app.pod.who.pod_id} is {app.pod.state}, so it may not run a recovery")
        run = app.pod.recovery.run_now()
    except NotLeader as exc:
        return 409, {"error": str(exc), **_leadership(app)}
    return 200, {"message": "Recovery cycle completed successfully", "stats": recovery_stats(run)}


def _ask_leader(app: Runtime, request: Request) -> Answer:
    found = _leadership(app)
    if found["leader_pod_id"] is None:
        return 409, {"error": "no living pod leads this fleet, and this process runs no pod", **found}
    command_id = app.queue.order(CommandKind.RUN_RECOVERY, THE_LEADER, by=request.state.caller.name)
    return 202, {"message": f"Recovery ordered from pod {found['leader_pod_id']}", "command_id": command_id}


def _only(body: Fields, known: tuple[str, ...]) -> None:
    for name in sorted(body.keys() - set(known)):
        raise InvalidPayload(name, f"is not a field of this request; there is {' '.join(known) or 'none'}")


def _throttles(app: Runtime, _: Request, __: Fields) -> Answer:
    found = published_throttles(*fleet_of(app.queue))
    return 200, {"throttles": {name: throttle_view(by_pod) for name, by_pod in sorted(found.items())}}


def _reset_throttle(app: Runtime, request: Request, body: Fields) -> Answer:
    name, pod_id = request.path_params["name"], body.get("pod_id")
    _only(body, ("pod_id",))
    if pod_id is not None and not isinstance(pod_id, str):
        raise InvalidPayload("pod_id", f"must be the name of a pod, not {type(pod_id).__name__}")
    by_pod = published_throttles(*fleet_of(app.queue)).get(name)
    if by_pod is None:
        raise Refused(404, f"no living pod publishes a throttle {name!r}", "name")
    if pod_id is not None and pod_id not in by_pod:
        raise Refused(404, f"no living pod {pod_id!r} publishes a throttle {name!r}", "pod_id")
    whose = request.state.caller.name
    command_id = app.queue.order(CommandKind.RESET_THROTTLE, pod_id or ALL_PODS, by=whose, name=name)
    app.poke()
    whom = f"pod {pod_id}" if pod_id else "all pods"
    return 202, {"message": f"Reset of throttle {name} ordered from {whom}", "command_id": command_id}


def _health(app: Runtime, _: Request, __: Fields) -> Answer:
    app.queue.store.list_pods()
    if app.pod is None:
        return 200, {"status": "ok", "pod": "none", "role": app.config.role.value}
    healthy = app.pod.failure is None
    return (200 if healthy else 503), {"status": "ok" if healthy else "failed", "pod": app.pod.state}


def _metrics(app: Runtime, request: Request, _: Fields) -> Answer:
    with app.lock:
        metrics = app.cache.get("metrics")
        if metrics is None or metrics.queue is not app.queue:
            metrics = app.cache["metrics"] = Metrics(app.queue, app.meter)
    text, media_type = metrics.exposition(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type})


def _document(_: Runtime, __: Request, ___: Fields) -> Answer:
    return 200, openapi()


def _docs(_: Runtime, __: Request, ___: Fields) -> Answer:
    page, policy = _docs_page()
    return Response(page, media_type="text/html", headers={"Content-Security-Policy": policy})


def openapi() -> Fields:
    """The OpenAPI document of ENDPOINTS."""
    return document(Described(endpoint.method, endpoint.path, endpoint.operation) for endpoint in ENDPOINTS)


@cache
def _docs_page() -> tuple[str, str]:
    """The page, and a policy that lets it run its own style and script, ask this server, and nothing else."""
    page = files(__package__).joinpath("static", "docs.html").read_text(encoding="utf-8")
    own = {kind: _hash(re.search(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)) for kind in ("style", "script")}
    return page, (
        f"default-src 'none'; style-src {own['style']}; script-src {own['script']}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(found: re.Match[str] | None) -> str:
    text = found[1] if found else ""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# -- the table of routes: what is served, and what the document says of it --------------------------------------------

_ID, _POD = "step-0199f3a2c4d1000000a1b2c3d4e5", "pod-001"
_PAYLOAD = {"task_type": "process_data", "file": "data.csv"}
_LEADER = {
    "leader_pod_id": _POD, "this_pod_id": "pod-002", "is_leader": False, "total_alive_pods": 3,
    "alive_pods": [_POD, "pod-002", "pod-003"],
}  # fmt: skip
_THROTTLE = {
    "max_inflight": 15, "current_inflight": 8, "available_capacity": 7, "total_requests": 1000,
    "total_successes": 950, "total_throttles": 50, "throttle_rate": 0.05, "current_p95_latency": 0.45,
    "baseline_latency": 0.3,
}  # fmt: skip

ENDPOINTS = (
    Endpoint("post", "/submit", _submit, Operation(
        "submit", "Submit a step",
        {
            201: Reply("The step is stored for good.", "Submitted", {"step_id": _ID, "status": "submitted"}),
            409: Reply(
                "The step_id belongs to a step with another payload or priority.", "Error",
                {"error": f"step_id '{_ID}' is already used for a different payload or priority", "field": "step_id"},
            ),
        },
        "Safe to repeat with a step_id: the same step again is a no-op that answers the same.",
        Body("NewStep", {"payload": _PAYLOAD, "priority": 1}),
    )),
    Endpoint("get", "/status/{step_id}", _status, Operation(
        "status", "Tell a step's status",
        {
            200: Reply("The step, whole.", "Step", {
                "step_id": _ID, "status": "completed", "claimed_by": _POD, "payload": _PAYLOAD, "retry_count": 0,
                "priority": 1, "created_ts": "2026-01-17 12:34:56", "last_update_ts": "2026-01-17 12:35:01",
            }),
            404: Reply("There is no such step.", "Error", {"error": "there is no step 'x'", "field": "step_id"}),
        },
        "A step_id may hold slashes, escaped or not.",
    )),
    Endpoint("get", "/admin/queue", _queue, Operation(
        "queue", "Count the steps by status",
        {200: Reply("All steps in the store.", "Counts", {"pending": 10, "claimed": 5, "completed": 100, "failed": 2})},
        tag="Fleet",
    )),
    Endpoint("get", "/admin/leader", _leader, Operation(
        "leader", "Tell who leads, and who is alive", {200: Reply("The fleet.", "Leader", _LEADER)}, tag="Fleet",
    )),
    Endpoint("post", "/admin/recovery/run", _recover, Operation(
        "recover", "Run one recovery cycle",
        {
            200: Reply("What it did.", "Recovered", {
                "message": "Recovery cycle completed successfully",
                "stats": {"dead_pods": 1, "total_orphans": 5, "resubmitted": 4, "terminal_failures": 1},
            }),
            202: Reply("This process runs no pod: the leader was ordered to, and does it with its next heartbeat.",
                       "Ordered",
                       {"message": "Recovery ordered from pod pod-001", "command_id": "cmd-0123456789ab"}),
            409: Reply("This pod does not lead, so nothing was done. Ask the one that does.", "NotLeader",
                       {"error": "pod pod-002 does not lead the fleet, so it may not run a recovery", **_LEADER}),
        },
        "Only where this process's pod leads; a process without a pod orders it from the leader.",
        Body("Nothing", {}, required=False),
        tag="Fleet",
    )),
    Endpoint("get", "/admin/throttle", _throttles, Operation(
        "throttles", "Show the throttles of the fleet",
        {200: Reply("Each that some living pod publishes.", "Throttles", {"throttles": {"bedrock": _THROTTLE}})},
        "Capacities and counts are sums over the pods, latencies those of the slowest.",
        tag="Throttles",
    )),
    Endpoint("post", "/admin/throttle/{name}/reset", _reset_throttle, Operation(
        "resetThrottle", "Order a throttle's reset",
        {
            202: Reply("Ordered; each pod carries it out with its next heartbeat.", "Ordered", {
                "message": "Reset of throttle bedrock ordered from all pods", "command_id": "cmd-0123456789ab",
            }),
            404: Reply("No living pod publishes that throttle.", "Error",
                       {"error": "no living pod publishes a throttle 'bedrock'", "field": "name"}),
        },
        body=Body("Reset", {"pod_id": _POD}, required=False),
        tag="Throttles",
    )),
    Endpoint("get", "/health", _health, Operation(
        "health", "Tell whether this process can work",
        {
            200: Reply("The store answers, and the pod lives if there is one.", "Health",
                       {"status": "ok", "pod": "running"}),
            503: Reply("The store is away (with Retry-After), or a loop of the pod has died.", "HealthOrError",
                       {"status": "failed", "pod": "stopped"}, headers=("Retry-After",)),
        },
        tag="Process", public=True,
    )),
    Endpoint("get", "/metrics", _metrics, Operation(
        "metrics", "Prometheus metrics of the whole fleet",
        {200: Reply("The text format 0.0.4, or OpenMetrics 1.0 for who accepts it.", media="text/plain",
                    example='fleetq_steps{status="pending"} 10.0\n')},
        "With the store away it still answers: fleetq_store_up is 0 then, and figures of the fleet are left out.",
        tag="Process",
    )),
    Endpoint("get", "/openapi.json", _document, Operation(
        "openapi", "This document", {200: Reply("OpenAPI 3.1.")}, tag="Process", public=True,
    )),
    Endpoint("get", "/docs", _docs, Operation(
        "docs", "This document, for people", {200: Reply("A page that asks this server only.", media="text/html")},
        tag="Process", public=True,
    )),
)  # fmt: skip
