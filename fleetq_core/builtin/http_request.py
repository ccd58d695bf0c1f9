"""`http_request`: call a web service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fleetq_core.errors import TerminalError, Throttled
from fleetq_core.model import Step
from fleetq_core.tasks import task
from fleetq_core.throttle import AdaptiveThrottle, get_or_create_throttle, is_throttle_error
from fleetq_core.throttle.judge import wait_s

if TYPE_CHECKING:
    import httpx

MAX_TIMEOUT_S = 300.0
MAX_BODY = 65_536
MAX_REDIRECTS = 5
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
TRANSIENT = (408, 425, 429)  # and all 5xx
SLOT_WAIT_S = 2.0  # for a slot of the throttle; a step that waits longer is handed back and holds none of the pod's
THROTTLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@/-]{0,99}")
KEPT_HEADERS = ("content-type", "content-length", "etag", "location", "retry-after")


class HttpFailure(Exception):
    """An answer or a broken connection that may be better next time."""

    def __init__(self, message: str, response: httpx.Response | None = None, *, timed_out: bool = False) -> None:
        self.response, self.timed_out = response, timed_out
        super().__init__(message)


@task("http_request", timeout_s=MAX_TIMEOUT_S + 10)
async def http_request(step: Step) -> dict[str, Any]:
    """Call `url` with `method` (default GET), `headers`, and `json` or `body`; `timeout_s` (default 30) bounds it.

    2xx and 3xx are results. 408, 425, 429, 5xx and broken connections are retried; other answers fail for good.

    `throttle` names a throttle of this pod that the call goes through. Then a 429 is recorded there as a refusal, and
    the step is handed back without using a retry: for as long as Retry-After says, or a random while; so is a step for
    which the throttle has no slot.
    """
    request, throttle = _arguments(step.payload), _throttle(step.payload)
    return await _answer(request) if throttle is None else await _through(throttle, request)


async def _through(throttle: AdaptiveThrottle, request: dict[str, Any]) -> dict[str, Any]:
    shut_s = throttle.opens_in_s()
    if shut_s is not None and shut_s > SLOT_WAIT_S:
        raise Throttled(f"throttle {throttle.name!r} is shut", shut_s)
    async with throttle.acquire(timeout_s=SLOT_WAIT_S):
        try:
            answer = await _answer(request)
        except HttpFailure as exc:
            if is_throttle_error(exc):
                asked_s = wait_s(exc)
                throttle.record_throttle(asked_s)
                # The throttle stays shut a little longer than was asked for: no use in being back before.
                raise Throttled(str(exc), None if asked_s is None else throttle.opens_in_s() or asked_s) from exc
            if exc.timed_out:
                throttle.record_timeout()
            raise
        throttle.record_success()
        return answer


async def _answer(request: dict[str, Any]) -> dict[str, Any]:
    import httpx

    timeout_s = request.pop("timeout_s")
    host = urlsplit(request["url"]).netloc.rpartition("@")[2]
    try:
        async with (
            httpx.AsyncClient(timeout=timeout_s, follow_redirects=True, max_redirects=MAX_REDIRECTS) as client,
            client.stream(**request) as response,
        ):
            body, truncated = await _body(response)
    except httpx.InvalidURL as exc:
        raise TerminalError(f"payload.url: {exc}") from exc
    except httpx.TooManyRedirects as exc:
        raise TerminalError(f"{host} redirects more than {MAX_REDIRECTS} times") from exc
    except httpx.HTTPError as exc:
        timed_out = isinstance(exc, httpx.TimeoutException)
        raise HttpFailure(f"{host}: {type(exc).__name__}: {exc}", timed_out=timed_out) from exc
    if response.status_code in TRANSIENT or response.status_code >= 500:
        raise HttpFailure(f"{host} answered {response.status_code}: {body[:200]}", response)
    if response.status_code >= 400:
        raise TerminalError(f"{host} answered {response.status_code}: {body[:200]}")
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    return {"status": response.status_code, "headers": headers, "body": body, "truncated": truncated}


async def _body(response: httpx.Response) -> tuple[str, bool]:
    received = bytearray()
    async for chunk in response.aiter_bytes():
        received += chunk
        if len(received) > MAX_BODY:
            break
    text = bytes(received[:MAX_BODY]).decode(response.encoding or "utf-8", "replace").replace("\0", "\ufffd")
    return text, len(received) > MAX_BODY


def _throttle(payload: dict[str, Any]) -> AdaptiveThrottle | None:
    name = payload.get("throttle")
    if name is None:
        return None
    if not isinstance(name, str) or not THROTTLE_NAME.fullmatch(name):
        raise TerminalError(
            f"payload.throttle is {name!r}; it must be a name of 1 to 100 letters, digits or _ . : @ / -"
        )
    return get_or_create_throttle(name)


def _arguments(payload: dict[str, Any]) -> dict[str, Any]:
    url = payload.get("url")
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise TerminalError(f"payload.url is {url!r}; it must be an http:// or https:// address")
    method = payload.get("method", "GET")
    if method not in METHODS:
        raise TerminalError(f"payload.method is {method!r}; it must be one of {', '.join(METHODS)}")
    headers = payload.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise TerminalError("payload.headers must be an object of strings")
    timeout_s = payload.get("timeout_s", 30)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise TerminalError(
            f"payload.timeout_s is {timeout_s!r}; it must be a number of seconds up to {MAX_TIMEOUT_S:g}"
        )
    request: dict[str, Any] = {"method": method, "url": url, "headers": headers, "timeout_s": timeout_s}
    if "json" in payload and "body" in payload:
        raise TerminalError("payload has both json and body; send one")
    if "json" in payload:
        request["json"] = payload["json"]
    elif "body" in payload:
        if not isinstance(payload["body"], str):
            raise TerminalError("payload.body must be a string; for other values use json")
        request["content"] = payload["body"].encode()
    return request
