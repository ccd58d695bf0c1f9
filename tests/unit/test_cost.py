"""What the fleet's own figures add up to."""

from __future__ import annotations

from typing import Any

import pytest

from fleetq_core.config import Config
from fleetq_core.cost import fleet_cost, idle_credits_a_day
from fleetq_core.model import PodRecord


def pod(name: str, store: Any = None, **meta: Any) -> PodRecord:
    return PodRecord(name, name, "up", 0.0, 0.0, True, {"store": store, **meta})


def told(seconds: float, statements: int, awake_s: float, **kinds: Any) -> dict[str, Any]:
    return {"kinds": kinds, "hour": {"seconds": seconds, "statements": statements, "awake_s": awake_s}}


def test_the_fleet_is_the_sum_of_its_pods() -> None:
    cost = fleet_cost([
        pod("a", told(3600, 100, 900, claim=[10, 1, 20, 500, 2, 1.5], beat=[5, 0, 10, 5, 0, 1.0]), completed=450),
        pod("b", told(1800, 100, 900, claim=[10, 0, 20, 500, 0, 0.5], settle=[5, 0, 5, 500, 0, 1.0]), failed=50),
    ])  # fmt: skip
    assert [(kind.kind, kind.calls, kind.errors, kind.statements) for kind in cost.kinds] == [
        ("beat", 5, 0, 10), ("claim", 20, 1, 40), ("settle", 5, 0, 5),
    ]  # fmt: skip
    claim = cost.kinds[1]
    assert (claim.rows, claim.retries, claim.seconds) == (1000, 2, 2.0)
    assert [(one.pod_id, one.statements_an_hour, one.awake_share) for one in cost.pods] == [
        ("b", 200.0, 0.5), ("a", 100.0, 0.25),
    ]  # fmt: skip
    assert (cost.statements_an_hour, cost.awake_at_least, cost.awake_at_most) == (300.0, 0.5, 0.75)
    assert cost.per_thousand == pytest.approx(90.0)
    assert cost.credits_a_day(2.0) == (24.0, 36.0)


def test_a_warehouse_is_never_awake_for_more_than_all_of_the_time() -> None:
    cost = fleet_cost([pod(name, told(60, 1, 90)) for name in "ab"])
    assert (cost.awake_at_least, cost.awake_at_most) == (1.0, 1.0)


@pytest.mark.parametrize(
    "nonsense",
    [None, 3, [], {"kinds": 3, "hour": "x"}, {"kinds": {"claim": [1, 2]}}, told(-5, -3, float("nan"), claim="x"),
     told(0, 0, 0, claim=[True, "1", None, -1, 1e300, float("nan")])],
)  # fmt: skip
def test_what_a_pod_makes_up_is_left_out(nonsense: Any) -> None:
    cost = fleet_cost([pod("a", nonsense)])
    assert (cost.statements_an_hour, cost.awake_at_most, cost.per_thousand) == (0.0, 0.0, None)
    assert all(kind.calls == kind.statements == 0 for kind in cost.kinds)


def test_without_pods_there_is_no_cost() -> None:
    cost = fleet_cost([])
    assert (cost.kinds, cost.pods, cost.awake_at_most) == ((), (), 0.0)


@pytest.mark.parametrize(
    ("settings", "pods", "daily"),
    [
        ({}, 1, 24.0),  # a heartbeat every 10 s
        ({"rest_after": 600}, 5, 0.0),
        ({"heartbeat_interval": 300, "recovery_interval": 300, "sample_interval": 300}, 1, 4.8),
        ({"heartbeat_interval": 300, "recovery_interval": 300, "sample_interval": 300}, 3, 14.4),
        ({"heartbeat_interval": 300, "recovery_interval": 300}, 1, 24.0),  # the samples keep it awake
        ({"heartbeat_interval": 300, "recovery_interval": 300, "sample_interval": 300, "warehouse_credits": 2}, 1, 9.6),
        ({"heartbeat_interval": 600, "recovery_interval": 600, "sample_interval": 600, "warehouse_auto_suspend": 300},
         1, 12.0),
    ],
)  # fmt: skip
def test_what_idling_costs_follows_from_the_settings(settings: dict[str, Any], pods: int, daily: float) -> None:
    assert idle_credits_a_day(Config(**settings), pods) == pytest.approx(daily)
