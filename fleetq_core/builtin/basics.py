"""`echo` and `sleep`: to try a fleet out."""

from __future__ import annotations

import threading
from typing import Any

from fleetq_core.errors import TerminalError
from fleetq_core.model import Step
from fleetq_core.tasks import task

MAX_SLEEP_S = 86_400


@task("echo")
def echo(step: Step) -> dict[str, Any]:
    """Return the payload."""
    return step.payload


@task("sleep")
def sleep(step: Step) -> dict[str, float]:
    """Wait `seconds` (default 1) and return them."""
    seconds = step.payload.get("seconds", 1)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SLEEP_S:
        raise TerminalError(f"payload.seconds is {seconds!r}; it must be a number from 0 to {MAX_SLEEP_S}")
    threading.Event().wait(seconds)
    return {"slept_s": seconds}
