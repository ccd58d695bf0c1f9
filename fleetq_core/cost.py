"""What a fleet asks of its store and what that costs on Snowflake: added up from what its pods publish.

Snowflake bills the time that a warehouse is awake, not statements; from each start for a minute at least, and on until
it has been idle for AUTO_SUSPEND. How the statements of several pods lie in time is not known, so the warehouse time of
a fleet is told as a span: at least that of the busiest pod, at most that of all added up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .config import LEAST_BILLED_S, Config
from .model import JSON, PodRecord

HOUR_S, DAY_HOURS = 3600.0, 24.0
OF_STEPS = ("submit", "claim", "settle")  # the kinds of statement that work itself causes


@dataclass(frozen=True, slots=True)
class KindCost:
    """Calls of one kind since the pods' processes started; `seconds` is the time spent in all of them."""

    kind: str
    calls: int
    errors: int
    statements: int
    rows: int
    retries: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PodCost:
    """What one pod has asked in the last hour, scaled to an hour where the process is younger."""

    pod_id: str
    statements_an_hour: float
    awake_share: float  # of the time, 0 to 1, as if the pod used the warehouse alone


@dataclass(frozen=True, slots=True)
class FleetCost:
    """The fleet's figures. `per_thousand` are the statements of work for 1,000 finished attempts; None: no work."""

    kinds: tuple[KindCost, ...]
    pods: tuple[PodCost, ...]
    statements_an_hour: float
    awake_at_least: float
    awake_at_most: float
    per_thousand: float | None

    def credits_a_day(self, credits_an_hour: float) -> tuple[float, float]:
        """At least and at most, if every hour were like the last one."""
        day = DAY_HOURS * credits_an_hour
        return self.awake_at_least * day, self.awake_at_most * day


def fleet_cost(pods: Iterable[PodRecord]) -> FleetCost:
    """Add up what these pods publish; what makes no sense is left out."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * 6)
    by_pod, finished = [], 0.0
    for pod in pods:
        told = _mapping(pod.meta.get("store"))
        for kind, figures in _mapping(told.get("kinds")).items():
            numbers = [_number(figure) for figure in figures] if isinstance(figures, list) else []
            if len(numbers) == 6:
                sums[kind] = [a + b for a, b in zip(sums[kind], numbers, strict=True)]
        by_pod.append(_pod_cost(pod.pod_id, _mapping(told.get("hour"))))
        finished += _number(pod.meta.get("completed")) + _number(pod.meta.get("failed"))
    kinds = tuple(
        KindCost(kind, int(calls), int(errors), int(statements), int(rows), int(retries), seconds)
        for kind, (calls, errors, statements, rows, retries, seconds) in sorted(sums.items())
    )
    shares = [cost.awake_share for cost in by_pod]
    of_steps = sum(cost.statements for cost in kinds if cost.kind in OF_STEPS)
    return FleetCost(
        kinds=kinds,
        pods=tuple(sorted(by_pod, key=lambda cost: (-cost.statements_an_hour, cost.pod_id))),
        statements_an_hour=sum(cost.statements_an_hour for cost in by_pod),
        awake_at_least=max(shares, default=0.0),
        awake_at_most=min(1.0, sum(shares)),
        per_thousand=1000 * of_steps / finished if finished and of_steps else None,
    )


def _pod_cost(pod_id: str, hour: Mapping[str, JSON]) -> PodCost:
    seconds = max(1.0, _number(hour.get("seconds")))
    statements, awake_s = _number(hour.get("statements")), _number(hour.get("awake_s"))
    return PodCost(pod_id, statements * HOUR_S / seconds, min(1.0, awake_s / seconds))


def idle_credits_a_day(config: Config, pods: int = 1) -> float:
    """What an idle fleet of so many pods costs a day on standard tables, by its settings; arithmetic, not measured.

    A fleet that rests is answered from the result cache. In another each heartbeat, and each recovery cycle and sample
    of the leader, wakes the warehouse, or keeps it from sleeping. Beats of several pods are taken to be spread evenly.
    """
    if config.rest_after:
        return 0.0
    gap_s = min(config.heartbeat_interval / max(1, pods), config.recovery_interval, config.sample_interval)
    awake_s = max(LEAST_BILLED_S, config.warehouse_auto_suspend)
    return DAY_HOURS * config.warehouse_credits * min(1.0, awake_s / gap_s)


def _number(value: JSON) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e15 else 0.0


def _mapping(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, dict) else {}
