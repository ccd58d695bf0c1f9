"""Was it a refusal? Exceptions and responses judged by their code, and what they say about when to come back."""

from __future__ import annotations

from collections.abc import Callable

from fleetq_core.answers import THROTTLE_CODES, TOO_MANY_REQUESTS, headers_of, http_status, seconds_until, service_code
from fleetq_core.clock import SystemClock

LONGEST_WAIT_S = 300.0
_WAIT_HEADERS = ("retry-after", "x-ratelimit-reset-after")
_LEFT_AND_RESET = (
    ("ratelimit-remaining", "ratelimit-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
)

Judge = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]


def is_throttle_error(error: BaseException) -> bool:
    """Whether an exception says "too fast": a botocore throttling code or HTTP status 429.

    Codes are those of botocore's standard retry mode. Works on any exception that carries `response` (botocore's
    mapping or an HTTP response), `status_code` or `status`.
    """
    return _verdict(error) is True


def matches(judge: Judge | None, error: BaseException) -> bool:
    """Whether `judge` means this exception: a class, a tuple of classes, a predicate, or None for is_throttle_error.

    An exception of a named class that carries a code is judged by the code too: a ClientError that says
    ValidationException is no refusal.
    """
    if judge is None:
        return is_throttle_error(error)
    if isinstance(judge, type | tuple):
        return isinstance(error, judge) and _verdict(error) is not False
    return bool(judge(error))


def is_refusal(answer: object) -> bool:
    """Whether a returned value is an HTTP response with status 429."""
    return http_status(answer) == TOO_MANY_REQUESTS


def wait_s(carrier: object, now_ts: float | None = None) -> float | None:
    """Seconds to stay away as the headers of an exception or response say; None if they say nothing, 300 at most.

    Reads Retry-After (seconds or an HTTP date, RFC 9110 §10.2.3), X-RateLimit-Reset-After, and the reset time of
    RateLimit-Remaining and X-RateLimit-Remaining when that is 0 (seconds, or seconds since the epoch). `now_ts` is the
    wall clock that dates are compared with.
    """
    headers = headers_of(carrier)
    if not headers:
        return None
    now_ts = SystemClock().now() if now_ts is None else now_ts
    found = [seconds_until(headers[name], now_ts) for name in _WAIT_HEADERS if name in headers]
    found += [
        seconds_until(headers.get(reset, ""), now_ts) for left, reset in _LEFT_AND_RESET if headers.get(left) == "0"
    ]
    waits = [seconds for seconds in found if seconds is not None and seconds > 0]
    return min(max(waits), LONGEST_WAIT_S) if waits else None


def _verdict(error: BaseException) -> bool | None:
    """True or False where the exception carries a code, None where it carries none."""
    code, status = service_code(error), http_status(error)
    if code is not None:
        return code in THROTTLE_CODES or code == str(TOO_MANY_REQUESTS)
    return None if status is None else status == TOO_MANY_REQUESTS
