"""What a person may do from the screens. Each action goes through the queue, which checks, bounds and audits it."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from fleetq_core.commands import ALL_PODS, THE_LEADER, CommandKind
from fleetq_core.errors import InvalidPayload
from fleetq_core.ids import new_step_id
from fleetq_core.model import NewStep
from fleetq_core.roles import check_may_act
from fleetq_core.runtime import Runtime

MAX_COUNT = 1000
UPLOADS = "uploads"


def who() -> str:
    """Who acts: the e-mail of a logged-in viewer, else `dashboard`."""
    try:
        email = st.user.email if st.user.is_logged_in else None
    except AttributeError:  # no login is configured
        email = None
    return str(email) if email else "dashboard"


def requeue(runtime: Runtime, step_ids: Sequence[str]) -> str:
    """Requeue failed steps; says how many moved."""
    return _moved("requeued", len(runtime.queue.requeue_steps(step_ids, by=who())), len(step_ids), "failed")


def cancel(runtime: Runtime, step_ids: Sequence[str]) -> str:
    """Cancel pending steps; says how many moved."""
    return _moved("cancelled", len(runtime.queue.cancel_steps(step_ids, by=who())), len(step_ids), "pending")


def _moved(verb: str, moved: int, asked: int, needed: str) -> str:
    noun = "step" if asked == 1 else "steps"
    rest = "" if moved == asked else f"; the others are not {needed} any more"
    return f"{moved:,} of {asked:,} {noun} {verb}{rest}."


def order(runtime: Runtime, kind: CommandKind, pod_id: str | None = None) -> str:
    """Order a pod (None: all pods) to do something; returns the command's id."""
    target = THE_LEADER if kind is CommandKind.RUN_RECOVERY else pod_id or ALL_PODS
    command_id = runtime.queue.order(kind, target, by=who())
    runtime.poke()
    return command_id


def reset_throttle(runtime: Runtime, name: str, pod_id: str | None = None) -> str:
    """Order a pod (None: all pods) to forget what a throttle has learnt; returns the command's id."""
    command_id = runtime.queue.order(CommandKind.RESET_THROTTLE, pod_id or ALL_PODS, by=who(), name=name)
    runtime.poke()
    return command_id


def parse_payload(task_type: str, text: str) -> dict[str, Any]:
    """The payload that `text` describes, with its task_type. Raises InvalidPayload."""
    try:
        value = json.loads(text or "{}")
    except ValueError as exc:
        raise InvalidPayload("payload", f"is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise InvalidPayload("payload", f"must be a JSON object such as {{}}, not {type(value).__name__}")
    if value.get("task_type", task_type) != task_type:
        raise InvalidPayload("payload.task_type", f"is {value['task_type']!r}, but the chosen task is {task_type!r}")
    return {"task_type": task_type, **value}


def check(runtime: Runtime, payload: Mapping[str, Any], priority: int = 0, step_id: str | None = None) -> None:
    """Raise InvalidPayload if this step could not be submitted."""
    runtime.queue.check(NewStep(payload, priority, step_id))


def submit(
    runtime: Runtime, payload: Mapping[str, Any], priority: int = 0, count: int = 1, step_id: str | None = None
) -> list[str]:
    """Submit `count` equal steps; a given step_id gets -1, -2, … where there are several."""
    if not 1 <= count <= MAX_COUNT:
        raise InvalidPayload("count", f"must be from 1 to {MAX_COUNT:,}, not {count}")
    ids = [step_id or new_step_id()] if count == 1 else [
        f"{step_id}-{number}" if step_id else new_step_id() for number in range(1, count + 1)
    ]  # fmt: skip
    return runtime.queue.submit_steps([NewStep(payload, priority, one) for one in ids])


def save_upload(runtime: Runtime, name: str, content: bytes | memoryview) -> str:
    """Keep an uploaded file for the pods of this machine; returns its absolute path.

    Only the shape of the visitor's file name survives: no folder, no odd character, never the name of another file.
    """
    check_may_act(runtime.config.role)  # the store, which refuses a viewer everything else, has no part in this
    base = re.split(r"[/\\]", name)[-1]
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", base).lstrip(".")[-100:] or "file"
    folder = (runtime.config.data_dir / UPLOADS).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{secrets.token_hex(6)}-{safe}"
    with path.open("xb") as out:
        out.write(content)
    return str(path)
