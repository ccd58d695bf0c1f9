"""The claim loop: keeps the slots busy, holds little in advance, and asks an empty queue seldom."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from fleetq_core.clock import Clock
from fleetq_core.config import Config
from fleetq_core.ids import new_token
from fleetq_core.loop import jittered
from fleetq_core.model import Step
from fleetq_core.queue import Queue

from .counters import Counters
from .executor import Executor
from .ledger import ClaimLedger

log = logging.getLogger(__name__)

MAX_CLAIM = 500
SURPLUS_S = 0.25


class Claimer:
    """One per pod. `may_claim()` says whether the pod is in a state to take on work."""

    def __init__(
        self,
        queue: Queue,
        executor: Executor,
        ledger: ClaimLedger,
        counters: Counters,
        config: Config,
        clock: Clock,
        may_claim: Callable[[], bool],
    ) -> None:
        self._queue, self._executor, self._ledger = queue, executor, ledger
        self._counters, self._config, self._clock = counters, config, clock
        self._may_claim = may_claim
        self._unanswered: tuple[str, int] | None = None
        self._round_trip_s: float | None = None
        self.hungry = False  # whether a freed slot should claim at once: the queue held more than we took

    def run_once(self) -> float:
        """Claim once if there is room; returns the seconds until the next look."""
        self._release_surplus()
        if not self._may_claim():
            return self._config.claim_interval
        ahead = self._ahead()
        self._executor.low_water = ahead // 2
        token, want = self._unanswered or (new_token(), min(MAX_CLAIM, self._executor.room(ahead)))
        if want <= 0 or (want < ahead // 2 and self._executor.load()[1]):
            self.hungry = True
            return self._patience_s() if self._executor.load()[1] else self._config.claim_interval
        steps = self._claim(token, want)
        self.hungry = len(steps) == want
        return 0.0 if self.hungry else jittered(self._config.claim_interval)

    def _claim(self, token: str, want: int) -> list[Step]:
        # The token is known before the claim is sent, and is asked for again until the store has answered.
        self._unanswered = (token, want)
        self._ledger.asking(token)
        sent = self._clock.monotonic()
        steps = self._queue.claim_as(token, want)
        took = self._clock.monotonic() - sent
        self._unanswered = None
        self._ledger.granted(token, [step.step_id for step in steps])
        self._round_trip_s = took if self._round_trip_s is None else 0.8 * self._round_trip_s + 0.2 * took
        if steps:
            self._counters.claimed += len(steps)
            log.debug("claimed %d steps", len(steps))
            if took < self._config.lease_margin_s:
                self._executor.offer(steps)
            else:
                # This pod may have died and been revived meanwhile, and its beat could not see a claim that was still
                # on its way. The lease was good by a margin when the claim was sent, so a quicker answer is safe.
                self.release(steps)
        return steps

    def _ahead(self) -> int:
        """How many steps to hold in advance: what the slots finish during two round trips to the store."""
        run_s = self._executor.expected_run_s()
        if run_s is None or self._round_trip_s is None:
            return 0
        finished = 2 * self._executor.capacity * self._round_trip_s / max(run_s, 1e-6)
        return min(self._config.claim_ahead, math.floor(finished))

    def _release_surplus(self) -> None:
        """Steps that were to start within a moment but have not: give them to pods with free slots."""
        running, buffered = self._executor.load()
        if buffered and running >= self._executor.capacity:
            self.release(self._executor.take_back(older_than_s=self._patience_s()))

    def _patience_s(self) -> float:
        """How long a step may wait here for a slot: many times what it was claimed ahead for."""
        return max(SURPLUS_S, 10 * (self._round_trip_s or 0.0))

    def release(self, steps: list[Step]) -> None:
        """Give steps back that were not started."""
        if steps:
            claims = [(step.step_id, step.claim_token) for step in steps]
            # Forgotten first: if the store does not hear of it, the next beats give back what the ledger does not know.
            self._ledger.forget(claims)
            self._counters.released += self._queue.store.release_steps(claims)
            log.info("released %d steps that had not started", len(steps))
