"""What a person may do from the screens. Each action goes through the queue, which checks, bounds and audits it."""

from __future__ import annotations

import functools
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from fleetq_core import many_steps
from fleetq_core.commands import ALL_PODS, THE_LEADER, CommandKind
from fleetq_core.errors import InvalidPayload, StepConflict
from fleetq_core.ids import new_step_id
from fleetq_core.many_steps import Progress
from fleetq_core.model import NewStep, Submitted
from fleetq_core.roles import check_may_act
from fleetq_core.runtime import Runtime

from . import person

P = ParamSpec("P")
T = TypeVar("T")

MAX_COUNT = 1000
UPLOADS = "uploads"


def _acts(action: Callable[Concatenate[Runtime, P], T]) -> Callable[Concatenate[Runtime, P], T]:
    """Only for operators. It is asked here, at the action: a button that is not drawn keeps nobody from it."""

    @functools.wraps(action)
    def guarded(runtime: Runtime, /, *args: P.args, **options: P.kwargs) -> T:
        person.caller(runtime.config).check_may_act()
        return action(runtime, *args, **options)

    return guarded


def _who(runtime: Runtime) -> str:
    return person.caller(runtime.config).name


@_acts
def requeue(runtime: Runtime, step_ids: Sequence[str], what: str = "") -> Iterator[Progress]:
    """Give failed steps a fresh set of retries; `what` says for the record how they were found."""
    return many_steps.requeue(runtime.queue, step_ids, by=_who(runtime), what=what)


@_acts
def cancel(runtime: Runtime, step_ids: Sequence[str], what: str = "") -> Iterator[Progress]:
    """End pending steps for good."""
    return many_steps.cancel(runtime.queue, step_ids, by=_who(runtime), what=what)


@_acts
def replay(runtime: Runtime, copies: Mapping[str, str], what: str = "") -> Iterator[Progress]:
    """Submit copies of ended steps, under the id that `copies` gives to each."""
    return many_steps.replay(runtime.queue, copies, by=_who(runtime), what=what)


@_acts
def order(runtime: Runtime, kind: CommandKind, pod_id: str | None = None) -> str:
    """Order a pod (None: all pods) to do something; returns the command's id."""
    target = THE_LEADER if kind is CommandKind.RUN_RECOVERY else pod_id or ALL_PODS
    command_id = runtime.queue.order(kind, target, by=_who(runtime))
    runtime.poke()
    return command_id


@_acts
def reset_throttle(runtime: Runtime, name: str, pod_id: str | None = None) -> str:
    """Order a pod (None: all pods) to forget what a throttle has learnt; returns the command's id."""
    command_id = runtime.queue.order(CommandKind.RESET_THROTTLE, pod_id or ALL_PODS, by=_who(runtime), name=name)
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


@_acts
def submit(
    runtime: Runtime, payload: Mapping[str, Any], priority: int = 0, count: int = 1, step_id: str | None = None
) -> list[str]:
    """Submit `count` equal steps; a given step_id gets -1, -2, … where there are several."""
    if not 1 <= count <= MAX_COUNT:
        raise InvalidPayload("count", f"must be from 1 to {MAX_COUNT:,}, not {count}")
    ids = [step_id or new_step_id()] if count == 1 else [
        f"{step_id}-{number}" if step_id else new_step_id() for number in range(1, count + 1)
    ]  # fmt: skip
    sets = list(submit_sets(runtime, [NewStep(payload, priority, one) for one in ids]))
    if conflicts := [step_id for done in sets for step_id in done.conflicts]:
        raise StepConflict(conflicts[0])
    return ids


@_acts
def submit_sets(runtime: Runtime, steps: Sequence[NewStep]) -> Iterator[Submitted]:
    """Submit many steps set by set; what each set brought."""
    return many_steps.submit(runtime.queue, steps, by=_who(runtime))


@_acts
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
