"""History: the leader samples the fleet for the charts, and deletes what is older than the retention."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fleetq_core.config import Config
from fleetq_core.model import Identity
from fleetq_core.store import Store

log = logging.getLogger(__name__)

PURGE_LIMIT = 1_000  # rows of a kind for each transaction, so that claims get their turn
PURGE_INTERVAL_S = 300.0
DAY_S = 86_400.0


class Sampler:
    """Writes one sample of the fleet each interval, while its pod leads."""

    def __init__(self, store: Store, who: Identity, config: Config, leads: Callable[[], bool]) -> None:
        self._store, self._who, self._config, self._leads = store, who, config, leads

    def run_once(self) -> float:
        """Take a sample; returns the seconds until the next."""
        if self._leads():
            self._store.take_sample(self._who, self._config.sample_interval, self._config.dead_pod_threshold)
        return self._config.sample_interval


class Retention:
    """Deletes old rows in small sets, while its pod leads."""

    def __init__(self, store: Store, config: Config, leads: Callable[[], bool]) -> None:
        self._store, self._config, self._leads = store, config, leads

    def run_once(self) -> float:
        """One small set of each kind; comes again soon while there is more."""
        if not self._leads():
            return PURGE_INTERVAL_S
        now = self._store.now()
        gone = self._store.purge(
            completed_before=now - self._config.retention_days * DAY_S,
            failed_before=now - self._config.failed_retention_days * DAY_S,
            limit=PURGE_LIMIT,
        )
        if any(gone.values()):
            log.info("retention: deleted %s", {kind: count for kind, count in gone.items() if count})
        return 0.2 if any(count >= PURGE_LIMIT for count in gone.values()) else PURGE_INTERVAL_S
