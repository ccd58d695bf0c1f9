"""The queue over a Snowpark session that somebody else has opened: used, and never changed or closed."""

from __future__ import annotations

from typing import Any

from fleetq_core.config import Config
from fleetq_core.errors import ConfigError, StoreError, StoreUnavailable

from .snowflake import SnowflakeStore
from .snowflake_connection import SnowflakeConnection, Statement
from .snowflake_session import check, hybrid_profile, profile
from .snowpark import SessionKeeper

_OURS = ("TIMEZONE", "LOCK_TIMEOUT", "STATEMENT_TIMEOUT_IN_SECONDS", "STATEMENT_QUEUED_TIMEOUT_IN_SECONDS")
_OPEN = Statement.of("session", "SELECT CURRENT_TRANSACTION()")


def open_on_session(session: Any, config: Config) -> SnowflakeStore:
    """The store in the session's current schema, whose tables must be there.

    Raises ConfigError for what is no such session or binds values in another way, StoreError where it is in a
    transaction or AUTOCOMMIT is off.
    """
    connection = SessionConnection(session, config)
    connection.check_fit()
    store = SnowflakeStore(connection, SessionKeeper(session))
    store.check_schema()
    return store


class SessionConnection(SnowflakeConnection):
    """The session's own connection for the statements of this process; limits go with each of them.

    What the base class opens it also closes; here it opens nothing, so the caller's connection stays as it is.
    Other connections, as a pod needs them, are signed in to as the settings say.
    """

    def __init__(self, session: Any, config: Config) -> None:
        driver: Any = getattr(session, "connection", None)
        if not callable(getattr(driver, "cursor", None)):
            raise ConfigError([f"connect(session=…): {type(session).__name__} is no Snowpark session on a connection"])
        self._problems = config.snowflake_problems()
        settings = {} if self._problems else config.snowflake_settings()
        super().__init__(settings, config.pod_id, patience_s=config.dead_pod_threshold / 3)
        self._owned_by_caller = driver
        self._place = _place(driver)

    def check_fit(self) -> None:
        """Raise ConfigError or StoreError where a statement of the queue would not do what it should."""
        driver = self._owned_by_caller
        if driver._paramstyle != "qmark":
            has = f"connect(session=…): its connection has paramstyle {driver._paramstyle!r}"
            raise ConfigError([f"{has}; open that with snowflake.connector.connect(…, paramstyle='qmark')"])
        if None in self._place:
            raise ConfigError(["connect(session=…): it has no current database and schema, where the tables would be"])
        self.with_driver(self._check_autocommit)
        if self.rows(_OPEN, {})[0][0] is not None:
            raise StoreError("the Snowpark session is in a transaction, in which the queue's writes would wait: end it")

    def _check_autocommit(self, driver: Any) -> list[Any]:
        try:
            check(driver, {"AUTOCOMMIT": True}, self._tag("session"))
        except StoreError as exc:
            raise StoreError(f"{exc}; or run ALTER SESSION SET AUTOCOMMIT = TRUE") from exc
        return []

    def parameters(self, purpose: str) -> dict[str, str]:
        """What goes with each statement instead of being set for the caller's session."""
        wanted = profile(self._limits) | (hybrid_profile(self._limits) if self.hybrid else {})
        names = (*_OURS, "READ_LATEST_WRITES", "HYBRID_TABLE_LOCK_TIMEOUT")
        return {name: str(wanted[name]) for name in names if name in wanted} | super().parameters(purpose)

    def again(self, role: str = "") -> SnowflakeConnection:
        if self._problems:
            raise ConfigError(
                [
                    "connect(session=…): a pod needs connections of its own beside the session, which a heartbeat must "
                    "not wait for; set what they sign in with",
                    *self._problems,
                ]
            )
        if moved := self._elsewhere():
            raise ConfigError([f"connect(session=…): {moved}; a pod must work on the queue of the session"])
        other = SnowflakeConnection(self.settings, self.pod_id, role, patience_s=self.patience_s)
        other.hybrid = self.hybrid
        return other

    def _elsewhere(self) -> str:
        told = {"SNOWFLAKE_DATABASE": self.settings.get("database"), "SNOWFLAKE_SCHEMA": self.settings.get("schema")}
        for (variable, value), here in zip(told.items(), self._place[1:], strict=True):
            if value and value.upper() != here.upper():
                return f"{variable}={value} is not the session's {here}"
        account = str(self.settings.get("account") or "").partition(".")[0]
        if account and self._place[0] and account.upper() != self._place[0].upper():
            return f"SNOWFLAKE_ACCOUNT={account} is not the session's {self._place[0]}"
        return ""

    def _open(self) -> Any:
        driver = self._owned_by_caller
        if self._closed:
            raise StoreUnavailable("the queue on this Snowpark session is closed")
        if driver.is_closed():
            raise StoreUnavailable("the Snowpark session of this queue has ended: open another, and connect again")
        if _place(driver) != self._place:
            # Its statements name no schema, so they would find other tables or none.
            raise StoreError(f"the Snowpark session has left {'.'.join(self._place[1:])}, where the queue's tables are")
        return driver


def _place(driver: Any) -> tuple[str, str, str]:
    return driver.account, driver.database, driver.schema
