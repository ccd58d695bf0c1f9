"""The HTTP door: the routes of the API in the dashboard's process, and the lifespan that runs the pod there.

Streamlit answers unknown addresses with its own page, so everything below a prefix of ours is answered here.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import anyio.to_thread
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route

from . import runtime
from .errors import FleetQError
from .http_door import Door, JsonRefusals, SafeHeaders
from .http_routes import ENDPOINTS
from .logs import log_to_stdout
from .runtime import Runtime, get_runtime

_MOST_FILES = 256  # the server's socket is among the first that the process opens
PREFIXES = sorted({endpoint.path.split("/")[1] for endpoint in ENDPOINTS})


@asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[None]:
    """Start the pod with the server and stop it with the server."""
    log_to_stdout()
    try:
        await anyio.to_thread.run_sync(get_runtime)
    except FleetQError as exc:
        for line in str(exc).splitlines():
            print(f"FLEET-Q cannot start: {line}", file=sys.stderr)  # noqa: T201
        # The line says it all; the server would add the traceback of this exit.
        logging.getLogger("uvicorn.error").disabled = True
        raise SystemExit(3) from None
    runtime.stop_claiming_on_signals()
    _answer_without_delay()
    # What is loaded by now stays: scanning it at every collection would cost each viewer tens of milliseconds.
    gc.freeze()
    try:
        yield
    finally:
        await anyio.to_thread.run_sync(runtime.shutdown)


def _answer_without_delay() -> None:
    """Turn Nagle's algorithm off for the connections of the server's socket, which is listening by now.

    Streamlit makes that socket without naming TCP, so asyncio does not know to do it; and then an answer to a client
    that keeps its connection waits 40 ms for the acknowledgement of its own head. Connections inherit what is set here.
    """
    for number in range(3, _MOST_FILES):
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as found:
                is_tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
                if is_tcp and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            continue


def routes() -> list[BaseRoute]:
    """All routes of the API: those of ENDPOINTS, and a 404 for whatever else lies below their prefixes."""
    served = [
        _route(re.sub(r"{(\w+)}", r"{\1:rest}", path), Door(_runtime, rows))
        for path, rows in groupby(ENDPOINTS, key=lambda endpoint: endpoint.path)
    ]
    nothing = Door(_runtime)
    bare = [_route(f"/{prefix}", nothing) for prefix in PREFIXES]
    return [*served, *bare, *(_route(f"/{prefix}/{{rest:rest}}", nothing) for prefix in PREFIXES)]


def _route(path: str, door: Door) -> Route:
    """A route for exactly `path`: Starlette's own also takes a line end behind it, which a proxy may not expect."""
    route = Route(path, door)
    route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z")
    return route


def middleware() -> list[Middleware]:
    """What stands before every answer of the process, Streamlit's too."""
    return [Middleware(SafeHeaders), Middleware(JsonRefusals, prefixes=PREFIXES)]


def _runtime() -> Runtime:
    return get_runtime()  # looked up at the call: tests put their own in its place
