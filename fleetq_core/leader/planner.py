"""The leader's plans for the throttles that the fleet shares, made from what the pods report with their heartbeats."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from fleetq_core.clock import Clock
from fleetq_core.throttle import ThrottleConfig, ThrottleConfigError
from fleetq_core.throttle.fleet import EXCHANGE_S, Plan, Report
from fleetq_core.throttle.fleet_rule import FleetRule

log = logging.getLogger(__name__)

# What the rule of the fleet needs of a throttle's settings: a leader need not have the throttle itself.
CONFIG_FIELDS = ("initial_limit", "min_limit", "max_limit", "timeout_decrease")


class Planner:
    """One for each pod; it plans only while its pod leads, and a new leader goes on from what the pods go by."""

    def __init__(self, clock: Clock, exchange_s: float = EXCHANGE_S) -> None:
        self._clock, self._exchange_s = clock, exchange_s
        self._rules: dict[str, FleetRule] = {}
        self._lock = threading.Lock()

    def plans(self, reported: Mapping[str, Any]) -> dict[str, Plan]:
        """The next plan of each throttle that is reported: pod_id → throttle → {"report", "config"}."""
        reports: dict[str, dict[str, Report]] = {}
        with self._lock:
            for pod_id, throttles in reported.items():
                for name, entry in throttles.items() if isinstance(throttles, dict) else ():
                    report = Report.from_json(entry.get("report")) if isinstance(entry, dict) else None
                    if report is not None and self._has_rule(name, entry.get("config")):
                        reports.setdefault(name, {})[pod_id] = report
            now_s = self._clock.monotonic()
            return {name: self._rules[name].plan(now_s, by_pod) for name, by_pod in reports.items()}

    def reset(self, name: str) -> None:
        """Forget what was learnt of a throttle: the next plan starts from its initial limit."""
        with self._lock:
            if name in self._rules:
                self._rules[name].reset()

    def forget(self) -> None:
        """This pod does not lead any more."""
        with self._lock:
            self._rules.clear()

    def _has_rule(self, name: str, config: object) -> bool:
        if name in self._rules:
            return True
        given = config if isinstance(config, dict) else {}
        try:
            settings = ThrottleConfig(**{field: given[field] for field in CONFIG_FIELDS if field in given})
        except (ThrottleConfigError, TypeError) as exc:
            log.warning("throttle %s: a pod reports settings that are nonsense: %s", name, exc)
            return False
        self._rules[name] = FleetRule(settings, exchange_s=self._exchange_s)
        return True
