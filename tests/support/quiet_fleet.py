"""A fleet on record without a running pod, for what a web process without a pod shows and may order."""

from __future__ import annotations

from fleetq_core.config import Config
from fleetq_core.connect import connect
from fleetq_core.model import Identity, Outcome, Status

FIGURES = {
    "max_inflight": 8, "current_inflight": 2, "waiting": 0, "total_requests": 1000, "total_throttles": 0,
    "total_timeouts": 0, "current_p95_latency": 0.2, "baseline_latency": 0.2, "slow": False, "shut_s": 0.0,
    "scope": "pod", "fleet_limit": None, "changes": [],
}  # fmt: skip


def put_on_record(config: Config, *, pod: bool = True) -> None:
    """One pending step and one dead letter, and with `pod` a living leader with a throttle and a task of its own."""
    queue = connect(config)
    client = Identity("client", "incarnation-of-client", may_lead=False)
    queue.store.register_pod(client, {})
    queue.submit_step({"task_type": "echo"}, step_id="dead-1")
    (row,) = queue.store.claim_steps(client, "token", 1, config.dead_pod_threshold)
    queue.settle([Outcome(row.step_id, row.claim_token, Status.FAILED, 0.1, error="no")])
    queue.store.mark_down(client)
    if pod:
        meta = {"state": "running", "tasks": ["echo", "their-task"], "throttles": {"api": FIGURES}, "running": []}
        queue.store.register_pod(Identity("pod-elsewhere", "incarnation-elsewhere"), meta)
    queue.submit_step({"task_type": "echo"}, step_id="open-1")
    queue.close()


def on_record(config: Config) -> tuple[object, ...]:
    """All that a person may change, to compare."""
    queue = connect(config)
    try:
        steps = sorted((step.step_id, step.status, step.retry_count) for step in queue.find_steps())
        pods = sorted((pod.pod_id, pod.status, pod.last_heartbeat_ts) for pod in queue.store.list_pods())
        return steps, pods, queue.store.list_commands(50), queue.store.list_recovery_runs(50)
    finally:
        queue.close()
