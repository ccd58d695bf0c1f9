"""`connect()`: from settings to a queue."""

from __future__ import annotations

from .config import Config, load_config
from .queue import Queue
from .store import open_store
from .store.metered import KINDS, metered
from .store.tally import StoreMeter


def connect(config: Config | None = None) -> Queue:
    """Open the queue that `config` (default: the environment) names, creating its tables if they are missing."""
    config = config or load_config()
    meter = StoreMeter(KINDS, config.warehouse_auto_suspend)
    return Queue(metered(open_store(config), meter), config)
