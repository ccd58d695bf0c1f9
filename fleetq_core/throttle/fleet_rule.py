"""The leader's half of a throttle of the fleet: one limit for all pods, and a share of it for each.

It never guesses: the limit rises while the fleet fills it without a refusal, one by one up to what was refused last and
by steps that grow beyond it, and falls by exactly the calls that were refused (each pod gives a refused slot up by
itself). Shares are whole numbers, max-min fair by what the pods want; what does not divide goes round. A slot that
moves is given to the next pod only when the one that had it is known to have let go, so that the shares never add up to
more than the limit.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .config import ThrottleConfig
from .fleet import EXCHANGE_S, LEASE_S, Plan, Report

# Chosen with seeds 1 to 5 of the simulation, 4 and 16 clients, every kind of downstream. Times are for an exchange
# every EXCHANGE_S seconds and go with it.
STEP_GROWTH = 3
MOST_GROWTH = 0.5
PROVEN_AT = 0.8
PROBE_EVERY_S = 7.0
TOLERATED_TIMEOUTS = 0.02  # of all calls: an odd slow one says nothing about the downstream
# Slot-seconds that a pod must have come short of, more than another, before a slot moves; while the limit is being
# tried slots stay where they are, because a slot that moves is idle for as long as two exchanges.
ROTATE_AFTER, ROTATE_PROBING = 30.0, 150.0
MOST_CREDIT = 60.0
TRIED_FOR_S = 60.0


@dataclass(slots=True)
class _Member:
    """What the leader remembers of a pod: plans it may still go by, as (seq, share), and how short it has come."""

    issued: list[tuple[int, int]] = field(default_factory=list)
    credit: float = 0.0
    number: int = 0
    heard_s: float = 0.0
    last: Report | None = None

    @property
    def share(self) -> int:
        return self.issued[-1][1] if self.issued else 0


class FleetRule:
    """One for each throttle of the fleet, in the pod that leads. Pure: `plan()` takes the time and the reports."""

    def __init__(
        self, config: ThrottleConfig, rng: random.Random | None = None, exchange_s: float = EXCHANGE_S
    ) -> None:
        self.config = config
        self.lease_s = LEASE_S * max(1.0, exchange_s / EXCHANGE_S)
        self._pace = exchange_s / EXCHANGE_S
        self.limit: int | None = None
        self.reason = ""
        self._rng = rng or random.Random()
        self._seq = self._epoch = 0
        self._step = 1
        self._ok = self._timed_out = 0
        self._probe_at_s = 0.0
        self._tried_until_s = 0.0
        self._ceiling = 0
        self._members: dict[str, _Member] = {}
        self._planned_s: float | None = None

    def plan(self, now_s: float, reports: Mapping[str, Report]) -> Plan:
        """The next plan from the last report of every living pod."""
        self._hear(now_s, reports)
        if self.limit is None:
            self._begin(now_s, reports)
        self._seq += 1
        seen = {pod_id: report.number for pod_id, report in reports.items()}
        if len(reports) < 2:
            self._adopt_single(reports)
            return Plan(self._seq, self._epoch, None, {}, seen, "one pod", self.lease_s)
        self._judge(now_s, reports)
        shares = self._shares(now_s, reports)
        return Plan(self._seq, self._epoch, self.limit, shares, seen, self.reason, self.lease_s)

    def reset(self) -> None:
        """Back to the initial limit with the next plan."""
        self._set(self.config.initial_limit, "reset")
        self._step, self._probe_at_s = self.config.initial_limit, float("-inf")

    # -- who is there -------------------------------------------------------------------------------------------------

    def _hear(self, now_s: float, reports: Mapping[str, Report]) -> None:
        self._members = {pod_id: self._members.get(pod_id) or _Member() for pod_id in reports}
        for pod_id, report in reports.items():
            member = self._members[pod_id]
            if report.number != member.number:
                member.number, member.heard_s = report.number, now_s
            # The plan it goes by stays on the list, and what may have reached it since.
            member.issued = [entry for entry in member.issued if entry[0] >= report.seq]

    def _begin(self, now_s: float, reports: Mapping[str, Report]) -> None:
        """A new leader goes on from what the pods go by; without that, from the initial limit."""
        known = max((report.seq for report in reports.values()), default=0)
        # The last leader may have published one more that nobody has reported yet.
        self._seq = known + 1
        self._epoch = 1 + max((report.epoch for report in reports.values()), default=0)
        if known:
            self._set(max(self.config.min_limit, sum(r.limit for r in reports.values())), "new leader")
            for pod_id, report in reports.items():
                self._members[pod_id].issued = [(report.seq, report.limit)]
        else:
            self._set(self.config.initial_limit, "start")
            self._step, self._probe_at_s = self.config.initial_limit, now_s

    def _adopt_single(self, reports: Mapping[str, Report]) -> None:
        for pod_id, report in reports.items():
            self.limit = max(self.config.min_limit, report.limit) if report.seq else self.config.initial_limit
            self._members[pod_id].issued = [(self._seq, report.limit)]

    def _active(self, now_s: float, reports: Mapping[str, Report]) -> list[Report]:
        return [
            report for pod_id, report in reports.items()
            if report.wanted and now_s < self._members[pod_id].heard_s + self.lease_s
        ]  # fmt: skip

    # -- the limit ----------------------------------------------------------------------------------------------------

    def _judge(self, now_s: float, reports: Mapping[str, Report]) -> None:
        limit = self.limit or self.config.min_limit
        refused = self._count(reports)
        if refused:
            self._lower(now_s, limit - refused, "throttle")
        elif self._timed_out > TOLERATED_TIMEOUTS * (self._ok + self._timed_out):
            self._lower(now_s, int(limit * self.config.timeout_decrease + 1e-9), "timeout")
        elif self._is_proven(now_s, self._active(now_s, reports)):
            self._set(min(self.config.max_limit, limit + self._step), "probe")
            self._tried_until_s = now_s + self._pace * TRIED_FOR_S
            if limit >= self._ceiling:
                # Beyond what was refused last: nothing is known there, so the steps grow.
                self._step = max(1, min(self._step * STEP_GROWTH, int((self.limit or 0) * MOST_GROWTH)))

    def _count(self, reports: Mapping[str, Report]) -> int:
        """Slots that were refused since the last plan, each once; answers and timeouts are summed for the epoch."""
        refused = 0
        for pod_id, report in reports.items():
            last, self._members[pod_id].last = self._members[pod_id].last, report
            # A pod that is new here, or has started anew, is counted from now on.
            if last is not None and last.number <= report.number:
                refused += report.refused - last.refused
                self._ok += report.ok - last.ok
                self._timed_out += report.timed_out - last.timed_out
        return refused

    def _lower(self, now_s: float, limit: int, reason: str) -> None:
        self._ceiling = self.limit or 0
        self._set(max(self.config.min_limit, limit), reason)
        self._step = 1
        self._tried_until_s = now_s
        self._probe_at_s = now_s + self._pace * PROBE_EVERY_S * self._rng.uniform(0.75, 1.25)

    def _is_proven(self, now_s: float, active: Sequence[Report]) -> bool:
        """Whether all who use it have gone by this limit for a round trip and have filled it, and the time has come."""
        limit = self.limit or 0
        if not active or limit >= self.config.max_limit or now_s < self._probe_at_s:
            return False
        if any(report.epoch != self._epoch or report.age_s < report.rtt_s for report in active):
            return False
        if 2 * sum(report.slow for report in active) > len(active):
            return False
        under_way = sum(report.in_flight for report in active)
        return under_way >= limit * PROVEN_AT and all(report.full for report in active if report.limit)

    def _set(self, limit: int, reason: str) -> None:
        self.limit, self.reason = limit, reason
        self._epoch += 1
        self._ok = self._timed_out = 0

    # -- the shares ---------------------------------------------------------------------------------------------------

    def _shares(self, now_s: float, reports: Mapping[str, Report]) -> dict[str, int]:
        limit = self.limit or 0
        fair = _max_min(limit, {pod_id: report.wanted + 1 for pod_id, report in reports.items()})
        self._credit(now_s, fair)
        goal = self._goal(now_s, limit, fair)
        members = self._members
        # What a pod may be using: the plan it goes by or any that may have reached it since, and what is under way.
        holds = {
            pod_id: max(reports[pod_id].in_flight, *(share for _, share in member.issued), 0)
            for pod_id, member in members.items()
        }
        shares = {pod_id: min(goal[pod_id], holds[pod_id]) for pod_id in members}
        spare = limit - sum(holds.values())
        for pod_id in sorted(shares, key=lambda name: (-members[name].credit, name)):
            more = max(0, min(goal[pod_id] - shares[pod_id], spare))
            shares[pod_id] += more
            spare -= more
        for pod_id, share in shares.items():
            members[pod_id].issued.append((self._seq, share))
        return shares

    def _credit(self, now_s: float, fair: Mapping[str, float]) -> None:
        """Slot-seconds by which each pod has had less than its fair share, or more."""
        passed_s = 0.0 if self._planned_s is None else now_s - self._planned_s
        self._planned_s = now_s
        most = self._pace * MOST_CREDIT
        for pod_id, member in self._members.items():
            due = member.credit + (fair[pod_id] - member.share) * passed_s
            member.credit = max(-most, min(most, due))

    def _goal(self, now_s: float, limit: int, fair: Mapping[str, float]) -> dict[str, int]:
        """Whole shares: those that have come short take what does not divide; those that have it keep it a while."""
        goal = {pod_id: int(share + 1e-9) for pod_id, share in fair.items()}
        left = min(limit, round(sum(fair.values()))) - sum(goal.values())
        keep = self._pace * (ROTATE_PROBING if now_s < self._tried_until_s else ROTATE_AFTER)

        def claim(pod_id: str) -> float:
            member = self._members[pod_id]
            return member.credit + (keep if member.share > goal[pod_id] else 0.0)

        able = [pod_id for pod_id in goal if fair[pod_id] > goal[pod_id] + 1e-9]
        for pod_id in sorted(able, key=lambda name: (-claim(name), name))[:left]:
            goal[pod_id] += 1
        return goal


def _max_min(limit: int, wanted: Mapping[str, int]) -> dict[str, float]:
    """Max-min fair shares: nobody gets more than wanted, and what that leaves is shared by the others."""
    shares: dict[str, float] = {}
    left, waiting = float(limit), len(wanted)
    for pod_id in sorted(wanted, key=lambda name: (wanted[name], name)):
        shares[pod_id] = min(float(wanted[pod_id]), left / waiting)
        left -= shares[pod_id]
        waiting -= 1
    return shares
