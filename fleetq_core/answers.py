"""What an error or a response of somebody else's service carries: its status, its code, its headers.

Clients are known by what their objects hold (`response`, `status_code`, `headers`), and none of them is imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

TOO_MANY_REQUESTS = 429
_EPOCH_S = 1e8
# The throttling codes of botocore's "standard" retry mode, and what OpenAI's errors say.
THROTTLE_CODES = frozenset({
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
    "TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded", "LimitExceededException",
    "ProvisionedThroughputExceededException", "SlowDown", "PriorRequestNotComplete", "TransactionInProgressException",
    "EC2ThrottledException", "rate_limit_exceeded",
})  # fmt: skip


def http_status(carrier: object) -> int | None:
    """The HTTP status (100 … 599) of an error, of its `.response`, or of a response itself."""
    response = getattr(carrier, "response", None)
    if isinstance(response, Mapping):
        found = _at(response, "ResponseMetadata", "HTTPStatusCode")
        return found if isinstance(found, int) else None
    for holder in (response, carrier):
        for name in ("status_code", "status", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
                return int(value)
    return None


def service_code(error: object) -> str | None:
    """The service's own word for an error, as botocore keeps it."""
    code = _at(getattr(error, "response", None), "Error", "Code")
    return code if isinstance(code, str) and code else None


def headers_of(carrier: object) -> dict[str, str]:
    """The headers of an error, its `.response` or a response, under lower-case names; empty where there are none."""
    response = getattr(carrier, "response", None)
    found = getattr(carrier, "headers", None) or getattr(response, "headers", None)
    if found is None:
        found = _at(response if isinstance(response, Mapping) else carrier, "ResponseMetadata", "HTTPHeaders")
    items = getattr(found, "items", None)
    try:
        return {str(name).lower(): str(value).strip() for name, value in items()} if callable(items) else {}
    except (TypeError, ValueError):
        return {}


def seconds_until(text: str, now_ts: float) -> float | None:
    """What a header such as Retry-After (RFC 9110 §10.2.3) says in seconds from `now_ts`, negative if it is past.

    Reads seconds, seconds since the epoch, and an HTTP date; None for anything else.
    """
    try:
        value = float(text)
    except ValueError:
        try:
            return parsedate_to_datetime(text).timestamp() - now_ts
        except (TypeError, ValueError, OverflowError):
            return None
    if not math.isfinite(value):
        return None
    return value - now_ts if value > _EPOCH_S else value


def _at(value: object, *path: str) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
