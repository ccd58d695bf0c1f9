"""Where the queue lives: one small protocol, and the engines behind it."""

from __future__ import annotations

from fleetq_core.clock import Clock, SystemClock
from fleetq_core.config import Config
from fleetq_core.errors import ConfigError

from .protocol import Store

__all__ = ["Store", "open_store"]


def open_store(config: Config, clock: Clock | None = None) -> Store:
    """Open a connection to the configured store and make sure that its schema is there."""
    if config.store == "snowflake":
        raise ConfigError(
            [
                "FLEET_Q_STORE=snowflake: the Snowflake store is not part of this version; "
                "unset SNOWFLAKE_ACCOUNT or set FLEET_Q_STORE=sqlite:///.fleetq/fleetq.db"
            ]
        )
    from .sqlite import SqliteStore

    store = SqliteStore(
        config.sqlite_path,
        clock=clock or SystemClock(),
        busy_timeout_s=config.sqlite_busy_timeout,
        synchronous=config.sqlite_synchronous,
    )
    store.create_schema()
    return store
