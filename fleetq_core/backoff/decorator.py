"""`with_backoff`: the specification's decorator over tenacity, which runs the attempts."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, cast

from tenacity import AsyncRetrying, Retrying

from fleetq_core.errors import ConfigError

from . import pause
from .attempts import Attempts
from .budget import RetryBudget
from .config import BackoffConfig, Jitter, OnRetry, RetryOn
from .delays import calculate_delay

P = ParamSpec("P")
R = TypeVar("R")


def with_backoff(
    max_attempts: int = 5,
    base_delay_ms: float = 50,
    max_delay_ms: float = 5000,
    jitter: Jitter = True,
    retry_on: RetryOn | None = None,
    on_retry: OnRetry | None = None,
    timeout_total_s: float | None = None,
    *,
    strategy: Callable[[int, BackoffConfig], float] = calculate_delay,
    budget: RetryBudget | None = None,
    config: BackoffConfig | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Call the decorated function, sync or `async def`, again when it fails in a way that may pass.

    max_attempts     calls at most, the first included; 1 means no retry
    base_delay_ms    milliseconds: window of the first delay, which doubles with each retry
    max_delay_ms     milliseconds: bound of every delay, one that the server asked for (Retry-After) included
    jitter           True or "full": uniform in 0 … window; "equal": in half … window; "decorrelated"; False: the window
    retry_on         classes, or a function of the exception; left out, only transient errors: see `is_transient`
    on_retry         called as (number of the retry from 1, seconds to wait, exception) before each wait; an error of
                     its own is logged and changes nothing. It may be `async def` where the function is
    timeout_total_s  seconds for all attempts and waits. No wait begins that would pass it. A running async attempt is
                     cancelled (TimeoutError); a running sync attempt cannot be stopped: give its calls limits too
    strategy         function of (retry from 0, config) that gives seconds: calculate_delay, …_linear, …_fibonacci
    budget           a shared RetryBudget that bounds the retries of all who share it
    config           all of the above as one BackoffConfig, in place of them

    Raises the last exception itself, with a note of how many attempts were made, in how many seconds and why no more.
    TerminalError, Throttled, cancellation, KeyboardInterrupt, SystemExit and GeneratorExit pass through at once. At
    decoration: ConfigError for a wrong setting, TypeError for generator functions, UserWarning for retry_on=Exception.
    Sources: Brooker, "Exponential Backoff And Jitter", AWS 2015 (delays); Finagle's RetryBudget (budget).
    """
    given = BackoffConfig(
        max_attempts, base_delay_ms, max_delay_ms, jitter, retry_on, on_retry, timeout_total_s, strategy, budget
    )
    if config is not None and given != BackoffConfig():
        raise ConfigError(["config: must come alone; use dataclasses.replace(config, …) to change some of it"])
    chosen = given if config is None else config

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        _check_function(function)
        if _is_async(function):
            return cast("Callable[P, R]", _wrap_async(cast("Callable[P, Awaitable[Any]]", function), chosen))
        if chosen.on_retry is not None and _is_async(chosen.on_retry):
            raise TypeError(f"on_retry is async, but {_name(function)} is not: nothing could await it")
        return _wrap_sync(function, chosen)

    return decorate


def _wrap_sync(function: Callable[P, R], config: BackoffConfig) -> Callable[P, R]:
    @functools.wraps(function)
    def attempted(*args: P.args, **kwargs: P.kwargs) -> R:
        attempts = Attempts(config, _name(function))
        retrying = Retrying(sleep=pause.sleep, before_sleep=attempts.tell, **attempts.rules())
        try:
            return retrying(function, *args, **kwargs)
        except Exception as exc:
            attempts.add_note(exc)
            raise

    return attempted


def _wrap_async(function: Callable[P, Awaitable[R]], config: BackoffConfig) -> Callable[P, Awaitable[R]]:
    @functools.wraps(function)
    async def attempted(*args: P.args, **kwargs: P.kwargs) -> R:
        attempts = Attempts(config, _name(function))

        async def once() -> R:
            async with attempts.time_limit():
                return await function(*args, **kwargs)

        retrying = AsyncRetrying(sleep=pause.async_sleep, before_sleep=attempts.tell_async, **attempts.rules())
        try:
            return cast("R", await retrying(once))
        except Exception as exc:
            attempts.add_note(exc)
            raise

    return attempted


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _check_function(function: object) -> None:
    if not callable(function):
        raise TypeError(f"with_backoff decorates functions, not {function!r} (put @classmethod above it, not under it)")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"with_backoff cannot retry the generator {_name(function)}: what it has yielded cannot be taken back; "
            "decorate the call inside it that fails"
        )


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))
