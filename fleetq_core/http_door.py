"""Around every answer of the HTTP API: which method an address takes, who is let in, errors as JSON, safe headers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import FleetQError, InvalidPayload, NotAllowed, StepConflict, StoreUnavailable
from .http_guard import Refused, check_reader, check_writer, json_body, without_query
from .model import JSON
from .openapi import Operation
from .roles import check_may_act
from .runtime import Runtime
from .shapes import printable, without_nan

log = logging.getLogger(__name__)

RETRY_AFTER_S = "5"
Fields = dict[str, JSON]
Answer = tuple[int, Fields] | Response
Answering = Callable[[Runtime, Request, Fields], Answer]

# For all that this process serves. Pages must not be framed by other sites, whose visitors could be made to click.
PAGE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'self'",
}
# For the API beside them: data, never a document, and never kept by anything between.
API_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the table of routes: what answers a method of an address, and how the document tells it."""

    method: str  # 'get' | 'post'
    path: str
    answering: Answering
    operation: Operation


class _Rest(Convertor[str]):
    """The rest of a path. Starlette's own `path` stops at a line end, which would lead past us to Streamlit's page."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("rest", _Rest())


class Door:
    """One address. Without endpoints it does not exist. `runtime_of()` is called anew for each request."""

    def __init__(self, runtime_of: Callable[[], Runtime], endpoints: Iterable[Endpoint] = ()) -> None:
        self._runtime_of = runtime_of
        self._endpoints = {endpoint.method.upper(): endpoint for endpoint in endpoints}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
            response = answer if isinstance(answer, Response) else _Json(answer[1], answer[0])
        except Refused as exc:
            response = _refusal(exc)
        except FleetQError as exc:
            response = _refusal(_refused(exc))
        _set_missing(response.headers, API_HEADERS)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Answer:
        endpoint = self._endpoint(request)
        app = await anyio.to_thread.run_sync(self._runtime_of)
        body: Fields = {}
        if endpoint.method == "post":
            check_may_act(app.config.role)  # before the key: with the right one it may not either
            request.state.caller = check_writer(request, app.config)
            without_query(request)
            takes = endpoint.operation.body
            if takes and (takes.required or _has_body(request)):
                body = await json_body(request, app.config)
        elif not endpoint.operation.public:
            check_reader(request, app.config)
        return await anyio.to_thread.run_sync(endpoint.answering, app, request, body)

    def _endpoint(self, request: Request) -> Endpoint:
        path = request.url.path
        if not self._endpoints:
            raise Refused(404, f"there is no {path}")
        found = self._endpoints.get("GET" if request.method == "HEAD" else request.method)
        if found is None:
            allowed = [
                name for method in self._endpoints for name in (("GET", "HEAD") if method == "GET" else (method,))
            ]
            raise Refused(405, f"{path} takes {' or '.join(allowed)}", headers={"Allow": ", ".join(allowed)})
        return found


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _refused(exc: FleetQError) -> Refused:
    match exc:
        case NotAllowed():
            return Refused(403, str(exc))
        case InvalidPayload():
            return Refused(422, str(exc), exc.field)
        case StepConflict():
            return Refused(409, str(exc), "step_id")
        case StoreUnavailable():
            return Refused(503, str(exc), headers={"Retry-After": RETRY_AFTER_S})
        case _:
            log.error("%s", exc)
            return Refused(503, str(exc))


def _refusal(refused: Refused) -> Response:
    field = {} if refused.field is None else {"field": printable(refused.field)}
    return _Json({"error": printable(refused.error), **field}, refused.status, refused.headers)


class _Json(JSONResponse):
    """JSON that also says what UTF-8 cannot: a lone surrogate from somebody's input becomes its escape."""

    def render(self, content: Any) -> bytes:
        try:
            text = _compact(content)
        except (ValueError, RecursionError):  # what another program has stored: Python's NaN, or a thousand levels
            text = _compact(without_nan(_shallow(content)))
        return text.encode("utf-8", "backslashreplace")


def _shallow(content: Any, levels: int = 200) -> Any:
    if not isinstance(content, dict | list):
        return content
    if levels == 0:
        return "… (nested too deeply to be told)"
    if isinstance(content, list):
        return [_shallow(inner, levels - 1) for inner in content]
    return {key: _shallow(inner, levels - 1) for key, inner in content.items()}


def _compact(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class JsonRefusals:
    """Streamlit refuses some addresses before it looks for a route of ours (`..`, NUL): as JSON below our prefixes."""

    def __init__(self, app: ASGIApp, prefixes: Collection[str]) -> None:
        self._app, self._prefixes = app, prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: Response | None = None

        async def send_json(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                status, kind = message["status"], MutableHeaders(scope=message).get("content-type", "")
                if status >= 400 and kind != _Json.media_type:
                    refused = _refusal(
                        Refused(status, "the address holds what is refused everywhere, such as .. or NUL")
                    )
                    _set_missing(refused.headers, API_HEADERS)
                    await refused(scope, receive, send)
            if refused is None:
                await send(message)

        ours = scope["type"] == "http" and scope["path"].partition("/")[2].partition("/")[0] in self._prefixes
        await self._app(scope, receive, send_json if ours else send)


class SafeHeaders:
    """Gives every answer of the process, Streamlit's pages among them, the headers that it lacks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _set_missing(MutableHeaders(scope=message), PAGE_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _set_missing(headers: MutableHeaders, wanted: Mapping[str, str]) -> None:
    for name, value in wanted.items():
        headers.setdefault(name, value)
