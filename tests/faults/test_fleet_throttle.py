"""A throttle that three real pods share: the leader's plans reach them, hold, and outlive the leader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.downstream import Downstream
from tests.support.fleet import Fleet
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
PODS = ("pod-1", "pod-2", "pod-3")
CAPACITY = 6


@pytest.fixture
def downstream() -> Iterator[Downstream]:
    made = Downstream(CAPACITY, call_s=0.05)
    yield made
    made.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, FLEET_Q_THROTTLE_EXCHANGE="0.1", FLEET_Q_MAX_PARALLELISM="16")
    yield made
    made.close()


def published(fleet: Fleet, key: str) -> dict[str, Any]:
    """What the living pods publish under a key of their heartbeat, by pod."""
    now, store = fleet.queue.store.now(), fleet.queue.store
    return {pod.pod_id: pod.meta[key] for pod in store.list_pods() if pod.is_alive(now, 1.5) and key in pod.meta}


def plan(fleet: Fleet) -> dict[str, Any]:
    """The leader's plan, empty before there is one."""
    plans = [found["downstream"] for found in published(fleet, "throttle_plans").values() if "downstream" in found]
    return max(plans, key=lambda found: found["seq"], default={})


def in_plan(fleet: Fleet, pods: tuple[str, ...]) -> bool:
    """Whether all these pods go by shares of one limit."""
    found = plan(fleet)
    reports = published(fleet, "throttle_reports")
    return bool(found) and found["limit"] is not None and set(found["shares"]) == set(pods) == set(reports)


def test_pods_share_one_limit_and_a_refused_step_uses_no_retry(fleet: Fleet, downstream: Downstream) -> None:
    for name in PODS:
        fleet.start(name)
    ids = fleet.queue.submit_steps([{"task_type": "call_downstream", "url": downstream.url} for _ in range(500)])
    eventually(lambda: in_plan(fleet, PODS))
    seen: list[dict[str, Any]] = []

    def watched() -> bool:
        found = plan(fleet)
        if found and (not seen or found["seq"] > seen[-1]["seq"]):
            seen.append(found)
        return fleet.drained()

    eventually(watched, timeout_s=90)
    records = fleet.queue.store.get_steps(ids)
    assert {record.status.value for record in records} == {"completed"}
    assert {record.retry_count for record in records} == {0}
    shared = [found for found in seen if found["limit"] is not None]
    assert all(sum(found["shares"].values()) <= found["limit"] for found in shared)
    # The fleet has found the capacity, and each pod has done a part of the work.
    assert downstream.most == CAPACITY
    assert downstream.refused < 0.25 * downstream.answered
    assert {record.claimed_by for record in records} == set(PODS)


def test_the_next_leader_goes_on_with_the_plan(fleet: Fleet, downstream: Downstream) -> None:
    pods = {name: fleet.start(name) for name in PODS}
    fleet.queue.submit_steps([{"task_type": "call_downstream", "url": downstream.url} for _ in range(900)])
    eventually(lambda: in_plan(fleet, PODS))
    before = plan(fleet)["seq"]
    pods["pod-1"].kill()
    pods["pod-1"].wait(10)
    eventually(lambda: in_plan(fleet, PODS[1:]) and plan(fleet)["seq"] > before)
    eventually(fleet.drained, timeout_s=90)
    assert fleet.queue.stats().completed == 900
