"""AdaptiveThrottle: the rule with waiting around it. Sync and async callers stand in one queue for one limit."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from fleetq_core.clock import Clock, SystemClock

from .changes import Change
from .config import ThrottleConfig
from .fleet import EXCHANGE_S, Plan, Report
from .names import introduce
from .permit import Permit, ThrottleTimeout, held
from .publication import publication
from .rule import Flight, LimitRule
from .shared_rule import SharedRule
from .stats import Totals, figures
from .waiters import LoopWaiter, ThreadWaiter, Waiter
from .wake import on_wake


class AdaptiveThrottle:
    """At most `limit` calls at once, a limit learnt from what the callers record; first come, first served.

    The limit learns from record_success, record_throttle and record_timeout only (or from with_throttle, which calls
    them): a call that records nothing, or fails in another way, leaves it alone. Within `with acquire_sync()` or
    `async with acquire()` they belong to that call, and its first outcome decides. Elsewhere they are taken literally.
    """

    def __init__(self, name: str, config: ThrottleConfig | None = None, *, clock: Clock | None = None) -> None:
        self.name = name
        self.backlog = 0  # calls that the pod's claim loop would start at once if it might; it says so here
        self.config = config or ThrottleConfig()
        self._monotonic = (clock or SystemClock()).monotonic
        self._rule = SharedRule(self.config) if self.config.scope == "fleet" else LimitRule(self.config)
        self._wakes = self.config.scope == "fleet"
        self._totals = Totals()
        self._waiting: deque[Waiter] = deque()
        self._abandoned: deque[Flight] = deque()
        self._lock = threading.Lock()
        introduce(self)

    # -- callers ------------------------------------------------------------------------------------------------------

    def acquire(self, timeout_s: float | None = None) -> Permit:
        """For `async with`. Raises ThrottleTimeout on entry if no slot comes free within `timeout_s` seconds."""
        return Permit(self, timeout_s)

    def acquire_sync(self, timeout_s: float | None = None) -> Permit:
        """For `with`. Raises ThrottleTimeout on entry if no slot comes free within `timeout_s` seconds."""
        return Permit(self, timeout_s)

    def try_acquire(self) -> Permit | None:
        """A permit that is taken already, or None if a slot is not free at once or others wait for one."""
        flight = self._take_free()
        return None if flight is None else Permit(self, None, flight)

    def record_success(self, latency: float | None = None) -> None:
        """The call was answered. `latency` in seconds; without one, that since admission. Nonsense is counted only."""
        permit = self._held()
        with self._lock:
            if self._counts(permit):
                self._totals.successes += 1
                self._rule.success(self._monotonic(), _flight_of(permit), latency)
                self._serve()
        self._settle_abandoned()

    def record_throttle(self, retry_after: float | None = None) -> None:
        """The downstream refused the call; after `retry_after` seconds, if it said so, it may be asked again."""
        permit = self._held()
        with self._lock:
            if self._counts(permit):
                self._totals.throttles += 1
                self._rule.throttle(self._monotonic(), _flight_of(permit), retry_after)
                self._serve()
        self._settle_abandoned()

    def record_timeout(self) -> None:
        """The call was given up by its own time limit."""
        permit = self._held()
        with self._lock:
            if self._counts(permit):
                self._totals.timeouts += 1
                self._rule.timeout(self._monotonic(), _flight_of(permit))
                self._serve()
        self._settle_abandoned()

    def pause(self, seconds: float) -> None:
        """Start nothing for `seconds` (and up to a quarter longer): the downstream asked for it in a good answer."""
        with self._lock:
            self._rule.shut(self._monotonic(), seconds)
            self._serve()
        self._settle_abandoned()

    def reset(self) -> None:
        """Back to the initial limit with nothing learnt and nothing counted but the calls under way."""
        with self._lock:
            self._rule.reset(self._monotonic())
            self._totals = Totals(requests=self._rule.in_flight)
            self._serve()
        self._settle_abandoned()

    @property
    def max_inflight(self) -> int:
        """The limit now."""
        return self._rule.limit

    def stats(self) -> dict[str, int | float | None]:
        """The fields of GET /admin/throttle. Latencies are seconds, None before anything is measured."""
        with self._lock:
            found = figures(self._rule, self._totals, self._monotonic())
        self._settle_abandoned()
        return found

    def slots(self) -> int:
        """How many calls may be under way now, with those that are: 0 while the downstream has asked for a pause."""
        with self._lock:
            found = self._rule.slots(self._monotonic())
        self._settle_abandoned()
        return found

    def opens_in_s(self) -> float | None:
        """Seconds until the pause that the downstream asked for is over; None if there is none."""
        with self._lock:
            left_s = self._rule.shut_until_s - self._monotonic()
        self._settle_abandoned()
        return left_s if left_s > 0 else None

    def changes(self) -> list[Change]:
        """The last changes of the limit with their reasons, oldest first; times are of the throttle's clock."""
        with self._lock:
            found = list(self._rule.changes)
        self._settle_abandoned()
        return found

    def publication(self) -> dict[str, Any]:
        """What the pod publishes of it: stats(), and the last changes with their age."""
        with self._lock:
            now_s = self._monotonic()
            found = publication(self._rule, self._totals, len(self._waiting), now_s)
        self._settle_abandoned()
        return found

    # -- a throttle of the fleet --------------------------------------------------------------------------------------

    def idle_s(self) -> float:
        """Seconds since a call was last under way or waiting; infinite if none ever was."""
        with self._lock:
            now_s = self._monotonic()
            busy = self._rule.in_flight or self._waiting
            found = 0.0 if busy else now_s - self._rule.last_end_s
        self._settle_abandoned()
        return found

    def report(self) -> Report | None:
        """What the leader has to know of this pod's use of it; None for a throttle of one pod."""
        rule = self._rule
        if not isinstance(rule, SharedRule):
            return None
        with self._lock:
            found = rule.report(self._monotonic(), len(self._waiting) + self.backlog)
        self._settle_abandoned()
        return found

    def adopt(self, plan: Plan, pod_id: str) -> None:
        """Go by the leader's plan from now on. A throttle of one pod does not."""
        rule = self._rule
        if isinstance(rule, SharedRule):
            with self._lock:
                rule.adopt(self._monotonic(), plan, pod_id)
                self._serve()
            self._settle_abandoned()

    @property
    def waiting(self) -> int:
        """How many callers stand in the queue."""
        return len(self._waiting)

    @property
    def ignored_latencies(self) -> int:
        """How many recorded latencies were negative, infinite or NaN."""
        return self._rule.gauge.ignored

    # -- for permits --------------------------------------------------------------------------------------------------

    def take(self, timeout_s: float | None) -> Flight:
        """Wait on this thread for a slot."""
        flight = self._take_free()
        if flight is not None:
            return flight
        waiter = ThreadWaiter()
        deadline_s = self._join(waiter, timeout_s)
        try:
            while (flight := self._turn(waiter, deadline_s)) is None:
                waiter.pause(self._pause_s(waiter, deadline_s))
        except BaseException:
            self._leave(waiter)
            raise
        return flight

    async def take_async(self, timeout_s: float | None) -> Flight:
        """Wait on this event loop for a slot. A cancelled wait leaves the queue and passes a granted slot on."""
        flight = self._take_free()
        if flight is not None:
            return flight
        waiter = LoopWaiter()
        deadline_s = self._join(waiter, timeout_s)
        try:
            while (flight := self._turn(waiter, deadline_s)) is None:
                await waiter.pause(self._pause_s(waiter, deadline_s))
        except BaseException:
            self._leave(waiter)
            raise
        return flight

    def give_back(self, flight: Flight) -> None:
        """The call is over."""
        with self._lock:
            self._rule.end(self._monotonic(), flight)
            if self._waiting:
                self._serve()
        self._settle_abandoned()

    def abandon(self, flight: Flight) -> None:
        """As give_back, from a garbage collector that may run while this very thread holds the lock."""
        self._abandoned.append(flight)
        self._settle_abandoned()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _held(self) -> Permit | None:
        for permit in reversed(held.get()):
            if permit.throttle is self and permit.flight is not None:
                return permit
        return None

    def _counts(self, permit: Permit | None) -> bool:
        """Whether an outcome is the first of its call; one outside any call is a request of its own."""
        if permit is None:
            self._totals.requests += 1
            return True
        first, permit.outcome = not permit.outcome, True
        return first

    def _take_free(self) -> Flight | None:
        with self._lock:
            now_s = self._monotonic()
            free = not self._waiting and self._rule.open_slots(now_s) > 0
            if free:
                self._totals.requests += 1
            wakes = self._wakes and not self._rule.in_flight and now_s > self._rule.last_end_s + EXCHANGE_S
            flight = self._rule.start(now_s) if free else None
        self._settle_abandoned()
        if wakes:
            on_wake()
        return flight

    def _join(self, waiter: Waiter, timeout_s: float | None) -> float | None:
        with self._lock:
            now_s = self._monotonic()
            self._waiting.append(waiter)
            self._serve()
        self._settle_abandoned()
        return None if timeout_s is None else now_s + timeout_s

    def _turn(self, waiter: Waiter, deadline_s: float | None) -> Flight | None:
        with self._lock:
            self._serve()
            if waiter.flight is None and deadline_s is not None and self._monotonic() >= deadline_s:
                raise ThrottleTimeout(f"throttle {self.name!r}: no slot came free in time (limit {self._rule.limit})")
            flight = waiter.flight
        self._settle_abandoned()
        return flight

    def _pause_s(self, waiter: Waiter, deadline_s: float | None) -> float | None:
        until = [at_s for at_s in (waiter.wakes_at_s, deadline_s) if at_s is not None]
        return max(0.0, min(until) - self._monotonic()) if until else None

    def _leave(self, waiter: Waiter) -> None:
        with self._lock:
            if waiter.flight is not None:
                self._rule.end(self._monotonic(), waiter.flight)
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            self._serve()
        self._settle_abandoned()

    def _serve(self) -> None:
        """Give free slots to those at the head of the queue, and have the next one watch the time if time opens one."""
        if not self._waiting:
            return
        now_s = self._monotonic()
        while self._waiting and self._rule.open_slots(now_s) > 0:
            waiter = self._waiting.popleft()
            waiter.flight = self._rule.start(now_s)
            self._totals.requests += 1
            if not waiter.wake():
                self._rule.end(now_s, waiter.flight)
                waiter.flight = None
        if self._waiting:
            head, opens_s = self._waiting[0], self._rule.opens_at_s(now_s)
            if opens_s != head.wakes_at_s:
                head.wakes_at_s = opens_s
                head.wake()

    def _settle_abandoned(self) -> None:
        """Called after each release of the lock, so that a flight left behind meanwhile is never overlooked."""
        while self._abandoned and self._lock.acquire(blocking=False):
            try:
                while self._abandoned:
                    self._rule.end(self._monotonic(), self._abandoned.popleft())
                self._serve()
            finally:
                self._lock.release()


def _flight_of(permit: Permit | None) -> Flight | None:
    return None if permit is None else permit.flight
