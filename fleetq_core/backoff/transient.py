"""What an error says about itself: may it pass (transient), did the other side refuse (throttle), when to come back.

Clients are known by what their errors carry and by name; none is imported.
"""

from __future__ import annotations

import errno
import math
import socket

from fleetq_core.answers import THROTTLE_CODES, TOO_MANY_REQUESTS, headers_of, http_status, seconds_until, service_code
from fleetq_core.errors import StoreFull, StoreUnavailable

from . import pause

_TRANSIENT_STATUS = frozenset({408, 425, 429})
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
_TRANSIENT_CODES = THROTTLE_CODES | {
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
    code, status = service_code(error), http_status(error)
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
    if status == TOO_MANY_REQUESTS or service_code(error) in THROTTLE_CODES:
        return True
    return status == 503 and retry_after_s(error) is not None


def retry_after_s(error: BaseException) -> float | None:
    """Seconds after which the server asked to be called again, from 0; nothing where it did not, or not legibly.

    Reads Retry-After (RFC 9110 §10.2.3: seconds or a date) of the error's or its `.response`'s `headers`, or a plain
    number in `retry_after`.
    """
    if (text := headers_of(error).get("retry-after")) is not None:
        seconds = seconds_until(text, pause.now())
        if seconds is not None:
            return max(0.0, seconds)
    for holder in (getattr(error, "response", None), error):
        value = getattr(holder, "retry_after", None)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return max(0.0, float(value))
    return None
