"""The rule of a pod that shares a throttle with the fleet: keeps to the share that the leader plans for it.

A slot that was refused is given up until the leader has heard of it, so that the fleet comes down by exactly what the
downstream refuses, without waiting for a plan; the plan that knows of the refusals makes the lower limit the limit.
A pod without fresh word from a leader goes on by its own rule, starting from the share it had (Doorman's leases and
safe capacity: github.com/youtube/doorman, doc/design.md).
"""

from __future__ import annotations

import math
import random

from .changes import Reason
from .config import ThrottleConfig
from .fleet import LEASE_S, Plan, Report
from .rule import Flight, LimitRule


class SharedRule(LimitRule):
    """A LimitRule that adopts plans. `report()` and `adopt()` belong to the exchange, about every EXCHANGE_S seconds.

    Until the first plan it starts `min_limit` calls, since it does not know who else does. A share may be 0.
    """

    def __init__(self, config: ThrottleConfig, rng: random.Random | None = None) -> None:
        self._seq = self._fleet_epoch = self._reports = 0
        self._ok = self._refused = self._timed_out = 0
        super().__init__(config, rng)

    def _forget(self, now_s: float) -> None:
        super()._forget(now_s)
        self.limit = self.config.min_limit
        self._own_rule = self._has_shared = False
        self._lease_until_s: float | None = None  # None: nobody has called yet
        self._adopted_s = now_s
        self._given_up: list[int] = []  # for each slot the number of the report that tells of it
        self._full = False

    # -- the exchange -------------------------------------------------------------------------------------------------

    def report(self, now_s: float, waiting: int) -> Report:
        """What the leader has to know; `waiting` callers would start at once if they might."""
        self._reports += 1
        return Report(
            number=self._reports, seq=self._seq, epoch=self._fleet_epoch,
            age_s=now_s - self._adopted_s if math.isfinite(self._adopted_s) else 0.0,
            limit=self.limit, in_flight=self.in_flight, wanted=self.in_flight + waiting, full=self._full,
            slow=self.is_slow, rtt_s=self.gauge.rtt_s, ok=self._ok, refused=self._refused, timed_out=self._timed_out,
        )  # fmt: skip

    def adopt(self, now_s: float, plan: Plan, pod_id: str) -> None:
        """Go by a plan; one that is known already changes nothing, and renews nothing."""
        if plan.seq <= self._seq:
            return
        self._seq, self.fleet_limit = plan.seq, plan.limit
        self._lease_until_s = now_s + plan.lease_s
        if plan.limit is None:
            self._go_alone(now_s)
            return
        if plan.epoch != self._fleet_epoch or self._own_rule:
            self._fleet_epoch, self._own_rule = plan.epoch, False
            self._new_epoch(now_s)
            self._adopted_s, self._full = now_s, False
        self._has_shared = True
        seen = plan.seen.get(pod_id, 0)
        self._given_up = [number for number in self._given_up if number > seen]
        before, share = self.limit, plan.shares.get(pod_id, 0)
        self.limit = max(0, share - len(self._given_up))
        self._full = self._full or self.in_flight >= self.limit
        self._log(now_s, before, Reason.FLEET_SHARE)

    def _go_alone(self, now_s: float) -> None:
        if self._own_rule:
            return
        before, alone = self.limit, self.fleet_limit is None and self._seq > 0
        self._own_rule = True
        self._given_up.clear()
        self.limit = max(self.config.min_limit, before)
        self._new_epoch(now_s)
        if not self._has_shared:
            self.limit = self.config.initial_limit if alone else self.limit
            self._starting = self.config.slow_start
        elif self.config.ceiling_memory:
            self.ceiling = self.limit
            self._probe_later(now_s)
        self._log(now_s, before, Reason.OWN_RULE)

    # -- slots --------------------------------------------------------------------------------------------------------

    def slots(self, now_s: float) -> int:
        if not self._own_rule and self._lease_until_s is not None and now_s >= self._lease_until_s:
            self._go_alone(now_s)
        return super().slots(now_s)

    def opens_at_s(self, now_s: float) -> float | None:
        opens_s = super().opens_at_s(now_s)
        if self._own_rule or self._lease_until_s is None:
            return opens_s
        return self._lease_until_s if opens_s is None else min(opens_s, self._lease_until_s)

    def start(self, now_s: float) -> Flight:
        flight = super().start(now_s)
        if self._lease_until_s is None:
            self._lease_until_s = now_s + LEASE_S
        if self.in_flight >= self.limit:
            self._full = True
        return flight

    # -- outcomes -----------------------------------------------------------------------------------------------------

    def success(self, now_s: float, flight: Flight | None = None, latency_s: float | None = None) -> None:
        if self._own_rule:
            super().success(now_s, flight, latency_s)
            return
        self._measure(now_s, flight, latency_s)
        self._ok += 1

    def throttle(self, now_s: float, flight: Flight | None = None, retry_after_s: float | None = None) -> None:
        if self._own_rule:
            super().throttle(now_s, flight, retry_after_s)
            return
        self._note_refusal(now_s, retry_after_s)
        if self._give_up(now_s, flight):
            self._refused += 1
        elif flight is not None:
            flight.hold_s = self._hold_s()

    def timeout(self, now_s: float, flight: Flight | None = None) -> None:
        if self._own_rule:
            super().timeout(now_s, flight)
        elif flight is None or flight.epoch == self._epoch:
            # Whether it was one call's bad luck only the leader can tell, from the share of all that time out.
            self._timed_out += 1

    def _give_up(self, now_s: float, flight: Flight | None) -> bool:
        """Give one slot up, if there is a plan and the call started in its epoch."""
        if not self._seq or not (flight is None or flight.epoch == self._epoch):
            return False
        before = self.limit
        self.limit = max(0, before - 1)
        self._given_up.append(self._reports + 1)
        self._log(now_s, before, Reason.THROTTLE)
        return True
