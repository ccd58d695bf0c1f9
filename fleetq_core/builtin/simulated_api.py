"""`simulated_api`: calls to a downstream that is not there, to watch a throttle learn on a live fleet."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from fleetq_core.errors import TerminalError, Throttled
from fleetq_core.model import Step
from fleetq_core.playground.api import Refused, SimulatedApi, Steps
from fleetq_core.tasks import task
from fleetq_core.throttle import ThrottleConfig, get_or_create_throttle

from .http_request import THROTTLE_NAME

NAME = "simulated_api"
# A pod runs six steps at once by default: the last capacity is all of them, the others are less.
DEFAULT_STEPS: Steps = ((60.0, 4), (60.0, 1), (60.0, 6))
DEFAULT_MEAN_S, MAX_MEAN_S = 0.5, 60.0
MAX_STEPS, MAX_STEP_S, MAX_CAPACITY = 20, 3600.0, 1000
MAX_APIS = 20
SLOT_WAIT_S = 2.0  # a step that waits longer for a slot of the throttle is handed back
CONFIG = ThrottleConfig(initial_limit=2)

_lock = threading.Lock()
_apis: dict[str, SimulatedApi] = {}


@task(NAME, timeout_s=600, throttle=NAME)
async def simulated_api(step: Step) -> dict[str, Any]:
    """Call a downstream inside this pod that takes 4 calls at once for a minute, then 1, then 6, and refuses the rest.

    `mean_s` (default 0.5) is the mean length of a call, `steps` a list of [seconds, capacity] that repeats (default
    [[60, 4], [60, 1], [60, 6]]), `name` (default simulated_api) the downstream and its throttle. A refused step is
    handed back and uses no retry. Other steps for a name that is known start its capacity anew.
    """
    name, steps, mean_s = _arguments(step.payload)
    throttle, api = get_or_create_throttle(name, CONFIG), _api(name, steps)
    async with throttle.acquire(timeout_s=SLOT_WAIT_S):
        try:
            with api.call(mean_s) as seconds:
                await asyncio.sleep(seconds)
        except Refused as exc:
            throttle.record_throttle()
            raise Throttled(f"{name}: {exc}") from exc
        throttle.record_success()
    return {"call_s": round(seconds, 3), "limit": throttle.max_inflight}


def _api(name: str, steps: Steps | None) -> SimulatedApi:
    with _lock:
        known = _apis.get(name)
        if known is not None and steps in (None, known.steps):
            return known
        if known is None and len(_apis) >= MAX_APIS:
            raise TerminalError(f"payload.name is {name!r}; this pod simulates {MAX_APIS} downstreams already")
        _apis[name] = SimulatedApi(steps or DEFAULT_STEPS)
        return _apis[name]


def _arguments(payload: dict[str, Any]) -> tuple[str, Steps | None, float]:
    name = payload.get("name", NAME)
    if not isinstance(name, str) or not THROTTLE_NAME.fullmatch(name):
        raise TerminalError(f"payload.name is {name!r}; it must be a name of 1 to 100 letters, digits or _ . : @ / -")
    mean_s = payload.get("mean_s", DEFAULT_MEAN_S)
    if not _is_number(mean_s, MAX_MEAN_S):
        raise TerminalError(f"payload.mean_s is {mean_s!r}; it must be a number of seconds up to {MAX_MEAN_S:g}")
    return name, _steps(payload["steps"]) if "steps" in payload else None, float(mean_s)


def _steps(given: Any) -> Steps:
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_STEPS or not all(map(_is_step, given)):
        raise TerminalError(
            f"payload.steps is {str(given)[:200]}; it must be a list of up to {MAX_STEPS} [seconds, capacity], with up "
            f"to {MAX_STEP_S:,.0f} seconds and a whole capacity from 0 to {MAX_CAPACITY:,}"
        )
    return tuple((float(seconds), capacity) for seconds, capacity in given)


def _is_step(step: Any) -> bool:
    if not isinstance(step, list) or len(step) != 2:
        return False
    seconds, capacity = step
    whole = isinstance(capacity, int) and not isinstance(capacity, bool)
    return _is_number(seconds, MAX_STEP_S) and whole and 0 <= capacity <= MAX_CAPACITY


def _is_number(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most
