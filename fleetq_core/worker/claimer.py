"""The claim loop: keeps the slots busy, holds little in advance, and asks an empty queue seldom."""

from __future__ import annotations

import bisect
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from fleetq_core.clock import Clock
from fleetq_core.config import Config
from fleetq_core.ids import new_token
from fleetq_core.loop import jittered
from fleetq_core.model import Step
from fleetq_core.queue import Queue

from .counters import Counters
from .executor import Executor
from .gates import Gates
from .ledger import ClaimLedger

log = logging.getLogger(__name__)

# A claim is sent when what is held lasts for half of this, so it may take half a round trip longer than the last ones.
AHEAD_TRIPS = 3.0
# A claim that waits for other pods takes long, too, but who held the more for that would leave them nothing: a round
# trip counts for no more than twice what it took at least lately. That may grow by so much with each claim.
LEAST_GROWS = 1.1
GROWTH = 4  # of a claim over the last: the first ones tell little of the steps and of the store
# So many steps are enough where a claim is answered soon. It takes the longer the more it brings there, and that is no
# reason to ask for more.
MODEST, SHORT_TRIP_S = 512, 0.05
MOST_HELD_BYTES = 64_000_000  # of the payloads of the steps that are held in advance, if they are as those claimed last
GLANCE_S = 0.05  # how often to look, at most, whether the steps that are held will last
SURPLUS_S = 0.25
SHORTEST_WAIT_S = 0.001
DUE_MARGIN_S = 0.01  # the store's clock may run a little slower than ours: a look too early would find nothing
MOST_DOUBLINGS = 20
MOST_DUE_TIMES = 1000  # known in advance; the others are found by looking every claim_interval


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
        gates: Gates,
    ) -> None:
        self._queue, self._executor, self._ledger = queue, executor, ledger
        self._counters, self._config, self._clock = counters, config, clock
        self._may_claim, self._gates = may_claim, gates
        self._due: list[float] = []  # when steps that this pod handed back are due, by the monotonic clock
        self._due_lock = threading.Lock()
        self._unanswered: tuple[str, int] | None = None
        self._round_trip_s: float | None = None
        self._least_trip_s = math.inf
        self._last_size = 0  # of the last claim that found something
        self._starved = False  # whether nothing was left in the buffer when it came
        self._payload_bytes = 1.0  # of one step
        self._per_s = 0.0  # steps that have ended in a second, lately
        self._looked = (0.0, 0)  # when they were counted last, and how many had ended then
        self._in_vain = 0  # looks since the last step
        # Whether a freed slot should claim at once: the queue held more than we took, or a throttle held us back.
        self.hungry = False

    def run_once(self) -> float:
        """Claim once if there is room; returns the seconds until the next look."""
        self.release(self._executor.take_shut_out())
        self._release_surplus()
        if not self._may_claim():
            return self._config.claim_interval
        ahead = self._ahead()
        self._executor.low_water = ahead // 2
        token, want = self._unanswered or (new_token(), self._executor.room(ahead))
        buffered = self._executor.load()[1]
        if want <= 0 or (want < ahead // 2 and buffered):
            self.hungry = True
            return max(GLANCE_S, (self._round_trip_s or 0.0) / 2) if buffered else self._config.claim_interval
        caps = self._gates.caps(self._executor.held_by_task)
        self._forget_due()
        steps = self._claim(token, want, caps)
        taken = Counter(step.task_type for step in steps)
        at_cap = [name for name, cap in caps.items() if taken[name] >= cap]
        self.hungry = len(steps) == want or bool(at_cap)
        self._gates.ask_for(want - len(steps) if at_cap else 0)
        # A type that has just reached its cap may have hidden others; the next claim passes it over.
        again = len(steps) == want or any(taken[name] for name in at_cap)
        return 0.0 if again else self._pause_s()

    def expect(self, delays: Sequence[float]) -> None:
        """Steps were handed back for so many seconds: look again when they are due. From any thread."""
        now = self._clock.monotonic()
        with self._due_lock:
            for delay in delays:
                bisect.insort(self._due, now + delay + DUE_MARGIN_S)
            del self._due[MOST_DUE_TIMES:]

    def _forget_due(self) -> None:
        with self._due_lock:
            del self._due[: bisect.bisect_right(self._due, self._clock.monotonic())]

    def _pause_s(self) -> float:
        """After a claim that found nothing: until something may have changed that nobody tells this loop of."""
        waits = [self.widened_s()]
        with self._due_lock:
            waits += [due - self._clock.monotonic() for due in self._due[:1]]
        opens_in_s = self._gates.opens_in_s()
        if opens_in_s is not None:
            waits.append(opens_in_s)
        return max(SHORTEST_WAIT_S, min(waits))

    def widened_s(self) -> float:
        """How long to wait after one more look in vain: twice as long each time, up to FLEET_Q_IDLE_INTERVAL."""
        usual_s = self._config.claim_interval
        most_s = max(usual_s, self._config.idle_interval)
        wait_s = min(most_s, usual_s * 2**self._in_vain)
        self._in_vain = min(self._in_vain + 1, MOST_DOUBLINGS)
        return jittered(wait_s)

    def _claim(self, token: str, want: int, caps: Mapping[str, int]) -> list[Step]:
        # The token is known before the claim is sent, and is asked for again until the store has answered.
        self._unanswered = (token, want)
        self._ledger.asking(token)
        sent = self._clock.monotonic()
        rows = self._queue.claim_rows(token, want, caps or None)
        took = self._clock.monotonic() - sent
        steps = self._queue.steps_of(rows)
        self._unanswered = None
        self._ledger.granted(token, [step.step_id for step in steps])
        self._round_trip_s = took if self._round_trip_s is None else 0.8 * self._round_trip_s + 0.2 * took
        self._least_trip_s = min(took, LEAST_GROWS * self._least_trip_s)
        self._counters.claims += 1
        self._counters.empty_claims += not rows
        if steps:
            self._last_size = len(rows)
            self._starved = not self._executor.load()[1]
            self._weigh([len(row.payload) for row in rows])
            self._in_vain = 0
            self._counters.claimed += len(steps)
            log.debug("claimed %d steps", len(steps))
            if took < self._config.lease_margin_s:
                self._offer(steps, caps)
            else:
                # This pod may have died and been revived meanwhile, and its beat could not see a claim that was still
                # on its way. The lease was good by a margin when the claim was sent, so a quicker answer is safe.
                self.release(steps)
        return steps

    def _offer(self, steps: list[Step], caps: Mapping[str, int]) -> None:
        over = self._gates.surplus(steps, caps)
        spare = {step.step_id for step in over}
        self._executor.offer([step for step in steps if step.step_id not in spare])
        self.release(over)

    def _ahead(self) -> int:
        """How many steps to hold in advance: what the slots finish during a few round trips to the store."""
        run_s = self._executor.expected_run_s()
        if run_s is None or self._round_trip_s is None:
            return 0
        trip_s = min(self._round_trip_s, 2 * self._least_trip_s)
        self._measure(trip_s)
        most = self._executor.capacity / max(run_s, 1e-6)
        finished = AHEAD_TRIPS * trip_s * most
        if finished > MODEST:
            # Slots may share one core, or wait for each other: so many are held only where as many have ended. Twice as
            # many, if the slots had nothing left when the last claim came: that, too, is why fewer have ended.
            rate = self._per_s * (2 if self._starved else 1)
            lately = 0.0 if trip_s < SHORT_TRIP_S else AHEAD_TRIPS * trip_s * rate
            finished = max(MODEST, min(finished, lately))
        held = min(finished, MOST_HELD_BYTES / self._payload_bytes, GROWTH * self._last_size)
        return min(self._config.claim_ahead, math.floor(held))

    def _measure(self, trip_s: float) -> None:
        """Count the steps that have ended, over a round trip at least."""
        (since, before), now, ended = self._looked, self._clock.monotonic(), self._executor.stats.ended
        if now - since >= max(GLANCE_S, trip_s):
            self._per_s = max((ended - before) / (now - since), self._per_s / 2)
            self._looked = (now, ended)

    def _weigh(self, sizes: Sequence[int]) -> None:
        """Take note of the payloads of a claim: at once if they are large, slowly if they are small."""
        mean = sum(sizes) / len(sizes)
        self._payload_bytes = max(mean, 0.8 * self._payload_bytes + 0.2 * mean, 1.0)

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
