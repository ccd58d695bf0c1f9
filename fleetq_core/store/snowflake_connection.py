"""One Snowflake connection as the store uses it: binding, tags, retries, and a session that is opened as needed.

Only this module, its sign-in and its session know the driver, and `open_store` imports them only for this store. They
are written for connector 4.8, which Snowpark needs, and keep to what 5.x has too: server-side `qmark` binds, limits for
each statement as parameters and never `timeout=`, errors judged by their number.
"""

from __future__ import annotations

import importlib
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from snowflake.connector.errors import Error as DriverError

from fleetq_core.backoff import full_jitter
from fleetq_core.errors import StoreError, StoreUnavailable
from fleetq_core.version import VERSION

from .snowflake_errors import NO_ANSWER, After, message, no_answer, verdict
from .snowflake_session import Limits, check, hybrid_profile, limits_of, profile, set_parameters
from .snowflake_sign_in import open_driver
from .tally import ran

log = logging.getLogger(__name__)

CLOSE_S = 2.0  # for a goodbye to the server, and for a statement that still runs
RETRY_BASE_S, RETRY_MAX_S = 0.05, 2.0
RETRY_FOR_S = 20.0  # lock queues that stay full for longer are the caller's business
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  TIMESTAMP_NTZ has no zone; ours are UTC

# A colon that starts a name, and none of `::` or of a path into JSON.
_NAME = re.compile(r"(?<![\w:\]]):(\w+)")
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)
_CONSTANTS = frozenset({"limit", "look_limit"})


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
    """A connection that many threads may share; they take turns. It opens at the first statement, and as needed.

    `patience_s` bounds how long a heartbeat (role "beat") may hang on a dead network: one that comes after the
    dead-pod threshold is worth nothing.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        pod_id: str,
        role: str = "",
        *,
        patience_s: float | None = None,
        pause: Callable[[float], object] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.pod_id, self.role, self.patience_s = settings, pod_id, role, patience_s
        self.hybrid = False
        self.statements = 0  # that were sent, repeats included
        self._pause, self._monotonic = pause, monotonic
        self._lock = threading.RLock()
        self._driver: Any = None
        self._cursor: Any = None  # of the statement that runs
        self._closed = False
        self._hybrid_set = False

    @property
    def _limits(self) -> Limits:
        return limits_of(self.role, self.patience_s)

    def rows(self, statement: Statement, bind: Mapping[str, Any], *, cached: bool = False) -> list[tuple[Any, ...]]:
        """Run a query; times come as seconds since the epoch. `cached`: it is thought to need no warehouse."""
        return self._run(statement, bind, cached)[1]

    def write(self, statement: Statement, bind: Mapping[str, Any]) -> int:
        """Run a write; returns how many rows it changed."""
        return self._run(statement, bind)[0]

    def with_driver(self, work: Callable[[Any], list[Any]]) -> list[Any]:
        """What `work` finds with the driver's own connection, tried again and judged like a statement.

        `work` lets errors of the driver through, and gives each statement its `parameters`.
        """
        return self._tried(lambda: (0, work(self._open())))[1]

    def parameters(self, purpose: str) -> dict[str, str]:
        """What Snowflake is told with one statement."""
        return {"QUERY_TAG": self._tag(purpose)}

    def again(self, role: str = "") -> SnowflakeConnection:
        """Another connection of the same kind to the same place; its statements are tagged with `role`."""
        same: dict[str, Any] = {"patience_s": self.patience_s, "pause": self._pause, "monotonic": self._monotonic}
        other = SnowflakeConnection(self.settings, self.pod_id, role or self.role, **same)
        other.hybrid = self.hybrid
        return other

    def close(self) -> None:
        """Close it; idempotent. A statement that hangs on a dead network does not hold it up for long."""
        self._closed = True
        idle = self._lock.acquire(timeout=CLOSE_S)
        try:
            self._drop(CLOSE_S if idle else 0.0)
        finally:
            if idle:
                self._lock.release()
            else:
                _disarm(self._cursor)

    def _run(
        self, statement: Statement, bind: Mapping[str, Any], cached: bool = False
    ) -> tuple[int, list[tuple[Any, ...]]]:
        text, values = statement.bound(bind)
        return self._tried(lambda: self._execute(statement.purpose, text, values), cached)

    def _tried(self, work: Callable[[], tuple[int, list[Any]]], cached: bool = False) -> tuple[int, list[Any]]:
        with self._lock:
            deadline = self._monotonic() + min(RETRY_FOR_S, self._limits.network_s)
            attempt, signed_in = 0, False
            while True:
                started = self._monotonic()
                self.statements += 1
                try:
                    changed, found = work()
                    ran(self._monotonic() - started, max(changed, len(found)), attempt, awake=not cached)
                    return changed, found
                except DriverError as exc:
                    after = verdict(exc.errno).after
                    if after in (After.SIGN_IN, After.DOUBT):
                        self._drop()
                    again = after is After.WAIT or (after is After.SIGN_IN and not signed_in)
                    signed_in = signed_in or after is After.SIGN_IN
                    if self._closed or not again or self._monotonic() >= deadline:
                        ran(self._monotonic() - started, 0, attempt, awake=not cached)
                        raise _named(exc) from exc
                    if after is After.WAIT:
                        self._pause(full_jitter(attempt, RETRY_BASE_S, RETRY_MAX_S))
                except OSError as exc:
                    # What the driver lets through when an answer breaks off in the middle: the statement may have run.
                    self._drop()
                    ran(self._monotonic() - started, 0, attempt, awake=not cached)
                    raise NO_ANSWER.error(no_answer(exc)) from exc
                attempt += 1

    def _execute(self, purpose: str, text: str, values: Sequence[Any]) -> tuple[int, list[tuple[Any, ...]]]:
        with self._open().cursor() as cursor:
            self._cursor = cursor
            cursor.execute(text, values or None, _statement_params=self.parameters(purpose))
            return cursor.rowcount or 0, [tuple(map(_plain, row)) for row in cursor.fetchall()]

    def _open(self) -> Any:
        self._must_not_be_closed()
        driver = self._driver
        fresh = driver is None
        if fresh:
            driver = self._driver = open_driver(self.settings, self._limits, self._tag(VERSION))
            _cancel_aside(driver)
            self._must_not_be_closed()  # meanwhile, by a thread that did not wait for this one
        if fresh or (self.hybrid and not self._hybrid_set):
            self._set_up(driver)
        return driver

    def _must_not_be_closed(self) -> None:
        if self._closed:
            self._drop()
            raise StoreUnavailable("the connection to Snowflake is closed")

    def _set_up(self, driver: Any) -> None:
        """Set what is not set at sign-in, and see that all of it is in force. A session that fails is not used."""
        tag = self._tag("session")
        wanted = profile(self._limits)
        try:
            if self.hybrid:
                set_parameters(driver, hybrid_profile(self._limits), tag)
                wanted |= hybrid_profile(self._limits)
            check(driver, wanted, tag)
        except BaseException:
            self._drop()
            raise
        self._hybrid_set = self.hybrid

    def _tag(self, purpose: str) -> str:
        return " ".join(filter(None, ("fleetq", self.pod_id, self.role, purpose)))

    def use_hybrid(self) -> None:
        """Set what only sessions on hybrid tables need, before the next statement and after each sign-in."""
        with self._lock:
            self.hybrid = True

    def _drop(self, wait_s: float = 0.0) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            # The driver says goodbye to the server, and on a dead network waits long for an answer.
            closing = threading.Thread(target=_close, args=(driver,), name="fleetq-close", daemon=True)
            closing.start()
            closing.join(wait_s)


def _start_decoder() -> None:
    """Let connector 4.8 make its first decoder of results here, at import, where one thread is alone.

    Two threads that each make the first one deadlock: one holds a lock of its C++ logger and waits for Python's, the
    other the other way round. An empty result is an error for it, but after the logger is there.
    """
    try:
        context = importlib.import_module("snowflake.connector.arrow_context").ArrowConverterContext({})
        decoder = importlib.import_module("snowflake.connector.nanoarrow_arrow_iterator").PyArrowRowIterator
    except ImportError:  # connector 5 has none
        return
    with suppress(DriverError):
        decoder(None, b"", context, False, False, False, False)


_start_decoder()


def _close(driver: Any) -> None:
    try:
        driver.close()
    except (DriverError, OSError) as exc:
        log.debug("closing a broken Snowflake connection: %s", exc)


def _cancel_aside(driver: Any) -> None:
    """Let the driver cancel statements on a thread that nobody waits for.

    It does so from a timer of each statement, which on a dead network would end in a traceback on stderr, and keep a
    process from leaving until then.
    """
    cancel = getattr(driver, "_cancel_query", None)
    if cancel is None:
        return

    def quietly(*args: Any) -> None:
        try:
            cancel(*args)
        except (DriverError, OSError) as exc:
            log.debug("cancelling a statement: %s", exc)

    driver._cancel_query = lambda *args: threading.Thread(target=quietly, args=args, daemon=True).start()


def _disarm(cursor: Any) -> None:
    """Stop the timer of a statement that is given up, for the process would wait for it at its end."""
    timer = getattr(cursor, "_timebomb", None)
    if timer is not None:
        timer.cancel()


def _named(exc: DriverError) -> StoreError:
    return verdict(exc.errno).error(message(exc.errno, exc.raw_msg or exc.msg or str(exc)))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value.replace(tzinfo=None) - EPOCH) / timedelta(seconds=1)
    return float(value) if isinstance(value, Decimal) else value


def timestamp(ts: float) -> datetime:
    """Seconds since the epoch as the driver binds a TIMESTAMP_NTZ: UTC, without a zone, to the microsecond."""
    return datetime.fromtimestamp(ts, UTC).replace(tzinfo=None)
