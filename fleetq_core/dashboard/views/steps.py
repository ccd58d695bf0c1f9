"""The Steps screen: a step in a list, and its whole story."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.failures import split
from fleetq_core.model import JSON, DecisionRecord, Status, StepRecord, format_ts

from .words import Fact, duration, shortened


@dataclass(frozen=True, slots=True)
class StepLine:
    """A step in a table."""

    step_id: str
    status: list[str]
    task: str
    priority: int
    retries: int
    pod: str | None
    created: str
    waited: str | None
    run_s: float | None
    payload: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a step, or something an operator did to it."""

    number: int | None
    outcome: str
    pod: str | None
    claimed: str | None
    ended: str | None
    run_s: float | None
    error: str | None
    recovery_run: str | None


def step_line(step: StepRecord, now_ts: float | None = None) -> StepLine:
    """A step as a table shows it."""
    until = step.claimed_ts if step.claimed_ts is not None else now_ts if step.status is Status.PENDING else None
    return StepLine(
        step_id=step.step_id,
        status=[step.status.value],
        task=step.task_type,
        priority=step.priority,
        retries=step.retry_count,
        pod=step.claimed_by,
        created=format_ts(step.created_ts) or "",
        waited=None if until is None else duration(until - step.created_ts),
        run_s=step.run_s,
        payload=shortened(step.payload),
        error=shortened(split(step.error)[0]) if step.error else None,
    )


def looked_sentence(looked_to: float, steps: int, *, found: bool, first: bool) -> str:
    """How far a page has looked that stopped before the oldest step; `steps` is how many it looked at."""
    none = "" if found else "No match among them. "
    which = "the newest" if first else "another"
    return f"{none}Looked through {which} {steps:,} steps, back to {format_ts(looked_to)} UTC."


def step_facts(step: StepRecord, now_ts: float, max_retries: int) -> list[Fact]:
    """The head of a step's story."""
    limit = max_retries if step.max_retries is None else step.max_retries
    facts = [
        Fact("Task type", step.task_type),
        Fact("Priority", str(step.priority)),
        Fact("Retries used", f"{step.retry_count} of {limit}"),
        Fact("Claimed by", step.claimed_by or "–"),
        Fact("Created (UTC)", format_ts(step.created_ts) or "–"),
        Fact("Claimed (UTC)", format_ts(step.claimed_ts) or "–"),
        Fact("Finished (UTC)", format_ts(step.finished_ts) or "–"),
        Fact("Waited", duration(waited_s(step, now_ts))),
        Fact("Ran", duration(step.run_s)),
    ]
    if step.retry_ts is not None:
        facts.append(Fact("Next retry", f"in {duration(step.retry_ts - now_ts)}"))
    return facts


def waited_s(step: StepRecord, now_ts: float) -> float | None:
    """From creation to the last claim; still growing for a pending step."""
    if step.claimed_ts is not None:
        return max(0.0, step.claimed_ts - step.created_ts)
    return max(0.0, now_ts - step.created_ts) if step.status is Status.PENDING else None


def step_sentence(step: StepRecord, now_ts: float) -> str:
    """What the step's state means, in a sentence without data of the step."""
    if step.is_dead_letter:
        return "Failed for good: nothing retries it by itself. Requeue it to give it a fresh set of retries."
    match step.status:
        case Status.PENDING if step.due_ts is not None and step.due_ts > now_ts:
            return f"Handed back by its handler: no pod claims it for another {duration(step.due_ts - now_ts)}."
        case Status.PENDING:
            return f"Waits for a pod to claim it, for {duration(now_ts - step.last_update_ts)} now."
        case Status.CLAIMED:
            return f"A pod has had it for {duration(now_ts - (step.claimed_ts or now_ts))}: it runs, or is next to run."
        case Status.COMPLETED:
            return f"Completed {duration(now_ts - (step.finished_ts or now_ts))} ago."
        case Status.FAILED:
            return f"Failed; the leader retries it in {duration((step.retry_ts or now_ts) - now_ts)}."


def attempts(step: StepRecord) -> list[Attempt]:
    """Every attempt, oldest first; the current or successful one comes last."""
    found = [
        Attempt(
            number=entry.get("attempt"),
            outcome=str(entry.get("outcome", "")),
            pod=entry.get("pod_id"),
            claimed=format_ts(entry.get("claimed_ts")),
            ended=format_ts(entry.get("ended_ts")),
            run_s=entry.get("run_s"),
            error=split(str(entry["error"]))[0] if entry.get("error") else None,
            recovery_run=entry.get("recovery_run_id"),
        )
        for entry in step.history
    ]
    if step.status in (Status.CLAIMED, Status.COMPLETED):
        outcome = "running" if step.status is Status.CLAIMED else "completed"
        found.append(
            Attempt(
                step.retry_count + 1,
                outcome,
                step.claimed_by,
                format_ts(step.claimed_ts),
                format_ts(step.finished_ts),
                step.run_s,
                None,
                None,
            )
        )
    return found


def tracebacks(step: StepRecord) -> list[tuple[int, str]]:
    """The traceback of each attempt that has one, with its line in the table; not that which the story shows above."""
    found = [split(str(entry.get("error") or ""))[1] for entry in step.history]
    last = split(step.error or "")[1]
    return [(number, trace) for number, trace in enumerate(found, 1) if trace and trace != last]


UNDECIDED = "The run gave it back and wrote no decisions: it did not end."


@dataclass(frozen=True, slots=True)
class TouchLine:
    """What one recovery run decided about the step."""

    started: str | None
    action: list[str]
    pod: str | None
    leader: str | None
    reason: str
    run_id: str


def touch_lines(step: StepRecord, records: Iterable[DecisionRecord]) -> list[TouchLine]:
    """The recovery runs that touched the step, newest first.

    A leader that dies while it recovers writes no decisions: then the step's own history knows the run.
    """
    decided = [
        TouchLine(
            started=format_ts(record.started_ts), action=[record.decision.action], pod=record.decision.owner,
            leader=record.leader_pod_id, reason=shortened(record.decision.reason, 300), run_id=record.run_id,
        )
        for record in records
    ]  # fmt: skip
    known = {line.run_id for line in decided}
    lost = {str(entry["recovery_run_id"]): entry for entry in step.history if entry.get("recovery_run_id")}
    undecided = [
        TouchLine(format_ts(entry.get("ended_ts")), [], str(entry.get("pod_id")), None, UNDECIDED, run_id)
        for run_id, entry in lost.items() if run_id not in known
    ]  # fmt: skip
    return sorted([*decided, *undecided], key=lambda line: line.started or "", reverse=True)


def profile_columns(result: JSON) -> list[dict[str, Any]] | None:
    """The columns of a `process_data` result as rows of a table; None if this is not such a result."""
    columns = result.get("columns") if isinstance(result, dict) else None
    if isinstance(columns, dict):
        columns = [{"name": name, **about} for name, about in columns.items() if isinstance(about, dict)]
    if not isinstance(columns, list) or not columns or not all(isinstance(column, dict) for column in columns):
        return None
    # A column of one table may hold numbers here and dates there: as text they can stand together.
    return [{key: _cell(value) for key, value in _estimate_marked(column).items()} for column in columns]


def _estimate_marked(column: dict[str, Any]) -> dict[str, Any]:
    # "≈ 4976" says in one cell what a column of "distinct_is_exact" would need an explanation for.
    marked = {key: value for key, value in column.items() if key != "distinct_is_exact"}
    if column.get("distinct_is_exact") is False and column.get("distinct") is not None:
        marked["distinct"] = f"≈ {column['distinct']}"
    return marked


def _cell(value: Any) -> Any:
    if value is None:
        return None
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else shortened(value)


def profile_facts(result: JSON) -> list[Fact]:
    """The single values of a result, e.g. how many rows a file has."""
    if not isinstance(result, dict):
        return []
    return [
        Fact(label(key), f"{value:,}" if isinstance(value, int) else shortened(value, 200))
        for key, value in result.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    ]


def label(key: object) -> str:
    """A key of a result as a label. Labels are Markdown on screen, so nothing of that survives."""
    return re.sub(r"[^A-Za-z0-9 -]", " ", str(key)[:40]).capitalize()


def known_tasks(snap: Snapshot | None, local: Iterable[str]) -> list[str]:
    """The task types that pods have published, and this process's own."""
    names = set(local)
    for pod in snap.pods if snap else ():
        names.update(str(name) for name in pod.meta.get("tasks") or [])
    return sorted(names)
