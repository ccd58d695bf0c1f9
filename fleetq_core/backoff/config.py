"""The settings of one backoff, checked when they are made: a wrong one is refused by its name."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from fleetq_core.errors import ConfigError, TerminalError, Throttled

from .budget import RetryBudget
from .delays import calculate_delay
from .transient import is_transient

Jitter = bool | Literal["full", "equal", "decorrelated"]
Predicate = Callable[[Exception], bool]
RetryOn = type[Exception] | tuple[type[Exception], ...] | Predicate
OnRetry = Callable[[int, float, Exception], Any]

_JITTERS = (True, False, "full", "equal", "decorrelated")
_MOST_ATTEMPTS = 1_000_000
_MOST_DELAY_MS = 86_400_000  # a day
_MOST_TOTAL_S = 31_536_000  # a year


@dataclass(frozen=True)
class BackoffConfig:
    """What `with_backoff` does; its docstring explains each field. Raises ConfigError with a line for each mistake."""

    max_attempts: int = 5
    base_delay_ms: float = 50
    max_delay_ms: float = 5000
    jitter: Jitter = True
    retry_on: RetryOn | None = None
    on_retry: OnRetry | None = None
    timeout_total_s: float | None = None
    strategy: Callable[[int, BackoffConfig], float] = calculate_delay
    budget: RetryBudget | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{field.name}={getattr(self, field.name)!r}: {problem}"
            for field in fields(self)
            if (problem := _CHECKS[field.name](self))
        ]
        if problems:
            raise ConfigError(problems)
        _warn_if_broad(self.retry_on)

    def retries(self, error: BaseException) -> bool:
        """Whether `error` may be retried. Never TerminalError, Throttled, cancellation or a word to stop."""
        if not isinstance(error, Exception) or isinstance(error, TerminalError | Throttled):
            return False
        if isinstance(self.retry_on, type | tuple):
            return isinstance(error, self.retry_on)
        return bool((self.retry_on or is_transient)(error))


def _number(value: object, least: float, most: float, *, open_below: bool = False) -> str:
    """What is wrong with a number, or nothing."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and least <= value <= most and not (open_below and value == least):  # type: ignore[arg-type,operator]
        return ""
    return f"must be a number {'over' if open_below else 'from'} {least:g} to {most:g}"


def _attempts(config: BackoffConfig) -> str:
    value: object = config.max_attempts
    if callable(value):
        return "must be a number; write @with_backoff() with parentheses"
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_ATTEMPTS:
        return ""
    return f"must be a whole number from 1 (no retry) to {_MOST_ATTEMPTS}"


def _most_delay(config: BackoffConfig) -> str:
    if problem := _number(config.max_delay_ms, 0, _MOST_DELAY_MS):
        return problem
    if not _number(config.base_delay_ms, 0, _MOST_DELAY_MS) and config.max_delay_ms < config.base_delay_ms:
        return f"must be at least base_delay_ms={config.base_delay_ms!r}"
    return ""


def _jitter(config: BackoffConfig) -> str:
    if not isinstance(config.jitter, bool | str) or config.jitter not in _JITTERS:
        return 'must be True, False, "full", "equal" or "decorrelated"'
    if config.jitter == "decorrelated" and config.strategy is not calculate_delay:
        return "is a strategy of its own; leave `strategy` out"
    return ""


def _retry_on(config: BackoffConfig) -> str:
    value: object = config.retry_on
    if value is None:
        return ""
    classes = value if isinstance(value, tuple) else (value,) if isinstance(value, type) else None
    if classes is None:
        return "" if callable(value) else "must be exception classes or a function that takes the exception"
    if classes and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in classes):
        return ""
    return "must be one or more subclasses of Exception (cancellation and exit are never retried)"


def _optional_call(value: object) -> str:
    return "" if value is None or callable(value) else "must be a function"


def _budget(config: BackoffConfig) -> str:
    return "" if isinstance(config.budget, RetryBudget | None) else "must be a RetryBudget"


def _total(config: BackoffConfig) -> str:
    value = config.timeout_total_s
    return "" if value is None else _number(value, 0, _MOST_TOTAL_S, open_below=True)


_CHECKS: dict[str, Callable[[BackoffConfig], str]] = {
    "max_attempts": _attempts,
    "base_delay_ms": lambda config: _number(config.base_delay_ms, 0, _MOST_DELAY_MS),
    "max_delay_ms": _most_delay,
    "jitter": _jitter,
    "retry_on": _retry_on,
    "on_retry": lambda config: _optional_call(config.on_retry),
    "timeout_total_s": _total,
    "strategy": lambda config: "" if callable(config.strategy) else "must be a function of (attempt, config)",
    "budget": _budget,
}


def _warn_if_broad(retry_on: RetryOn | None) -> None:
    for kind in retry_on if isinstance(retry_on, tuple) else (retry_on,):
        name = f"{getattr(kind, '__module__', '')}.{getattr(kind, '__name__', '')}"
        if name in ("builtins.Exception", "botocore.exceptions.ClientError"):
            warnings.warn(
                f"retry_on={name} retries permanent failures too (bad arguments, missing rights); "
                "name the transient classes, or pass a function such as fleetq_core.backoff.is_transient",
                stacklevel=5,
            )
