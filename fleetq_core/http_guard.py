"""What the HTTP door lets in: who may read and write, and what a body may be."""

from __future__ import annotations

import hmac
import ipaddress

from starlette.requests import ClientDisconnect, Request

from .access import Access, Caller
from .config import Config
from .errors import InvalidPayload
from .model import JSON
from .shapes import parse_json

# A character of the payload takes at most three times its stored bytes when a client writes it as \uXXXX.
_ESCAPED = 3
_ENVELOPE_BYTES = 4096


class Refused(Exception):
    """A request that is not let in: the status to answer with, and the field or header at fault."""

    def __init__(
        self, status: int, error: str, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.status, self.error, self.field, self.headers = status, error, field, headers or {}
        super().__init__(error)


_ANYBODY = Caller("http", Access.VIEWER)
_THIS_MACHINE = Caller("http", Access.OPERATOR)


def check_reader(request: Request, config: Config) -> Caller:
    """Let in whoever has a key; anybody, where neither people nor programs are told apart. Raises Refused."""
    return _holder(request, config) if config.names_people or config.api_keys else _ANYBODY


def check_writer(request: Request, config: Config) -> Caller:
    """Let in whoever has a key that may write, or, where none is needed, only programs of this machine.

    Raises Refused, or NotAllowed for a key that may only read.
    """
    if config.keys or config.names_people:
        caller = _holder(request, config)
        caller.check_may_act()
        return caller
    # A page of another site can make a browser on this machine post. Its Origin gives it away; and where it has
    # pointed its own name at this machine, so that origin and host agree, the name of the host does.
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise Refused(403, "cross-site requests are refused", "Origin")
    if request.client is None or not _is_loopback(request.client.host):
        raise Refused(403, "writes from other machines need FLEET_Q_API_KEY to be set")
    if not _is_loopback(_without_port(host)):
        raise Refused(403, "writes under another name than localhost need FLEET_Q_API_KEY to be set", "Host")
    return _THIS_MACHINE


def _holder(request: Request, config: Config) -> Caller:
    """Whose key was sent. Raises Refused."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    # Headers are bytes that Starlette reads as Latin-1; this gives them back. Every key is compared, whichever it is.
    sent = given.encode("latin-1")
    holders = [one.caller for one in config.keys if hmac.compare_digest(sent, one.key)]
    if holders:
        return holders[0]
    error = "send the API key as Authorization: Bearer …"
    if not config.keys:
        error = "people sign in to this dashboard, and programs need a key: none is set in FLEET_Q_API_KEYS"
    raise Refused(401, error, "Authorization", {"WWW-Authenticate": "Bearer"})


def without_query(request: Request) -> None:
    """Refuse query parameters: a field that is put there would be lost without a word. Raises Refused."""
    for name in request.query_params:
        raise Refused(422, f"{name}: query parameters are not taken; send fields in the JSON body", name)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # A socket that listens on both families sees IPv4 callers as ::ffff:127.0.0.1.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def body_limit(config: Config) -> int:
    """The most bytes of a body: room for every payload that the queue takes, however it is written."""
    return _ESCAPED * config.max_payload_bytes + _ENVELOPE_BYTES


async def json_body(request: Request, config: Config) -> dict[str, JSON]:
    """The JSON object that was sent. Raises Refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "send Content-Type: application/json", "Content-Type")
    received = await _received(request, body_limit(config))
    try:
        body = parse_json(received.decode("utf-8"), "body")
    except UnicodeDecodeError as exc:
        raise Refused(400, f"body: is not UTF-8 text ({exc.reason} at byte {exc.start})", "body") from exc
    except InvalidPayload as exc:
        raise Refused(400, str(exc), exc.field) from exc
    if not isinstance(body, dict):
        raise Refused(422, f"body: must be a JSON object, not {type(body).__name__}", "body")
    return body


async def _received(request: Request, limit: int) -> bytes:
    received = bytearray()
    try:
        async for chunk in request.stream():
            received += chunk
            if len(received) > limit:
                raise Refused(413, f"body: is larger than {limit:,} bytes", "body")
    except ClientDisconnect as exc:
        raise Refused(400, "body: ended early", "body") from exc
    return bytes(received)
