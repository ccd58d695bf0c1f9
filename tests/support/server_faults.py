"""Faults inside the Snowflake stand-in: a layer around its web application that a test commands over loopback.

A rule says which requests it meets (`match`, a regular expression on the statement's tag and text, or on a sign-in's
query and body), what happens to them, and how often. The server answers as the real service does: HTTP 200 with
`success: false` and a code.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

CONTROL = "/fleetq-test/faults"
_PATHS = {"/queries/v1/query-request": "statement", "/session/v1/login-request": "login", "/session": "close"}

# code: (SQLSTATE, what the service says)
ERRORS = {
    604: ("57014", "SQL execution canceled"),
    606: (
        "57P03",
        "No active warehouse selected in the current session.  Select an active warehouse with the 'use warehouse' "
        "command.",
    ),
    625: (
        "57014",
        "Statement '01b0' has locked table 'STEP_TRACKER' in transaction 1700000000000 and this lock has not yet been "
        "released.\nYour statement '01b1' was aborted because the number of waiters for this lock exceeds the 20 "
        "statements limit.",
    ),
    630: ("57014", "Statement reached its statement or warehouse timeout of 60 second(s) and was canceled."),
    2003: ("42S02", "SQL compilation error:\nObject 'STEP_TRACKER' does not exist or not authorized."),
    3001: ("42501", "SQL access control error:\nInsufficient privileges to operate on table 'STEP_TRACKER'"),
    90105: (
        "22000",
        "Cannot perform operation. This session does not have a current database. Call 'USE DATABASE', or use a "
        "qualified name.",
    ),
    90106: (
        "22000",
        "Cannot perform operation. This session does not have a current schema. Call 'USE SCHEMA', or use a qualified "
        "name.",
    ),
    200001: ("22000", "A primary key already exists."),
    390100: ("08001", "Incorrect username or password was specified."),
    390111: ("08001", "Session no longer exists.  New login required to access the service."),
    390112: ("08001", "Your session has expired. Please login again."),
    390114: ("08001", "Authentication token has expired.  The user must authenticate again."),
    390189: (
        "08001",
        "Role 'NOSUCH' specified in the connect string does not exist or not authorized. Contact your local system "
        "administrator, or attempt to login with another role, e.g. PUBLIC.",
    ),
    390201: ("08001", "The requested database does not exist or not authorized."),
}
# What a session says that was opened without one of these; the real service signs in and leaves it out.
LACKING = {"database": 90105, "schema": 90106, "warehouse": 606}

Messages = list[dict[str, Any]]
App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Rule:
    """What is to happen to requests; `what` is one of

    error:CODE, http:STATUS · lose_reply (run it, then cut the connection: the driver asks again), cut_reply (in the
    middle of the answer: it does not) · slow:SECONDS · hang (do not run it, do not answer), hang_after (run it first) · without:database, without:schema, without:warehouse (of a sign-in) · watch.
    """

    match: str
    what: str
    on: str = "statement"
    times: int | None = None  # None: until the rules are cleared
    skip: int = 0
    hits: list[dict[str, Any]] = field(default_factory=list)

    def meets(self, on: str, text: str) -> bool:
        if on != self.on or not re.search(self.match, text, re.IGNORECASE | re.DOTALL):
            return False
        if self.skip:
            self.skip -= 1
            return False
        return self.times is None or len(self.hits) < self.times


class FaultLayer:
    """The ASGI application that stands before the server's own."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._rules: list[Rule] = []
        self._lacking: dict[str, int] = {}  # session token: the error that its statements end with
        self._cleared = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if scope["path"] == CONTROL:
            await _answer(send, 200, self._command(json.loads(body or b"{}"), scope["method"]))
            return
        on = _PATHS.get(scope["path"], "")
        if on == "close" and b"delete" not in scope["query_string"]:
            on = ""
        rule = self._rule(on, scope, body) if on else None
        error = self._lacking.get(_session(scope)) if on == "statement" else None
        if rule is None and error is not None and not re.search(rb"ALTER SESSION|SHOW PARAMETERS", _plain(scope, body)):
            await _answer(send, 200, _failure(error))
            return
        await self._treat(rule, _Exchange(scope, body, receive, send))

    def _command(self, order: dict[str, Any], method: str) -> dict[str, Any]:
        if method == "DELETE":
            self._rules.clear()
            self._lacking.clear()
            self._cleared.set()
            self._cleared = asyncio.Event()
        elif order:
            self._rules.append(Rule(**order))
        return {"rules": [vars(rule) for rule in self._rules]}

    def _rule(self, on: str, scope: Any, body: bytes) -> Rule | None:
        text = scope["query_string"].decode() + "\n" + _plain(scope, body).decode()
        tag = ""
        if on == "statement":
            told = json.loads(_plain(scope, body))
            tag = str((told.get("parameters") or {}).get("QUERY_TAG", ""))
            text = f"{tag}\n{told['sqlText']}"
        found = next((rule for rule in self._rules if rule.meets(on, text)), None)
        if found is not None:
            query = parse_qs(scope["query_string"].decode())
            request = query.get("requestId", [""])[0]
            again = int(query.get("retryCount", ["0"])[0])
            found.hits.append({"at": time.monotonic(), "tag": tag, "request": request, "retry": again})
        return found

    async def _treat(self, rule: Rule | None, exchange: _Exchange) -> None:
        what, _, value = (rule.what if rule else "").partition(":")
        if what == "error":
            await _answer(exchange.send, 200, _failure(int(value)))
        elif what == "http":
            await _answer(exchange.send, int(value), {"message": "as the test wants it"})
        elif what == "lose_reply":
            await self._inner(exchange)
            await exchange.cut()
        elif what == "cut_reply":
            await exchange.break_off(await self._inner(exchange))
        elif what in ("hang", "hang_after"):
            if what == "hang_after":
                await self._inner(exchange)
            await exchange.hang(self._cleared)
        elif what == "without":
            await self._sign_in_without(value, exchange)
        else:
            if what == "slow":
                await asyncio.sleep(float(value))
            await exchange.pass_on(await self._inner(exchange))

    async def _inner(self, exchange: _Exchange) -> Messages:
        sent: Messages = []
        body = [{"type": "http.request", "body": exchange.body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return body.pop() if body else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(exchange.scope, receive, send)
        return sent

    async def _sign_in_without(self, name: str, exchange: _Exchange) -> None:
        query = parse_qs(exchange.scope["query_string"].decode())
        for key in {"database": ("databaseName", "schemaName"), "schema": ("schemaName",)}.get(name, ()):
            query.pop(key, None)
        scope = exchange.scope | {"query_string": urlencode(query, doseq=True).encode()}
        sent = await self._inner(_Exchange(scope, exchange.body, exchange.receive, exchange.send))
        token = json.loads(b"".join(m.get("body", b"") for m in sent))["data"]["token"]
        self._lacking[token] = LACKING[name]
        await exchange.pass_on(sent)


@dataclass
class _Exchange:
    """One request and the way back to the client."""

    scope: Any
    body: bytes
    receive: Any
    send: Any

    async def pass_on(self, sent: Messages) -> None:
        for message in sent:
            await self.send(message)

    async def cut(self) -> None:
        """Close the connection without a word. ASGI has no call for it; the server's own object has."""
        self.send.__self__.transport.abort()
        await asyncio.sleep(0.01)  # until the server has noticed; it would try to answer otherwise

    async def break_off(self, sent: Messages) -> None:
        """Send half of the answer, then close the connection."""
        head, body = sent[0], b"".join(message.get("body", b"") for message in sent)
        await self.send(head)
        await self.send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        await asyncio.sleep(0.01)
        await self.cut()

    async def hang(self, cleared: asyncio.Event) -> None:
        """Keep silent until the client goes or the rules are cleared."""
        gone, done = asyncio.ensure_future(self.receive()), asyncio.ensure_future(cleared.wait())
        await asyncio.wait((gone, done), return_when=asyncio.FIRST_COMPLETED)
        done.cancel()
        gone.cancel()
        await self.cut()


async def _read(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _answer(send: Any, status: int, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _failure(code: int) -> dict[str, Any]:
    state, text = ERRORS[code]
    data = {"errorCode": f"{code:06d}", "sqlState": state, "queryId": "01b00000-0000-0000-0000-000000000000"}
    return {"data": data, "code": f"{code:06d}", "message": text, "success": False}


def _header(scope: Any, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _plain(scope: Any, body: bytes) -> bytes:
    return gzip.decompress(body) if _header(scope, b"content-encoding") == b"gzip" else body


def _session(scope: Any) -> str:
    return _header(scope, b"authorization").decode().removeprefix('Snowflake Token="').removesuffix('"')


class ServerFaults:
    """The test's side: rules for the server on `port`."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}{CONTROL}"

    def add(self, match: str, what: str, **options: Any) -> None:
        """From now on, do `what` to the requests that `match`; see Rule."""
        self._call("POST", {"match": match, "what": what, **options})

    def hits(self) -> list[dict[str, Any]]:
        """The requests that rules have met, rule by rule: when, tag, requestId, number of the driver's retry."""
        return [hit for rule in self._call("GET")["rules"] for hit in rule["hits"]]

    def clear(self) -> None:
        """Forget all rules, and let go of what hangs."""
        self._call("DELETE")

    def _call(self, method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(urllib.request.Request(self._url, data, method=method), timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
            return told
