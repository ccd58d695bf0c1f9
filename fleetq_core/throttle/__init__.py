"""Adaptive throttling: learns how many calls at once a downstream takes, and keeps callers to it."""

from .changes import Change, Reason
from .config import ThrottleConfig, ThrottleConfigError
from .decorator import with_throttle
from .judge import is_throttle_error
from .permit import Permit, ThrottleError, ThrottleTimeout
from .registry import all_throttles, get_or_create_throttle, reset_throttle
from .rule import LimitRule
from .throttle import AdaptiveThrottle

__all__ = [
    "AdaptiveThrottle", "ThrottleConfig", "Permit", "with_throttle", "is_throttle_error",
    "get_or_create_throttle", "all_throttles", "reset_throttle",
    "LimitRule", "Change", "Reason",
    "ThrottleError", "ThrottleTimeout", "ThrottleConfigError",
]  # fmt: skip
