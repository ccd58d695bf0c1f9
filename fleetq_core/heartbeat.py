"""The heartbeat: renews the lease, publishes the pod, hears of leader, pause and commands, and tidies up claims."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from .clock import Clock
from .config import Config
from .errors import PodSuperseded
from .model import Beat, BeatState, Identity, Step
from .store import Store
from .worker.counters import Counters
from .worker.lease import Lease
from .worker.ledger import ClaimLedger

log = logging.getLogger(__name__)


class Heartbeat:
    """One per pod, on a thread and a connection of its own, so that a slow claim never makes the pod look dead.

    `drop_unless(held)` drops buffered steps that are not ours any more; `on_beat(beat, lapsed)` tells the pod
    what was heard, and whether the lease had run out before.
    """

    def __init__(
        self,
        store: Store,
        who: Identity,
        config: Config,
        clock: Clock,
        lease: Lease,
        ledger: ClaimLedger,
        counters: Counters,
        *,
        meta: Callable[[], Mapping[str, Any]],
        drop_unless: Callable[[set[tuple[str, str]]], list[Step]],
        on_beat: Callable[[Beat, bool], None],
    ) -> None:
        self._store, self._who, self._config, self._clock = store, who, config, clock
        self._lease, self._ledger, self._counters = lease, ledger, counters
        self._meta, self._drop_unless, self._on_beat = meta, drop_unless, on_beat
        self._previous_ts: float | None = None

    def register(self) -> None:
        """Take the pod's row over, for the first time or after it was purged."""
        sent = self._clock.monotonic()
        self._store.register_pod(self._who, self._meta())
        self._lease.renew(sent)

    def run_once(self) -> float:
        """Beat once. Raises PodSuperseded when another process owns the pod's row."""
        sent = self._clock.monotonic()
        beat = self._store.beat(self._who, self._meta(), self._config.dead_pod_threshold)
        if beat.state is BeatState.SUPERSEDED:
            raise PodSuperseded(
                f"pod_id {self._who.pod_id!r} was started again elsewhere and belongs to that process now; "
                "this one stops. Give each pod a FLEET_Q_POD_ID of its own"
            )
        if beat.state is BeatState.MISSING:
            log.warning("this pod's row is gone from the store; registering again")
            self.register()
            return 0.0
        # Claims are checked before the lease counts again: what was given away meanwhile must not start.
        if beat.state is BeatState.REVIVED or not self._lease.is_valid():
            self._drop_lost_claims()
        lapsed = self._lease.renew(sent)
        self._release_unknown_claims()
        self._previous_ts = beat.now_ts
        self._on_beat(beat, lapsed)
        return self._config.heartbeat_interval

    def _drop_lost_claims(self) -> None:
        lost = self._drop_unless(self._store.held_claims(self._who))
        self._ledger.forget((step.step_id, step.claim_token) for step in lost)
        log.warning("this pod was silent for too long; %d claimed steps were given away meanwhile", len(lost))

    def _release_unknown_claims(self) -> None:
        # Only claims from before the previous beat: those of newer ones may be on their way to the ledger.
        if self._previous_ts is not None:
            count = self._store.release_unknown(self._who, self._ledger.tokens(), self._previous_ts)
            if count:
                self._counters.unknown_released += count
                log.warning("released %d claims whose replies were lost", count)
