"""The throttles of this process by name, shared by all its tasks."""

from __future__ import annotations

import threading

from fleetq_core.errors import FleetQError

from . import names
from .config import ThrottleConfig
from .throttle import AdaptiveThrottle

_lock = threading.Lock()
_kept: dict[str, AdaptiveThrottle] = {}


def get_or_create_throttle(name: str, config: ThrottleConfig | None = None) -> AdaptiveThrottle:
    """The throttle of that name, also one that somebody made by hand.

    The first caller's `config` makes it, and later ones change nothing. It is kept for the life of the process.
    """
    with _lock:
        throttle = names.find(name) or AdaptiveThrottle(name, config)
        _kept[name] = throttle
        return throttle


def all_throttles() -> dict[str, AdaptiveThrottle]:
    """Every throttle of the process by name, as a copy."""
    return names.everybody()


def reset_throttle(name: str) -> None:
    """Back to its initial state. Raises FleetQError if this process has no such throttle."""
    throttle = names.find(name)
    if throttle is None:
        raise FleetQError(f"this pod has no throttle named {name!r}")
    throttle.reset()


def forget_throttles() -> None:
    """For tests: a process without throttles."""
    with _lock:
        _kept.clear()
        names.forget_all()
