"""Trying again after a failure: the decorator `with_backoff`, its delays, its budget and its judgement of errors."""

from .budget import RetryBudget
from .config import BackoffConfig
from .decorator import with_backoff
from .delays import calculate_delay, calculate_delay_fibonacci, calculate_delay_linear, full_jitter
from .pause import no_sleep
from .transient import is_throttle, is_transient, retry_after_s

__all__ = [
    # decorate
    "with_backoff", "BackoffConfig", "RetryBudget",
    # how long to wait
    "calculate_delay", "calculate_delay_linear", "calculate_delay_fibonacci", "full_jitter",
    # what to retry
    "is_transient", "is_throttle", "retry_after_s",
    # test
    "no_sleep",
]  # fmt: skip
