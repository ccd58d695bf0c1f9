"""Between the rows of a store, of either kind, and the values of the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fleetq_core.failures import split
from fleetq_core.model import (
    Command,
    CommandAnswer,
    Decision,
    DecisionRecord,
    Identity,
    Outcome,
    PodRecord,
    PodSample,
    QueueStats,
    RecoveryRun,
    Sample,
    Status,
    StepRecord,
    Verdict,
)


def steps(found: Iterable[Sequence[Any]]) -> list[StepRecord]:
    """Rows of step_tracker, with the columns in the order of the schema."""
    return [_step(row) for row in found]


def _step(row: Sequence[Any]) -> StepRecord:
    (
        step_id, task_type, payload, priority, status, retry_count, max_retries, claimed_by, incarnation, token,
        created_ts, claimed_ts, finished_ts, last_update_ts, retry_ts, run_s, result, error, history, run,
        due_ts, deferrals,
    ) = row  # fmt: skip
    return StepRecord(
        step_id=step_id,
        task_type=task_type,
        payload=_lenient(payload),
        priority=priority,
        status=Status(status),
        retry_count=retry_count,
        max_retries=max_retries,
        claimed_by=claimed_by,
        incarnation=incarnation,
        claim_token=token,
        created_ts=created_ts,
        claimed_ts=claimed_ts,
        finished_ts=finished_ts,
        last_update_ts=last_update_ts,
        retry_ts=retry_ts,
        run_s=run_s,
        result=_lenient(result),
        error=error,
        history=_lenient(history) or [],
        recovery_run_id=run,
        due_ts=due_ts,
        deferrals=deferrals,
    )


# Where a step may stand after an outcome of its claim was written: a failure may have been retried since, and the step
# keeps the token of that claim.
_AFTER = {Status.COMPLETED: ("completed",), Status.FAILED: ("failed", "retried"), Status.PENDING: ("deferred",)}


def standing(outcomes: Iterable[Outcome], found: Iterable[tuple[str, str, str]]) -> set[tuple[str, str]]:
    """The (step_id, claim_token) pairs whose outcome is in the store, by the rows of `settled_already`."""
    known = {(step_id, token): status for step_id, token, status in found}
    claims = ((o, (o.step_id, o.claim_token)) for o in outcomes)
    return {claim for o, claim in claims if known.get(claim) in _AFTER.get(o.status, ())}


def _lenient(text: str | None) -> Any:
    """A row that somebody damaged by hand must still be shown."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


def mapping(text: object) -> dict[str, Any]:
    """A JSON object that a pod has published; empty for anything else."""
    value = _lenient(text) if isinstance(text, str) else None
    return value if isinstance(value, dict) else {}


# Lists and objects that a pod publishes. One of another version may say anything there, and what reads them loops.
_CONTAINERS: Mapping[str, type] = {
    "running": list, "tasks": list, "last_errors": list, "throttles": dict, "task_throttles": dict, "store": dict,
    "recovered": dict,
}  # fmt: skip


def _sensible(meta: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that hold something else than a list or an object where there should be one."""
    return {key: value for key, value in meta.items() if isinstance(value, _CONTAINERS.get(key, object))}


def published(meta: Mapping[str, Any]) -> str:
    """What a pod publishes, as JSON text. A figure that is NaN or infinite is null: SQLite reads no such JSON."""
    try:
        return json.dumps(dict(meta), allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(dict(meta)), parse_constant=lambda _: None))


def identity(who: Identity) -> dict[str, Any]:
    """Bind values that name a pod."""
    return {"pod_id": who.pod_id, "incarnation": who.incarnation, "may_lead": int(who.may_lead)}


def pod(row: Sequence[Any]) -> PodRecord:
    """A row of `list_pods`."""
    pod_id, incarnation, status, birth_ts, last_heartbeat_ts, may_lead, meta = row
    return PodRecord(
        pod_id, incarnation, status, birth_ts, last_heartbeat_ts, bool(may_lead), _sensible(json.loads(meta))
    )


def lenient_pod(row: Sequence[Any]) -> PodRecord:
    """A row of `list_pods` whose meta may be damaged."""
    pod_id, incarnation, status, birth_ts, last_heartbeat_ts, may_lead, meta = row
    return PodRecord(pod_id, incarnation, status, birth_ts, last_heartbeat_ts, bool(may_lead), _sensible(mapping(meta)))


def command(row: Sequence[Any]) -> Command:
    """A row of command_log."""
    command_id, kind, target, args, issued_by, issued_ts = row
    return Command(command_id, kind, target, json.loads(args), issued_by, issued_ts)


def answers(command_id: str, found: Iterable[Sequence[Any]]) -> tuple[CommandAnswer, ...]:
    """The answers to one command."""
    return tuple(CommandAnswer(row[1], row[2], bool(row[3]), row[4]) for row in found if row[0] == command_id)


def recovery_run(row: Sequence[Any]) -> RecoveryRun:
    """A row of recovery_run."""
    values = list(row)
    values[6] = tuple(json.loads(values[6]))
    values[11] = bool(values[11])
    values[12] = tuple(verdicts([values[12:13]]))
    return RecoveryRun(*values)


def recovery_run_bind(run: RecoveryRun) -> dict[str, Any]:
    """Bind values of a recovery run."""
    told = {"held_off": int(run.held_off), "dead_pods": json.dumps(run.dead_pods)}
    return as_bind(run) | verdicts_bind(run.verdicts) | told


def verdicts(found: Iterable[Sequence[str | None]]) -> list[Verdict]:
    """What recovery runs said of dead pods, by rows of `verdicts_of_run`; runs of older versions said nothing."""
    return [Verdict(*verdict) for (text,) in found for verdict in json.loads(text or "[]")]


def verdicts_bind(dead: Iterable[Verdict]) -> dict[str, str]:
    """Bind values that tell of dead pods: their names, and why."""
    told = [(v.pod_id, v.incarnation, round(v.silent_s, 3)) for v in dead]
    return {"dead_pods": json.dumps([pod_id for pod_id, *_ in told]), "verdicts": json.dumps(told)}


def decision_record(row: Sequence[Any]) -> DecisionRecord:
    """A row of `find_decisions`."""
    run_id, leader_pod_id, started_ts, *decision = row
    return DecisionRecord(run_id, leader_pod_id, started_ts, Decision(*decision))


def seen_pods(pods: Iterable[PodRecord], now_ts: float) -> str:
    """The pods of a sample as JSON text: [pod_id, incarnation, running, capacity, silent_s] each."""
    told = [
        (pod.pod_id, pod.incarnation, _count(pod.meta.get("running_count")), _count(pod.meta.get("capacity")),
         round(max(0.0, now_ts - pod.last_heartbeat_ts), 1))
        for pod in pods
    ]  # fmt: skip
    return json.dumps(told)


def pod_samples(row: Sequence[Any]) -> list[PodSample]:
    """A row of `list_pod_samples`: a sample's time, its leader and what `seen_pods` made of its pods."""
    sampled_ts, leader_pod_id, told = row
    return [
        PodSample(sampled_ts, pod_id, incarnation, running, capacity, silent_s, pod_id == leader_pod_id)
        for pod_id, incarnation, running, capacity, silent_s in json.loads(told)
    ]


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def as_bind(value: Any) -> dict[str, Any]:
    """A flat dataclass as bind values."""
    return asdict(value)


def sample(
    now_ts: float, since_ts: float, stats: QueueStats, deltas: Sequence[int], times: Sequence[tuple[float, float]]
) -> Sample:
    """Put one sample together from the counts and the (wait, run) seconds of steps that completed since the last."""
    submitted, completed, failed, pods_alive, running = deltas
    waits = sorted(max(0.0, wait) for wait, _ in times)
    runs = sorted(run for _, run in times)
    return Sample(
        sampled_ts=now_ts,
        interval_s=now_ts - since_ts,
        pending=stats.pending,
        claimed=stats.claimed,
        completed=stats.completed,
        failed=stats.failed,
        submitted_delta=submitted,
        completed_delta=completed,
        failed_delta=failed,
        oldest_pending_s=None if stats.oldest_pending_ts is None else max(0.0, now_ts - stats.oldest_pending_ts),
        pods_alive=pods_alive,
        running=running,
        leader_pod_id=None,
        wait_p50_s=_quantile(waits, 0.5),
        wait_p95_s=_quantile(waits, 0.95),
        wait_p99_s=_quantile(waits, 0.99),
        run_p50_s=_quantile(runs, 0.5),
        run_p95_s=_quantile(runs, 0.95),
        run_p99_s=_quantile(runs, 0.99),
    )


def decisions(run_id: str, moved: Iterable[Sequence[Any]]) -> list[Decision]:
    """What a run did to the steps it moved: (step_id, retry_count, error, history as text) each."""
    return [_decision(run_id, *row) for row in moved]


def _decision(run_id: str, step_id: str, retry_count: int, error: str | None, history: str | None) -> Decision:
    """What the run did to a step, by the step's own history: only orphans have an entry of the run in it."""
    entries = json.loads(history) if history else []
    lost = next((e for e in reversed(entries) if e.get("recovery_run_id") == run_id), None)
    owner = (lost or (entries[-1] if entries else {})).get("pod_id")
    reason = split(error or "")[0]  # the step keeps the traceback
    if lost is None:
        return Decision(step_id, "failed", "requeued", owner, retry_count, reason)
    action = "requeued" if retry_count >= lost["attempt"] else "terminal"
    return Decision(step_id, "orphan", action, owner, retry_count, reason)


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
