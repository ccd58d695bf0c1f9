"""Snowpark over a connection that is signed in already, and its errors as the driver's own.

Snowpark is loaded when the first session is made and not before: it takes a second, and a pod does without.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from snowflake.connector.errors import ProgrammingError

from .snowflake_connection import SnowflakeConnection
from .snowflake_session import Limits

SESSION_GONE = 250002  # the driver's number of a connection that is closed
SPARE_S = 30  # that the driver waits longer than the server


def session_over(driver: Any) -> Any:
    """A Snowpark session over the driver's connection, which whoever opened it closes."""
    from snowflake.snowpark import Session
    from snowflake.snowpark import session as snowpark

    session = Session.builder.configs({"connection": driver}).create()
    # Snowpark keeps every session for ever and closes it at exit, talking to a server that may be gone by then; and a
    # program that asks it for "the" active session would meet ours.
    snowpark._remove_session(session)
    atexit.unregister(session._close_at_exit)
    return session


class SessionKeeper:
    """The session over a connection's driver, made anew when the connection has signed in again.

    With `session` it begins with one that exists. Callers take turns, as they do for the driver.
    """

    def __init__(self, session: Any = None) -> None:
        self._session = session
        self._driver = None if session is None else session.connection

    def over(self, driver: Any) -> Any:
        """The session over `driver`."""
        if self._driver is not driver:
            self._session, self._driver = session_over(driver), driver
        return self._session


class PatientConnection(SnowflakeConnection):
    """A connection with a Snowpark session over it, that waits for statements of up to `statement_s` seconds."""

    def __init__(self, settings: Mapping[str, Any], pod_id: str, role: str, statement_s: int) -> None:
        super().__init__(settings, pod_id, role)
        self._statement_s, self._keeper = statement_s, SessionKeeper()

    def session(self, driver: Any) -> Any:
        """The session over the driver that `with_driver` hands in."""
        return self._keeper.over(driver)

    @property
    def _limits(self) -> Limits:
        # A statement may queue for as long as it may run, and the server ends it before the driver leaves it in doubt.
        return replace(super()._limits, statement_s=self._statement_s, network_s=2 * self._statement_s + SPARE_S)


@contextmanager
def driver_errors() -> Iterator[None]:
    """Raise the driver's error where Snowpark has wrapped one, for it is judged by the driver's number."""
    from snowflake.snowpark.exceptions import SnowparkClientException, SnowparkSessionException

    try:
        yield
    except SnowparkSessionException as exc:
        raise ProgrammingError(msg=exc.message, errno=SESSION_GONE) from exc
    except SnowparkClientException as exc:
        raise getattr(exc, "conn_error", None) or ProgrammingError(msg=exc.message) from exc
