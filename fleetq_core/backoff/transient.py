"""What an error says about itself: may it pass (transient), did the other side refuse (throttle), when to come back.

Clients are known by what their errors carry (`.response`, `.status_code`, headers) and by name; none is imported.
"""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from fleetq_core.errors import StoreFull, StoreUnavailable

from . import pause

_TRANSIENT_STATUS = frozenset({408, 425, 429})
_THROTTLE_STATUS = frozenset({429})
_TRANSIENT_ERRNO = frozenset(
    {errno.EAGAIN, errno.EBUSY, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESTALE}
)
_TRANSIENT_NAMES = frozenset({
    "requests.exceptions.ConnectionError", "requests.exceptions.Timeout", "requests.exceptions.ChunkedEncodingError",
    "httpx.TimeoutException", "httpx.NetworkError", "httpx.RemoteProtocolError",
    "urllib3.exceptions.TimeoutError", "urllib3.exceptions.ProtocolError",
    "aiohttp.client_exceptions.ClientConnectionError",
    "botocore.exceptions.ConnectionError", "botocore.exceptions.ReadTimeoutError",
    "botocore.exceptions.ConnectTimeoutError", "botocore.exceptions.EndpointConnectionError",
})  # fmt: skip
_PERMANENT_NAMES = frozenset({
    "requests.exceptions.SSLError", "requests.exceptions.ProxyError", "botocore.exceptions.SSLError",
    "aiohttp.client_exceptions.ClientConnectorCertificateError",
})  # fmt: skip
_THROTTLE_CODES = frozenset({
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
    "TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded", "LimitExceededException",
    "ProvisionedThroughputExceededException", "SlowDown", "PriorRequestNotComplete", "TransactionInProgressException",
})  # fmt: skip
_TRANSIENT_CODES = _THROTTLE_CODES | {
    "RequestTimeout", "RequestTimeoutException", "InternalServerException", "ServiceUnavailableException",
    "ServiceUnavailable", "ModelNotReadyException", "ModelTimeoutException",
}  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Whether the same call may well succeed in a moment; what `with_backoff` retries where retry_on is left out.

    ConnectionError, TimeoutError, InterruptedError, StoreUnavailable (not a full disk), busy or unreachable OSErrors,
    the connection errors and timeouts of requests, httpx, urllib3, aiohttp and botocore; an HTTP status 408, 425, 429
    or 5xx that the error or its `.response` carries; botocore's error codes for throttling and overload. An error with
    any other HTTP status is permanent whatever its class. The codes are those of botocore's "standard" retry mode.
    """
    code, status = _service_code(error), http_status(error)
    if code in _TRANSIENT_CODES:
        return True
    if status is not None:
        return status in _TRANSIENT_STATUS or 500 <= status <= 599
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    if names & _PERMANENT_NAMES:
        return False
    if isinstance(error, ConnectionError | TimeoutError | InterruptedError) or names & _TRANSIENT_NAMES:
        return True
    if isinstance(error, StoreUnavailable):
        return not isinstance(error, StoreFull)
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO


def is_throttle(error: BaseException) -> bool:
    """Whether the other side refused for load: HTTP 429, 503 with Retry-After, or a throttling code of botocore."""
    status = http_status(error)
    if status in _THROTTLE_STATUS or _service_code(error) in _THROTTLE_CODES:
        return True
    return status == 503 and retry_after_s(error) is not None


def http_status(error: BaseException) -> int | None:
    """The HTTP status that the error or its `.response` carries."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        found = _at(response, "ResponseMetadata", "HTTPStatusCode")
        return found if isinstance(found, int) else None
    for holder in (response, error):
        for name in ("status_code", "status", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
                return int(value)
    return None


def retry_after_s(error: BaseException) -> float | None:
    """Seconds after which the server asked to be called again, from 0; nothing where it did not, or not legibly.

    Reads Retry-After (RFC 9110 §10.2.3: seconds or a date) of the error's or its `.response`'s `headers`, or a plain
    number in `retry_after`.
    """
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        return _seconds(_header(_at(response, "ResponseMetadata", "HTTPHeaders")))
    for holder in (response, error):
        for value in (_header(getattr(holder, "headers", None)), getattr(holder, "retry_after", None)):
            if (seconds := _seconds(value)) is not None:
                return seconds
    return None


def _header(headers: object) -> object:
    items = getattr(headers, "items", None)
    if not callable(items):
        return None
    return next((value for name, value in items() if str(name).lower() == "retry-after"), None)


def _seconds(value: object) -> float | None:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        seconds = _until_date(str(value))
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until_date(text: str) -> float:
    try:
        return parsedate_to_datetime(text).timestamp() - pause.now()
    except (ValueError, OverflowError):
        return math.nan


def _service_code(error: BaseException) -> object:
    code = _at(getattr(error, "response", None), "Error", "Code")
    return code if isinstance(code, str) else None


def _at(value: object, *path: str) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
