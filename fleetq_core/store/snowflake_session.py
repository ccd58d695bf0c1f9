"""A Snowflake session as the store needs it: how long each role may wait, what it sets, and whether that is in force.

What is asked for at sign-in is read back after each one, because an account, a user or a proxy may say otherwise, and a
reconnect must not lose it.

How long a role waits (seconds; lock < statement < network, so that the server ends a statement before the driver leaves
it in doubt):

| role | lock | statement | network | sign-in |
|---|---|---|---|---|
| the pod's loops | 20 | 60 | 90 | 10 |
| beat | a half of its patience, ≤ 20 | three quarters, ≤ 60 | the patience, 2 to 90 | a third, ≤ 10 |
| queue (none named), dashboard | 10 | 25 | 40 | 10 |

A heartbeat's patience is a third of the dead-pod threshold: one that comes later is worth nothing. A page or a command
must not hang for a minute. The driver may take two rounds for a sign-in, and logs nothing meanwhile; the sign-in does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snowflake.connector.errors import Error as DriverError

from fleetq_core.errors import StoreError

from .snowflake_errors import After, message, verdict

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 20  # of a statement that waits for another's lock; Snowflake's own default is 12 hours
STATEMENT_TIMEOUT_S = 60  # of one statement, on the server
NETWORK_TIMEOUT_S = 90  # of one call of the driver with its own retries: longer than the server takes
SOCKET_TIMEOUT_S = 15  # without a byte; then the driver asks again for the same request, and the server joins the two
LOGIN_TIMEOUT_S = 10
SHOWN_LOCK_S, SHOWN_STATEMENT_S, SHOWN_NETWORK_S = 10, 25, 40  # where somebody is waiting for a page or a command
_SHOWN = frozenset({"", "dashboard"})

SESSION_PROFILE: Mapping[str, Any] = {
    "TIMEZONE": "UTC",
    "AUTOCOMMIT": True,
    "TIMESTAMP_INPUT_FORMAT": "AUTO",
    "ABORT_DETACHED_QUERY": True,  # a dead pod's statement must not hold a lock for hours
    "TRANSACTION_ABORT_ON_ERROR": True,
    "ERROR_ON_NONDETERMINISTIC_UPDATE": True,
    "ERROR_ON_NONDETERMINISTIC_MERGE": True,
    "USE_CACHED_RESULT": True,  # the looks of idle pods must not wake the warehouse
    "CLIENT_SESSION_KEEP_ALIVE": False,  # a session that is idle for hours is opened anew
    "CLIENT_TELEMETRY_ENABLED": False,
}
_NOT_SHOWN = frozenset({"CLIENT_TELEMETRY_ENABLED"})  # no parameter that SHOW PARAMETERS lists
# Without these nothing that the store writes is to be trusted, and the way out of it.
_VITAL: Mapping[str, str] = {
    "AUTOCOMMIT": "writes would wait in a transaction that nobody commits",
    "TIMEZONE": "times would be read in another zone than they are written in",
}
_SHOW = "SHOW PARAMETERS IN SESSION"  # needs no warehouse
_told: set[tuple[str, str]] = set()  # parameters whose odd value has been logged, once for a process


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one connection may wait, in whole seconds, as the driver and the server want them."""

    login_s: int
    network_s: int
    socket_s: int
    statement_s: int
    lock_s: int


def limits_of(role: str, patience_s: float | None = None) -> Limits:
    """The limits of a role; `patience_s` is how long a heartbeat may take."""
    if role == "beat" and patience_s is not None:
        network_s = min(NETWORK_TIMEOUT_S, max(2, int(patience_s)))
        return Limits(
            login_s=min(LOGIN_TIMEOUT_S, max(1, network_s // 3)),
            network_s=network_s,
            socket_s=min(SOCKET_TIMEOUT_S, max(1, network_s // 2)),
            statement_s=min(STATEMENT_TIMEOUT_S, max(1, network_s * 3 // 4)),
            lock_s=min(LOCK_TIMEOUT_S, max(1, network_s // 2)),
        )
    if role in _SHOWN:
        network_s = min(NETWORK_TIMEOUT_S, SHOWN_NETWORK_S)
        return Limits(LOGIN_TIMEOUT_S, network_s, SOCKET_TIMEOUT_S, SHOWN_STATEMENT_S, SHOWN_LOCK_S)
    return Limits(LOGIN_TIMEOUT_S, NETWORK_TIMEOUT_S, SOCKET_TIMEOUT_S, STATEMENT_TIMEOUT_S, LOCK_TIMEOUT_S)


def profile(limits: Limits) -> dict[str, Any]:
    """The parameters that a session of any kind asks for at sign-in."""
    return {
        **SESSION_PROFILE,
        "LOCK_TIMEOUT": limits.lock_s,
        "STATEMENT_TIMEOUT_IN_SECONDS": limits.statement_s,
        "STATEMENT_QUEUED_TIMEOUT_IN_SECONDS": limits.statement_s,
    }


def hybrid_profile(limits: Limits) -> dict[str, Any]:
    """What is set besides where there are hybrid tables: else another session may see a write 100 ms late."""
    return {"READ_LATEST_WRITES": True, "HYBRID_TABLE_LOCK_TIMEOUT": limits.lock_s}


def set_parameters(driver: Any, wanted: Mapping[str, Any], tag: str) -> None:
    """Set them on an open session. An account that does not know one is used without, with a warning."""
    for name, value in wanted.items():
        try:
            _run(driver, f"ALTER SESSION SET {name} = {_text(value).upper()}", tag)
        except DriverError as exc:
            if verdict(exc.errno).after is not After.GIVE_UP:
                raise
            _warn(name, "", f"this Snowflake account does not take {name}: {message(exc.errno, exc.msg or '')}")


def check(driver: Any, wanted: Mapping[str, Any], tag: str) -> None:
    """Read the session's parameters back, in one statement, and compare.

    Raises StoreError where one that safety rests on is not in force. Others are a warning, once. Where the account does
    not show them that is a warning too, and the session is used as it is.
    """
    try:
        rows = _run(driver, _SHOW, tag)
    except DriverError as exc:
        if verdict(exc.errno).after is not After.GIVE_UP:
            raise
        _warn(_SHOW, "", f"the Snowflake session could not be checked: {message(exc.errno, exc.msg or '')}")
        return
    found = {str(row[0]).upper(): _text(row[1]) for row in rows if len(row) > 1}
    for name, value in wanted.items():
        want = _text(value)
        has = found.get(name)
        if name in _NOT_SHOWN or has == want:
            continue
        if has is None:
            _warn(name, "", f"Snowflake does not show {name}: whether it is {want} is not known")
            continue
        line = f"the Snowflake session has {name} = {has}, and {want} was asked for"
        if name in _VITAL:
            raise StoreError(
                f"{line}: {_VITAL[name]}. Look at SHOW PARAMETERS LIKE '{name}' IN USER, and unset it there"
            )
        _warn(name, has, f"{line}; look at SHOW PARAMETERS LIKE '{name}' IN USER")


def _run(driver: Any, text: str, tag: str) -> list[Any]:
    with driver.cursor() as cursor:
        cursor.execute(text, None, _statement_params={"QUERY_TAG": tag})
        return list(cursor.fetchall())


def _text(value: Any) -> str:
    """A parameter's value in the one form in which asked and found are compared."""
    text = str(value).strip()
    return text.lower() if text.lower() in ("true", "false") else text


def _warn(name: str, found: str, line: str) -> None:
    if (name, found) not in _told:
        _told.add((name, found))
        log.warning("%s", line)
