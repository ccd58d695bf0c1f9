"""Pods inside the test's own process, with short intervals and handlers that wait for events instead of sleeping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fleetq_core import Pod, Queue
from fleetq_core.config import Config
from fleetq_core.connect import connect
from fleetq_core.tasks import TaskRegistry
from tests.support.waiting import eventually

FAST = {
    "heartbeat_interval": 0.1, "claim_interval": 0.1, "recovery_interval": 0.2, "dead_pod_threshold": 2.0,
    "retry_base_delay": 0.05, "sample_interval": 0.2, "stop_grace": 5.0,
}  # fmt: skip


@pytest.fixture
def fast_config(make_config: Callable[..., Config]) -> Callable[..., Config]:
    return lambda **override: make_config(**(FAST | override))


@pytest.fixture
def start_pod(fast_config: Callable[..., Config], tasks: TaskRegistry) -> Iterator[Callable[..., Pod]]:
    """Start a pod (settings as keywords); all are stopped at the end."""
    pods: list[Pod] = []
    queues: list[Queue] = []

    def start(store_opener: Any = None, **settings: Any) -> Pod:
        config = fast_config(**settings)
        queues.append(connect(config))
        pod = Pod(queues[-1], config, tasks=tasks, store_opener=store_opener)
        pods.append(pod)
        pod.start()
        return pod

    yield start
    for pod in pods:
        pod.stop(0.2)
    for queue in queues:
        queue.close()


@pytest.fixture
def live_queue(fast_config: Callable[..., Config]) -> Iterator[Queue]:
    queue = connect(fast_config(pod_id="observer"))
    yield queue
    queue.close()


def drained(queue: Queue, timeout_s: float = 20.0) -> None:
    def check() -> bool:
        stats = queue.stats()
        return stats.pending == stats.claimed == 0 and stats.failed == stats.dead_letters

    eventually(check, timeout_s)
