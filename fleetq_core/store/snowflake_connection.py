"""One Snowflake connection as the store uses it: sign-in, session profile, binding, retries and error names.

The only module that knows the driver, and `open_store` imports it only for this store. It is written for connector 4.8,
which Snowpark needs, and keeps to what 5.x has too: server-side `qmark` binds, limits for each statement as parameters
and never `timeout=`, errors judged by their number.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import snowflake.connector
from snowflake.connector.errors import Error as DriverError

from fleetq_core.backoff import full_jitter
from fleetq_core.errors import StoreError, StoreUnavailable
from fleetq_core.version import VERSION

from .snowflake_errors import After, message, verdict
from .tally import ran

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 20  # of a statement that waits for another's lock; Snowflake's own default is 12 hours
STATEMENT_TIMEOUT_S = 60  # of one statement, on the server
LOGIN_TIMEOUT_S = 30
NETWORK_TIMEOUT_S = 90  # of one call of the driver with its own retries: longer than the server takes
RETRY_BASE_S, RETRY_MAX_S = 0.05, 2.0
RETRY_FOR_S = 20.0  # lock queues that stay full for longer are the caller's business
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  TIMESTAMP_NTZ has no zone; ours are UTC

# A colon that starts a name, and none of `::` or of a path into JSON.
_NAME = re.compile(r"(?<![\w:\]]):(\w+)")
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)
_CONSTANTS = frozenset({"limit", "look_limit"})

SESSION_PROFILE: Mapping[str, Any] = {
    "TIMEZONE": "UTC",
    "AUTOCOMMIT": True,
    "TIMESTAMP_INPUT_FORMAT": "AUTO",
    "LOCK_TIMEOUT": LOCK_TIMEOUT_S,
    "STATEMENT_TIMEOUT_IN_SECONDS": STATEMENT_TIMEOUT_S,
    "STATEMENT_QUEUED_TIMEOUT_IN_SECONDS": STATEMENT_TIMEOUT_S,
    "ABORT_DETACHED_QUERY": True,  # a dead pod's statement must not hold a lock for hours
    "TRANSACTION_ABORT_ON_ERROR": True,
    "ERROR_ON_NONDETERMINISTIC_UPDATE": True,
    "ERROR_ON_NONDETERMINISTIC_MERGE": True,
    "CLIENT_SESSION_KEEP_ALIVE": False,  # a session that is idle for hours is opened anew
    "CLIENT_TELEMETRY_ENABLED": False,
}
# Only where there are hybrid tables: without the first, another session may see a write 100 ms late.
HYBRID_PROFILE: Mapping[str, str] = {
    "READ_LATEST_WRITES": "TRUE",
    "HYBRID_TABLE_LOCK_TIMEOUT": str(LOCK_TIMEOUT_S),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A named block, with the names in it turned into the driver's question marks."""

    purpose: str
    parts: tuple[str, ...]  # text, name, text, name, …, text

    @classmethod
    def of(cls, purpose: str, text: str) -> Statement:
        """Parse a block of the .sql file."""
        return cls(purpose, tuple(_NAME.split(_COMMENT.sub("", text + "\n").strip())))

    def bound(self, bind: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """Text and values in order. Limits become part of the text: LIMIT takes constants."""
        text, values = [self.parts[0]], []
        for name, rest in zip(self.parts[1::2], self.parts[2::2], strict=True):
            if name in _CONSTANTS:
                text.append(str(int(bind[name])))
            else:
                text.append("?")
                values.append(bind[name])
            text.append(rest)
        return "".join(text), values


class SnowflakeConnection:
    """A connection that many threads may share; they take turns. It opens at the first statement, and as needed."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        pod_id: str,
        role: str = "",
        *,
        pause: Callable[[float], object] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.pod_id, self.role = settings, pod_id, role
        self.hybrid = False
        self._pause, self._monotonic = pause, monotonic
        self._lock = threading.RLock()
        self._driver: Any = None
        self._closed = False

    def rows(self, statement: Statement, bind: Mapping[str, Any], *, cached: bool = False) -> list[tuple[Any, ...]]:
        """Run a query; times come as seconds since the epoch. `cached`: it is thought to need no warehouse."""
        return self._run(statement, bind, cached)[1]

    def write(self, statement: Statement, bind: Mapping[str, Any]) -> int:
        """Run a write; returns how many rows it changed."""
        return self._run(statement, bind)[0]

    def again(self, role: str = "") -> SnowflakeConnection:
        """Another connection of the same kind to the same place; its statements are tagged with `role`."""
        clocks: dict[str, Any] = {"pause": self._pause, "monotonic": self._monotonic}
        other = SnowflakeConnection(self.settings, self.pod_id, role or self.role, **clocks)
        other.hybrid = self.hybrid
        return other

    def close(self) -> None:
        """Close it; idempotent."""
        with self._lock:
            self._closed = True
            self._drop()

    def _run(
        self, statement: Statement, bind: Mapping[str, Any], cached: bool = False
    ) -> tuple[int, list[tuple[Any, ...]]]:
        text, values = statement.bound(bind)
        with self._lock:
            deadline = self._monotonic() + RETRY_FOR_S
            attempt = 0
            while True:
                started = self._monotonic()
                try:
                    changed, found = self._execute(statement.purpose, text, values)
                    ran(self._monotonic() - started, max(changed, len(found)), attempt, awake=not cached)
                    return changed, found
                except DriverError as exc:
                    after = verdict(exc.errno).after
                    if after in (After.SIGN_IN, After.DOUBT):
                        self._drop()
                    again = after is After.WAIT or (after is After.SIGN_IN and attempt == 0)
                    if self._closed or not again or self._monotonic() >= deadline:
                        ran(self._monotonic() - started, 0, attempt, awake=not cached)
                        raise _named(exc) from exc
                    if after is After.WAIT:
                        self._pause(full_jitter(attempt, RETRY_BASE_S, RETRY_MAX_S))
                attempt += 1

    def _execute(self, purpose: str, text: str, values: Sequence[Any]) -> tuple[int, list[tuple[Any, ...]]]:
        with self._open().cursor() as cursor:
            tag = {"QUERY_TAG": " ".join(filter(None, ("fleetq", self.pod_id, self.role, purpose)))}
            cursor.execute(text, values or None, _statement_params=tag)
            return cursor.rowcount or 0, [tuple(map(_plain, row)) for row in cursor.fetchall()]

    def _open(self) -> Any:
        if self._closed:
            raise StoreUnavailable("the connection to Snowflake is closed")
        if self._driver is None:
            self._driver = self._sign_in()
            if self.hybrid:
                self._set(HYBRID_PROFILE)
        return self._driver

    def _sign_in(self) -> Any:
        try:
            # The paramstyle is named here because Streamlit sets another one for the whole process.
            return snowflake.connector.connect(
                **{"login_timeout": LOGIN_TIMEOUT_S, "network_timeout": NETWORK_TIMEOUT_S, **self.settings},
                paramstyle="qmark",
                application="FLEETQ",
                autocommit=True,
                session_parameters={**SESSION_PROFILE, "QUERY_TAG": f"fleetq {self.pod_id} {VERSION}"},
            )
        except (OSError, ValueError) as exc:
            # A key file that is not there or holds no key; the driver has no number for it.
            raise StoreError(f"Snowflake: cannot sign in: {type(exc).__name__}: {exc}") from exc

    def use_hybrid(self) -> None:
        """Set what only sessions on hybrid tables need, now and after each sign-in."""
        with self._lock:
            self.hybrid = True
            if self._driver is not None:
                self._set(HYBRID_PROFILE)

    def _set(self, profile: Mapping[str, str]) -> None:
        for name, value in profile.items():
            try:
                with self._driver.cursor() as cursor:
                    cursor.execute(f"ALTER SESSION SET {name} = {value}")
            except DriverError as exc:
                log.warning("this Snowflake account does not take %s: %s", name, message(exc.errno, exc.msg or ""))

    def _drop(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            try:
                driver.close()
            except DriverError as exc:
                log.debug("closing a broken Snowflake connection: %s", exc)


def _named(exc: DriverError) -> StoreError:
    return verdict(exc.errno).error(message(exc.errno, exc.raw_msg or exc.msg or str(exc)))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value.replace(tzinfo=None) - EPOCH) / timedelta(seconds=1)
    return float(value) if isinstance(value, Decimal) else value


def timestamp(ts: float) -> datetime:
    """Seconds since the epoch as the driver binds a TIMESTAMP_NTZ: UTC, without a zone, to the microsecond."""
    return datetime.fromtimestamp(ts, UTC).replace(tzinfo=None)
