"""The figures of a throttle as the specification's GET /admin/throttle shows them."""

from __future__ import annotations

from dataclasses import dataclass

from .rule import LimitRule


@dataclass(slots=True)
class Totals:
    """Counts since the throttle was made or reset."""

    requests: int = 0
    successes: int = 0
    throttles: int = 0
    timeouts: int = 0


def figures(rule: LimitRule, totals: Totals, now_s: float) -> dict[str, int | float | None]:
    """Exactly the specification's fields; `available_capacity` is how many calls could start at this moment."""
    return {
        "max_inflight": rule.limit,
        "current_inflight": rule.in_flight,
        "available_capacity": rule.open_slots(now_s),
        "total_requests": totals.requests,
        "total_successes": totals.successes,
        "total_throttles": totals.throttles,
        "throttle_rate": totals.throttles / totals.requests if totals.requests else 0.0,
        "current_p95_latency": rule.gauge.current_p95_s,
        "baseline_latency": rule.gauge.baseline_s,
    }
