"""The throttles of this process by name, shared by all its tasks."""

from __future__ import annotations

import threading

from fleetq_core.errors import FleetQError

from .config import ThrottleConfig
from .throttle import AdaptiveThrottle

_lock = threading.Lock()
_throttles: dict[str, AdaptiveThrottle] = {}


def get_or_create_throttle(name: str, config: ThrottleConfig | None = None) -> AdaptiveThrottle:
    """The throttle of that name; the first caller's `config` makes it, and later ones change nothing."""
    with _lock:
        if name not in _throttles:
            _throttles[name] = AdaptiveThrottle(name, config)
        return _throttles[name]


def all_throttles() -> dict[str, AdaptiveThrottle]:
    """Every registered throttle by name, as a copy."""
    with _lock:
        return dict(_throttles)


def reset_throttle(name: str) -> None:
    """Back to its initial state. Raises FleetQError if this process has no such throttle."""
    throttle = all_throttles().get(name)
    if throttle is None:
        raise FleetQError(f"this pod has no throttle named {name!r}")
    throttle.reset()
