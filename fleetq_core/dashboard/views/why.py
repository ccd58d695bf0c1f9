"""Why a step is not running, from the same conditions that the claim and the recovery go by."""

from __future__ import annotations

from typing import Any

from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.model import PodRecord, Status, StepRecord, living

from .pods import published_runs
from .words import clock, duration, number, plural


def why_not(step: StepRecord, snap: Snapshot) -> list[str]:
    """Sentences, the most telling first; empty for a step that is done, or that runs as it should."""
    alive = living(snap.pods, snap.now_ts, snap.threshold_s)
    match step.status:
        case Status.PENDING:
            return _pending(step, snap, alive)
        case Status.CLAIMED:
            return _claimed(step, snap)
        case Status.FAILED if step.retry_ts is not None and step.retry_ts <= snap.now_ts and snap.leader is None:
            return ["Its retry is due, but no living pod leads: start a pod, and it will be retried."]
        case _:
            return []


def _pending(step: StepRecord, snap: Snapshot, alive: list[PodRecord]) -> list[str]:
    found = []
    if step.due_ts is not None and step.due_ts > snap.now_ts:
        times = plural(step.deferrals, "time")
        found.append(
            f"Its handler has handed it back ({times} so far); nobody claims it before {clock(step.due_ts)} UTC, "
            f"in {duration(step.due_ts - snap.now_ts)}."
        )
    if not alive:
        rests = sum(pod.rests for pod in snap.pods)
        return [*found, f"{plural(rests, 'pod')}, resting, will look for work soon and take it."
                if rests else "No pod is alive: start one."]  # fmt: skip
    working = [pod for pod in alive if pod.meta.get("state") == "running"]
    if not working:
        states = ", ".join(sorted({str(pod.meta.get("state", "unknown")) for pod in alive}))
        return [*found, f"No living pod takes on work; they are {states}."]
    if not any(step.task_type in _tasks(pod) for pod in working):
        found.append("No living pod has a handler for this task type: whoever claims it fails it.")
    throttled = [pod for pod in working if _is_held_back(pod, step.task_type)]
    blocked = [pod for pod in working if pod in throttled or _is_full(pod) or number(pod.meta.get("outbox"))]
    if found or len(blocked) < len(working):
        return found
    return _blocked(working, throttled, snap)


def _blocked(working: list[PodRecord], throttled: list[PodRecord], snap: Snapshot) -> list[str]:
    """No pod can take it now: why each of them cannot."""
    found = []
    if throttled:
        found.append(f"The throttle of this task has no slot left on {plural(len(throttled), 'pod')}.")
    outbox = [pod for pod in working if number(pod.meta.get("outbox"))]
    if outbox:
        found.append(f"{plural(len(outbox), 'pod')} first must write results that wait in the outbox.")
    full = [pod for pod in working if _is_full(pod) and pod not in throttled and pod not in outbox]
    if full:
        found.append(f"All slots of {plural(len(full), 'pod')} are busy.")
    ahead = max(0, snap.stats.pending - 1)
    if ahead:
        found.append(f"{plural(ahead, 'other step')} wait too: higher priority first, then the older ones.")
    return found


def _claimed(step: StepRecord, snap: Snapshot) -> list[str]:
    pod = next((pod for pod in snap.pods if pod.pod_id == step.claimed_by), None)
    if pod is None or pod.incarnation != step.incarnation:
        return ["The process that claimed it is gone; the leader gives it back with its next recovery cycle."]
    silent_s = snap.now_ts - pod.last_heartbeat_ts
    if not pod.is_alive(snap.now_ts, snap.threshold_s):
        return [f"Its pod is dead, silent for {duration(silent_s)}; the leader gives it back with its next cycle."]
    if pod.is_late(snap.now_ts):
        left = duration(snap.threshold_s - silent_s)
        return [f"Its pod has been silent for {duration(silent_s)}; in {left} it counts as dead, and loses the step."]
    return _waits_in(pod, step)


def _waits_in(pod: PodRecord, step: StepRecord) -> list[str]:
    """Claimed and not started, where the pod's last heartbeat says so: it may name only some of what it runs."""
    named = {str(run.get("step_id")) for run in published_runs(pod)}
    running, capacity = number(pod.meta.get("running_count")), number(pod.meta.get("capacity"))
    if step.step_id in named or len(named) < running or (step.claimed_ts or 0.0) >= pod.last_heartbeat_ts:
        return []
    buffered = plural(number(pod.meta.get("buffered")), "step")
    return [
        f"Its pod holds it and had not started it by its last heartbeat: {running:,} of {capacity:,} slots were busy, "
        f"and {buffered} waited there for one."
    ]


def _tasks(pod: PodRecord) -> list[Any]:
    tasks = pod.meta.get("tasks")
    return tasks if isinstance(tasks, list) else []


def _is_full(pod: PodRecord) -> bool:
    return number(pod.meta.get("running_count")) >= max(1, number(pod.meta.get("capacity")))


def _is_held_back(pod: PodRecord, task_type: str) -> bool:
    """Whether the throttle that the task names lets no further call start on this pod."""
    named, throttles = pod.meta.get("task_throttles"), pod.meta.get("throttles")
    if not isinstance(named, dict) or not isinstance(throttles, dict):
        return False
    figures = throttles.get(named.get(task_type))
    return isinstance(figures, dict) and figures.get("available_capacity") == 0
