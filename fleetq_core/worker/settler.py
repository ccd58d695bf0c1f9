"""Writes outcomes in sets: those that arrive while one commit is under way form the next (group commit)."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from fleetq_core import failures
from fleetq_core.errors import StoreError, StoreUnavailable
from fleetq_core.model import Outcome, Status
from fleetq_core.queue import Queue

from .counters import Counters
from .ledger import ClaimLedger
from .outbox import Outbox, adopt_abandoned

log = logging.getLogger(__name__)

MAX_SET = 4000
SET_BYTES = 8_000_000  # of results and errors in one set
OUTBOX_SET = 500  # of any size, from disk
# What may wait in memory before the pod claims no more: its slots may be faster than the store takes their outcomes.
MOST_WAITING, MOST_WAITING_BYTES = 2 * MAX_SET, 8 * SET_BYTES
IDLE_S = 3600.0  # nothing to do until somebody pokes


class Settler:
    """One per pod. Outcomes wait in memory; while the store is away they wait on disk, and `is_clear` is False."""

    def __init__(
        self, queue: Queue, ledger: ClaimLedger, counters: Counters, outbox_dir: Path, linger_s: float
    ) -> None:
        self._queue, self._ledger, self._counters = queue, ledger, counters
        self._linger_s = linger_s
        self._new: deque[Outcome] = deque()
        self._new_bytes = 0
        self._new_lock = threading.Lock()
        # Named after the incarnation: the same pod_id may run twice for a moment, and each has results of its own.
        self._outbox = Outbox(outbox_dir, f"{queue.who.pod_id}.{queue.who.incarnation[:8]}")
        self._outboxes = [self._outbox, *adopt_abandoned(outbox_dir)]
        self._turn_lock = threading.Lock()
        self._in_hand: list[Outcome] = []  # of the statement that runs, if they came from memory
        self._linger = threading.Event()
        self.poke: Callable[[], None] = lambda: None
        self.on_clear: Callable[[], None] = lambda: None
        self.on_deferred: Callable[[Sequence[float]], None] = lambda delays: None

    def add(self, outcome: Outcome) -> None:
        """Take an outcome in; it will be written soon, or kept on disk until it can be."""
        with self._new_lock:
            self._new.append(outcome)
            self._new_bytes += _size(outcome)
        self.poke()

    @property
    def waiting(self) -> int:
        """Outcomes on disk."""
        return sum(len(outbox) for outbox in self._outboxes)

    @property
    def is_clear(self) -> bool:
        """Whether the pod may claim: nothing waits on disk, and in memory only what a few sets will take."""
        if len(self._new) > MOST_WAITING or self._new_bytes > MOST_WAITING_BYTES:
            return False
        return not any(len(outbox) for outbox in self._outboxes)

    def run_once(self) -> float:
        """Write one set; on disk first, oldest first."""
        with self._turn_lock:
            if self.waiting:  # the store is away: this process may die before it is back
                self._keep(self._take(math.inf, math.inf))
            for outbox in self._outboxes:
                if batch := outbox.peek(OUTBOX_SET):
                    self._write(batch)
                    outbox.drop(batch)
                    if self.is_clear:
                        log.info("the outbox is empty again")
                        self.on_clear()
                    return 0.0
            if self._new and len(self._new) < MAX_SET and self._linger_s:
                self._linger.wait(self._linger_s)
            was_clear = self.is_clear
            batch = self._take(MAX_SET, SET_BYTES)
            if not batch:
                return IDLE_S
            self._in_hand = batch
            try:
                self._write(batch)
            except StoreError:
                self._counters.store_errors += 1
                self._keep(batch)
                raise
            finally:
                self._in_hand = []
            if self.is_clear and not was_clear:
                self.on_clear()
            return 0.0 if self._new else IDLE_S

    def replay(self) -> None:
        """Send what an earlier process of this pod could not, before its row is taken over: its claims still stand."""
        try:
            while not self.is_clear:
                self.run_once()
        except StoreUnavailable as exc:
            log.warning("the outbox waits: %s", exc)

    def flush(self) -> bool:
        """Write or keep on disk all that is waiting in memory; True if the store took everything."""
        try:
            while self._new or not self.is_clear:
                self.run_once()
        except StoreError as exc:
            with self._turn_lock:
                self._keep(self._take(math.inf, math.inf))
            log.warning("%d outcomes stay in the outbox: %s", self.waiting, exc)
        return self.is_clear and not self._new

    def salvage(self) -> None:
        """Keep on disk what is in memory, and what a statement that hangs has in hand. Sent twice it is written once.

        For the end of the process: it takes no turn, which the hanging statement has.
        """
        self._keep([*self._in_hand, *self._take(math.inf, math.inf)])

    def close(self) -> None:
        """Let go of the files."""
        for outbox in self._outboxes:
            outbox.close()

    def _take(self, most: float, most_bytes: float) -> list[Outcome]:
        """The outcomes that have waited longest; one of them at least, however large."""
        batch: list[Outcome] = []
        taken = 0
        with self._new_lock:
            while self._new and len(batch) < most:
                size = _size(self._new[0])
                if batch and taken + size > most_bytes:
                    break
                batch.append(self._new.popleft())
                taken += size
            self._new_bytes -= taken
        return batch

    def _keep(self, batch: Sequence[Outcome]) -> None:
        if not batch:
            return
        try:
            self._outbox.put(batch)
        except StoreUnavailable as exc:
            # Neither the store nor the disk takes them: memory is all there is left.
            log.error("%s; keeping %d outcomes in memory", exc, len(batch))
            with self._new_lock:
                self._new.extendleft(reversed(batch))
                self._new_bytes += sum(map(_size, batch))

    def _write(self, batch: Sequence[Outcome]) -> None:
        stands = self._queue.store.settle_steps(batch, self._queue.config.max_retries)
        self._ledger.forget([(o.step_id, o.claim_token) for o in batch])
        delays = []
        for outcome in batch:
            if (outcome.step_id, outcome.claim_token) not in stands:
                self._counters.stale_refused += 1
                log.warning("step %s: outcome refused, the claim was lost meanwhile", outcome.step_id)
            elif outcome.status is Status.COMPLETED:
                self._counters.completed += 1
            elif outcome.status is Status.PENDING:
                self._counters.deferred += 1
                delays.append(outcome.retry_delay_s or 0.0)
            else:
                self._counters.failed += 1
                self._counters.last_errors = [
                    *self._counters.last_errors[-4:],
                    f"{outcome.step_id}: {failures.split(outcome.error or '')[0]}"[:300],
                ]
        if delays:
            self.on_deferred(delays)


def _size(outcome: Outcome) -> int:
    return len(outcome.result or outcome.error or "")
