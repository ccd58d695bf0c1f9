"""The Recovery screen: what recovery runs did, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fleetq_core.model import Decision, RecoveryRun, format_ts

from .words import duration, plural, shortened


@dataclass(frozen=True, slots=True)
class RunLine:
    """A recovery run in a table."""

    started: str | None
    state: list[str]
    trigger: str
    leader: str
    duration_s: float | None
    dead_pods: str
    orphans: int
    retried: int
    resubmitted: int
    terminal: int
    run_id: str


def run_lines(runs: Iterable[RecoveryRun]) -> list[RunLine]:
    """Recovery runs, newest first."""
    return [
        RunLine(
            started=format_ts(run.started_ts),
            state=["interrupted" if run.finished_ts is None else "held off" if run.held_off else "finished"],
            trigger=run.trigger,
            leader=run.leader_pod_id,
            duration_s=None if run.duration_s is None else round(run.duration_s, 3),
            dead_pods=", ".join(run.dead_pods),
            orphans=run.total_orphans,
            retried=run.retried,
            resubmitted=run.resubmitted,
            terminal=run.terminal_failures,
            run_id=run.run_id,
        )
        for run in runs
    ]


def run_sentences(run: RecoveryRun) -> list[str]:
    """What one run's numbers mean."""
    if run.finished_ts is None:
        return [
            "Interrupted: the leader stopped in the middle of this run. What it moved in the store stands; "
            "its summary and decisions were never written. The next leader went on from there."
        ]
    told = [
        f"{plural(len(run.dead_pods), 'dead pod')}, {plural(run.total_orphans, 'orphan')}, "
        f"{run.retried:,} due for a retry: {run.resubmitted:,} resubmitted, {run.terminal_failures:,} failed for good, "
        f"in {duration(run.duration_s)}."
    ]
    if run.held_off:
        told.append(
            "Held off: silent pods were not judged, because this leader had not yet beaten for a whole dead-pod "
            "threshold and could not tell their silence from its own."
        )
    return told


def decision_rows(decisions: Iterable[Decision]) -> list[dict[str, Any]]:
    """What a run decided, a row for each step."""
    return [
        {
            "step_id": d.step_id,
            "cause": d.cause,
            "action": [d.action],
            "owner": d.owner,
            "retries": d.retry_count,
            "reason": shortened(d.reason, 300),
        }
        for d in decisions
    ]
