"""Where the queue lives: one small protocol, and the engines behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetq_core.clock import Clock, SystemClock
from fleetq_core.config import Config
from fleetq_core.errors import ConfigError, SchemaMismatch

from .protocol import Store
from .snowflake_schema import Tables

if TYPE_CHECKING:
    from snowflake.snowpark import Session

    from .snowflake import SnowflakeStore

__all__ = ["Store", "open_session_store", "open_store"]


def open_store(config: Config, clock: Clock | None = None) -> Store:
    """Open a connection to the configured store and make sure that its schema is there.

    On Snowflake an operator creates the schema, once; whoever opens the store only checks it.
    A viewer creates and migrates nothing anywhere.
    """
    if config.store == "snowflake":
        return open_snowflake(config)
    if not config.role.may_act and not config.sqlite_path.exists():
        raise SchemaMismatch(f"{config.sqlite_path} is not there, and a viewer makes none: start a pod on it first")
    from .sqlite import SqliteStore

    store = SqliteStore(
        config.sqlite_path,
        clock=clock or SystemClock(),
        busy_timeout_s=config.sqlite_busy_timeout,
        synchronous=config.sqlite_synchronous,
    )
    if config.role.may_act:
        store.create_schema()
    else:
        store.check_schema()
    return store


def open_session_store(session: Session, config: Config) -> SnowflakeStore:
    """The store in the current schema of a Snowpark session that the caller keeps; see `connect`."""
    from .snowflake_on_session import open_on_session

    return open_on_session(session, config)


def open_snowflake(config: Config, *, create: bool = False, tables: Tables | None = None) -> SnowflakeStore:
    """Open the Snowflake store; with `create` its tables are made first if they are missing, as `tables` says.

    Its driver is loaded here and nowhere else: a pod on SQLite does without.
    """
    problems = config.snowflake_problems()
    if problems:
        raise ConfigError(problems)
    try:
        from .snowflake import SnowflakeStore
        from .snowflake_connection import SnowflakeConnection
    except ModuleNotFoundError as exc:
        raise ConfigError(
            [f"FLEET_Q_STORE=snowflake: needs the package of {exc.name}: pip install snowflake-connector-python"]
        ) from exc
    patience_s = config.dead_pod_threshold / 3
    store = SnowflakeStore(SnowflakeConnection(config.snowflake_settings(), config.pod_id, patience_s=patience_s))
    try:
        if create:
            store.create_schema(tables)
        else:
            store.check_schema()
    except BaseException:
        store.close()
        raise
    return store
