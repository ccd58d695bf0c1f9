"""What became of the steps that a pod held when a recovery run took them back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fleetq_core.model import DecisionRecord, Status, StepRecord, format_ts

from .words import plural, shortened

DELETED, FOR_GOOD = "deleted", "failed for good"
STATES = (*(status.value for status in Status), FOR_GOOD, DELETED)


@dataclass(frozen=True, slots=True)
class FateLine:
    """A step that was taken from a pod, and where it is now."""

    step_id: str
    now: list[str]
    with_pod: str | None
    action: list[str]
    taken: str | None
    reason: str
    run_id: str


def fate_lines(taken: Iterable[DecisionRecord], steps: Mapping[str, StepRecord]) -> list[FateLine]:
    """Each decision with the step as it is now; steps whose retention is over are gone."""
    return [_line(record, steps.get(record.decision.step_id)) for record in taken]


def _line(record: DecisionRecord, step: StepRecord | None) -> FateLine:
    return FateLine(
        step_id=record.decision.step_id,
        now=[_state(step)],
        with_pod=step.claimed_by if step else None,
        action=[record.decision.action],
        taken=format_ts(record.started_ts),
        reason=shortened(record.decision.reason, 300),
        run_id=record.run_id,
    )


def _state(step: StepRecord | None) -> str:
    return DELETED if step is None else FOR_GOOD if step.is_dead_letter else step.status.value


def fate_sentence(lines: Sequence[FateLine]) -> str:
    """`6 steps were taken from it. Now: 5 completed, 1 failed for good.`"""
    counts = Counter(line.now[0] for line in lines)
    told = ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts[state])
    return f"{plural(len(lines), 'step')} {'was' if len(lines) == 1 else 'were'} taken from it. Now: {told}."
