"""The JSON bodies of the HTTP API as JSON Schema. The tests hold every answer that they see against these."""

from __future__ import annotations

from typing import Any

from .ids import STEP_ID
from .queue import PRIORITY_LIMIT

Schema = dict[str, Any]


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None, *, open_ended: bool = False) -> Schema:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": open_ended,
    }


def _nullable(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NAMES: dict[str, Schema] = {
    "step_id": {"type": "string", "pattern": f"^{STEP_ID.pattern}$", "examples": ["step-0199f3a2c4d1000000a1b2c3d4e5"]},
    "name": {"type": "string", "examples": ["bedrock"]},
}
_TIME: Schema = {"type": "string", "description": "UTC, by the database's clock", "examples": ["2026-01-17 12:34:56"]}
_STATUS: Schema = {"type": "string", "enum": ["pending", "claimed", "completed", "failed"]}
_FIGURES: Schema = {
    "max_inflight": NUMBER | {"description": "Calls at once, all pods together."},
    "current_inflight": NUMBER,
    "available_capacity": NUMBER,
    "total_requests": NUMBER,
    "total_successes": NUMBER,
    "total_throttles": NUMBER,
    "throttle_rate": NUMBER | {"description": "Refused calls ÷ calls."},
    "current_p95_latency": _nullable(NUMBER) | {"description": "Seconds, of the slowest pod."},
    "baseline_latency": _nullable(NUMBER) | {"description": "Seconds."},
}
_LEADER: Schema = {
    "leader_pod_id": _nullable(TEXT),
    "this_pod_id": _nullable(TEXT) | {"description": "null where this process runs no pod"},
    "is_leader": {"type": "boolean"},
    "total_alive_pods": COUNT,
    "alive_pods": {"type": "array", "items": TEXT},
}
_ERROR: Schema = {"error": TEXT | {"description": "What is wrong, and the way out."}}

SCHEMAS: dict[str, Schema] = {
    "Error": _object(_ERROR, {"field": TEXT | {"description": "The field or header at fault, as a path."}}),
    "NewStep": _object(
        {
            "payload": _object(
                {"task_type": {"type": "string", "maxLength": 200, "pattern": r"\S", "description": "Names the task."}},
                open_ended=True,
            )
        },
        {
            "priority": {
                "type": "integer", "minimum": -PRIORITY_LIMIT, "maximum": PRIORITY_LIMIT, "default": 0,
                "description": "Higher is claimed first. A whole number; 1.0 and true are none.",
            },
            "step_id": _nullable(NAMES["step_id"])
            | {"description": "The idempotency key: the same step again is a no-op. Without one, an id is made."},
            "max_retries": _nullable({"type": "integer", "minimum": 0, "maximum": 1000})
            | {"description": "Retries before the step fails for good; FLEET_Q_MAX_RETRIES without it."},
        },
    ),
    "Submitted": _object({"step_id": NAMES["step_id"], "status": TEXT | {"const": "submitted"}}),
    "Step": _object(
        {
            "step_id": TEXT,
            "status": _STATUS,
            "claimed_by": _nullable(TEXT) | {"description": "The pod that claimed it last."},
            "payload": {"description": "As it was submitted."},
            "retry_count": COUNT,
            "priority": {"type": "integer"},
            "created_ts": _TIME,
            "last_update_ts": _TIME,
        },
        {
            "due_ts": _nullable(_TIME) | {"description": "Until when a step that was handed back waits."},
            "deferrals": COUNT | {"description": "How often it was handed back."},
            "result": {"description": "What its handler returned."},
            "error": _nullable(TEXT),
            "history": {"description": "The attempts that did not complete."},
        },
    ),
    "Counts": _object(dict.fromkeys(_STATUS["enum"], COUNT)),
    "Leader": _object(_LEADER),
    "NotLeader": _object(_ERROR | _LEADER),
    "Recovered": _object(
        {
            "message": TEXT,
            "stats": _object(
                dict.fromkeys(("dead_pods", "total_orphans", "resubmitted", "terminal_failures"), COUNT)
            ),
        }
    ),
    "Throttles": _object(
        {"throttles": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Throttle"}}}
    ),
    "Throttle": _object(
        _FIGURES,
        {
            "scope": {"type": "string", "enum": ["pod", "fleet"]},
            "fleet_limit": _nullable(NUMBER) | {"description": "The limit of all pods together, where they share one."},
            "total_timeouts": NUMBER,
            "waiting": NUMBER,
            "pods": {
                "type": "object",
                "additionalProperties": {"type": "object"},
                "description": "What each living pod publishes, by its name.",
            },
        },
    ),
    "Reset": _object({}, {"pod_id": _nullable(TEXT) | {"description": "The pod to order it from; all without one."}}),
    "Nothing": _object({}),
    "Ordered": _object({"message": TEXT, "command_id": TEXT}),
    "Health": _object(
        {
            "status": {"type": "string", "enum": ["ok", "failed"]},
            "pod": TEXT | {"description": "Its state, or none where this process runs no pod."},
        },
        {"role": {"type": "string", "enum": ["dashboard", "viewer"], "description": "Why there is no pod."}},
    ),
    "HealthOrError": {"oneOf": [{"$ref": "#/components/schemas/Health"}, {"$ref": "#/components/schemas/Error"}]},
}  # fmt: skip
