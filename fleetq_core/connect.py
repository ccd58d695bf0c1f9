"""`connect()`: from settings, or from a Snowpark session, to a queue."""

from __future__ import annotations

from typing import Any

from .config import Config, load_config
from .queue import Queue
from .store import open_session_store, open_store
from .store.look_only import look_only
from .store.metered import KINDS, metered
from .store.tally import StoreMeter


def connect(config: Config | None = None, *, session: Any = None) -> Queue:
    """Open the queue that `config` (default: the environment) names, creating its tables if they are missing.

    With `session`, an open Snowpark session, it is the queue in that session's current schema, whatever `config` says
    of a store. Its tables must be there. The session's connection is used for the calls of this queue, which leave its
    parameters alone and never close it; it must bind with qmark, with AUTOCOMMIT on and no transaction open, and stay
    in its schema. A Pod on that queue signs in to connections of its own, as the SNOWFLAKE_* settings say; without
    them it does not start. Raises ConfigError or StoreError, which name what does not fit.

    That of a viewer (FLEET_Q_ROLE) answers questions and refuses the rest with NotAllowed.
    """
    config = config or load_config()
    if session is not None:
        config = config.model_copy(update={"store": "snowflake"})
    meter = StoreMeter(KINDS, config.warehouse_auto_suspend)
    store = open_store(config) if session is None else open_session_store(session, config)
    return Queue(metered(store if config.role.may_act else look_only(store), meter), config)
