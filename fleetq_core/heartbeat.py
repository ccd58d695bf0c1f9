"""The heartbeat: renews the lease, publishes the pod, hears of leader, pause and commands, and tidies up claims."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .clock import Clock
from .config import Config
from .errors import PodSuperseded
from .exchange import Exchange
from .model import Beat, BeatState, Identity, Step
from .store import Store
from .worker.counters import Counters
from .worker.lease import Lease
from .worker.ledger import ClaimLedger

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Moment:
    """The database's time of a beat, and between which monotonic times it was read."""

    now_ts: float
    sent: float
    received: float

    def jump_since(self, earlier: _Moment | None) -> float:
        """Seconds by which the database's clock has moved more, or less, than can have passed."""
        if earlier is None:
            return 0.0
        moved = self.now_ts - earlier.now_ts
        return max(0.0, moved - (self.received - earlier.sent), (self.sent - earlier.received) - moved)


class Heartbeat:
    """One per pod, on a thread and a connection of its own, so that a slow claim never makes the pod look dead.

    `drop_unless(held)` drops buffered steps that are not ours any more; `on_beat(beat, lapsed)` tells the pod what was
    heard, and whether the lease had run out before. Beats in between, for the exchange of throttles, tidy nothing up.
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
        exchange: Exchange,
        meta: Callable[[], Mapping[str, Any]],
        drop_unless: Callable[[set[tuple[str, str]]], list[Step]],
        on_beat: Callable[[Beat, bool], None],
    ) -> None:
        self._store, self._who, self._config, self._clock = store, who, config, clock
        self._lease, self._ledger, self._counters = lease, ledger, counters
        self._exchange = exchange
        self._meta, self._drop_unless, self._on_beat = meta, drop_unless, on_beat
        self._previous: _Moment | None = None
        self._tidied: _Moment | None = None
        self._rested = False
        self.clock_offset_s: float | None = None  # this machine's clock minus the database's, at the last beat

    def register(self) -> None:
        """Take the pod's row over, for the first time or after it was purged."""
        sent = self._clock.monotonic()
        self._store.register_pod(self._who, self._meta())
        self._lease.renew(sent)

    def run_once(self) -> float:
        """Beat once. Raises PodSuperseded when another process owns the pod's row."""
        meta = {**self._meta(), **self._exchange.prepare()}
        sent = self._clock.monotonic()
        beat = self._store.beat(self._who, meta, self._config.dead_pod_threshold)
        moment = _Moment(beat.now_ts, sent, self._clock.monotonic())
        # As NTP reckons: the database looked at its clock halfway through the round trip (RFC 5905, section 8).
        self.clock_offset_s = round(self._clock.now() - (moment.received - sent) / 2 - beat.now_ts, 4)
        self._must_own_its_row(beat)
        if beat.state is BeatState.MISSING:
            log.warning("this pod's row is gone from the store; registering again")
            self.register()
            return 0.0
        # Claims are checked before the lease counts again: what was given away meanwhile must not start. A pod that
        # rested had none.
        if not self._rested and (beat.state is BeatState.REVIVED or not self._lease.is_valid()):
            self._drop_lost_claims()
        self._rested = False
        jumped_s = moment.jump_since(self._previous)
        jumped = jumped_s > self._config.lease_margin_s
        if jumped:
            # Pods that have not beaten since look dead by the new time; they get a threshold to be heard again.
            log.warning("the store's clock has jumped by %.0f s; judging no silent pod for a while", jumped_s)
        lapsed = self._lease.renew(sent, unsteady=jumped)
        self._previous = moment
        self._exchange.adopt(beat)
        extra_s = self._exchange.interval_s
        if self._is_regular(sent, extra_s):
            self._release_unknown_claims()
            self._tidied = moment
        else:
            self._counters.exchanges += 1
        self._on_beat(beat, lapsed)
        return min(self._config.heartbeat_interval, extra_s or self._config.heartbeat_interval)

    def lie_down(self) -> None:
        """Publish that the pod rests and mark it down; it holds no claims. The next beat raises it again."""
        beat = self._store.beat(self._who, self._meta(), self._config.dead_pod_threshold)
        self._must_own_its_row(beat)
        self._rested, self._previous = True, None
        self._lease.end()
        self._store.mark_down(self._who)

    def _must_own_its_row(self, beat: Beat) -> None:
        if beat.state is BeatState.SUPERSEDED:
            raise PodSuperseded(
                f"pod_id {self._who.pod_id!r} was started again elsewhere and belongs to that process now; "
                "this one stops. Give each pod a FLEET_Q_POD_ID of its own"
            )

    def _is_regular(self, sent: float, extra_s: float | None) -> bool:
        """Whether the beat is due without the exchange, which wants one every `extra_s`, or would have come anyway."""
        if extra_s is None or self._tidied is None:
            return True
        return sent >= self._tidied.sent + self._config.heartbeat_interval - extra_s / 2

    def _drop_lost_claims(self) -> None:
        lost = self._drop_unless(self._store.held_claims(self._who))
        self._ledger.forget((step.step_id, step.claim_token) for step in lost)
        log.warning("this pod was silent for too long; %d claimed steps were given away meanwhile", len(lost))

    def _release_unknown_claims(self) -> None:
        # Only claims from before the last time: those of newer ones may be on their way to the ledger.
        if self._tidied is not None:
            count = self._store.release_unknown(self._who, self._ledger.tokens(), self._tidied.now_ts)
            if count:
                self._counters.unknown_released += count
                log.warning("released %d claims whose replies were lost", count)
