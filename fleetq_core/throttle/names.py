"""Every throttle of this process by its name, for as long as somebody holds it: the fleet is shown them all."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .throttle import AdaptiveThrottle

_lock = threading.Lock()
_known: weakref.WeakValueDictionary[str, AdaptiveThrottle] = weakref.WeakValueDictionary()


def introduce(throttle: AdaptiveThrottle) -> None:
    """Make it known; of two with one name the first that lives is."""
    with _lock:
        _known.setdefault(throttle.name, throttle)


def find(name: str) -> AdaptiveThrottle | None:
    """The throttle of that name."""
    with _lock:
        return _known.get(name)


def everybody() -> dict[str, AdaptiveThrottle]:
    """All that live, as a copy."""
    with _lock:
        return dict(_known)


def forget_all() -> None:
    """For tests: a process without throttles."""
    with _lock:
        _known.clear()
