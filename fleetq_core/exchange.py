"""How the throttles of the fleet ride on the heartbeat: reports go out with it, plans come back, more often while used.

Only a pod that uses such a throttle at the moment beats more often for it, and the leader while others do. Everybody
else's heartbeat stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .leader.planner import CONFIG_FIELDS, Planner
from .model import Beat, Identity
from .store import Store
from .throttle import AdaptiveThrottle, all_throttles
from .throttle.fleet import Plan

IN_USE_S = 20.0  # a throttle counts as used for this long after its last call


class Exchange:
    """One for each pod. `prepare()` before a beat, `adopt()` after it, both on the heartbeat's thread."""

    def __init__(
        self, store: Store, who: Identity, planner: Planner, leads: Callable[[], bool], interval_s: float, dead_s: float
    ) -> None:
        self._store, self._who, self._planner, self._leads = store, who, planner, leads
        self._interval_s, self._dead_s = interval_s, dead_s
        self._others_use_it = False

    def prepare(self) -> dict[str, Any]:
        """What goes into the heartbeat's meta: nothing while no throttle of the fleet is used."""
        own = {name: self._entry(throttle) for name, throttle in self._used().items()}
        found: dict[str, Any] = {"throttle_reports": own} if own else {}
        if not self._leads():
            self._planner.forget()
        elif own or self._others_use_it:
            # Own word is fresher here than in the store.
            reported = self._store.throttle_reports(self._dead_s) | ({self._who.pod_id: own} if own else {})
            plans = self._planner.plans(reported)
            found["throttle_plans"] = {name: plan.to_json() for name, plan in plans.items()}
        return found

    def adopt(self, beat: Beat) -> None:
        """Go by the leader's plans."""
        self._others_use_it = beat.throttles_reported
        throttles = all_throttles()
        for name, published in beat.throttle_plans.items():
            plan = Plan.from_json(published)
            if plan is not None and name in throttles:
                throttles[name].adopt(plan, self._who.pod_id)

    @property
    def interval_s(self) -> float | None:
        """Seconds between the beats that the exchange wants; None while nobody uses a throttle of the fleet."""
        return self._interval_s if self._used() or self._others_use_it else None

    def _used(self) -> dict[str, AdaptiveThrottle]:
        return {
            name: throttle
            for name, throttle in all_throttles().items()
            if throttle.config.scope == "fleet" and throttle.idle_s() < IN_USE_S
        }

    def _entry(self, throttle: AdaptiveThrottle) -> dict[str, Any]:
        report, config = throttle.report(), asdict(throttle.config)
        return {
            "report": report.to_json() if report else None,
            "config": {name: config[name] for name in CONFIG_FIELDS},
        }
