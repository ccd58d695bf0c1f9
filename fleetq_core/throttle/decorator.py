"""with_throttle: every call of a function goes through a throttle, and its outcome is recorded."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from .judge import Judge, is_refusal, matches, wait_s
from .permit import ThrottleTimeout
from .throttle import AdaptiveThrottle

F = TypeVar("F", bound=Callable[..., Any])


def with_throttle(
    throttle: AdaptiveThrottle,
    throttle_exceptions: Judge | None = None,
    timeout_exceptions: Judge = (TimeoutError,),
) -> Callable[[F], F]:
    """Decorate a sync or async function.

    `throttle_exceptions` says which exceptions are refusals: a class, a tuple of classes or a predicate. An exception
    of a named class that carries a code (botocore, HTTP) is also judged by it. Without one, botocore's throttling codes
    and HTTP 429 are. A *returned* HTTP response with status 429 is a refusal too. Retry-After and rate-limit headers
    are honoured. Any other exception, a cancellation too, leaves the limit alone; all are raised as they came.
    """

    def decorate(function: F) -> F:
        def note(error: BaseException) -> None:
            if isinstance(error, ThrottleTimeout):
                return
            if matches(throttle_exceptions, error):
                throttle.record_throttle(wait_s(error))
            elif matches(timeout_exceptions, error):
                throttle.record_timeout()

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def throttled_async(*args: Any, **kwargs: Any) -> Any:
                async with throttle.acquire():
                    try:
                        answer = await function(*args, **kwargs)
                    except Exception as error:
                        note(error)
                        raise
                    _note_answer(throttle, answer)
                    return answer

            return cast(F, throttled_async)

        @functools.wraps(function)
        def throttled(*args: Any, **kwargs: Any) -> Any:
            with throttle.acquire_sync():
                try:
                    answer = function(*args, **kwargs)
                except Exception as error:
                    note(error)
                    raise
                _note_answer(throttle, answer)
                return answer

        return cast(F, throttled)

    return decorate


def _note_answer(throttle: AdaptiveThrottle, answer: object) -> None:
    if is_refusal(answer):
        throttle.record_throttle(wait_s(answer))
        return
    throttle.record_success()
    seconds = wait_s(answer)
    if seconds is not None:
        throttle.pause(seconds)
