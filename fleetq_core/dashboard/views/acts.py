"""What may be done to steps: to which, with what consequence, and how it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fleetq_core.model import Status, StepFilter, StepRecord, format_ts

from .words import plural


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to do: its words, and which steps can take it."""

    name: str
    verb: str
    done: str
    needs: str
    icon: str
    hint: str
    consequence: str
    fits: Callable[[StepRecord], bool]


REQUEUE = Act(
    "requeue", "Requeue", "requeued", "failed", ":material/replay:", "Back to pending, with a fresh set of retries.",
    "will go back to pending with a fresh set of retries.", lambda step: step.status is Status.FAILED,
)  # fmt: skip
CANCEL = Act(
    "cancel", "Cancel", "cancelled", "pending", ":material/block:", "Fail for good without having run.",
    "will fail for good without having run.", lambda step: step.status is Status.PENDING,
)  # fmt: skip
REPLAY = Act(
    "replay", "Replay", "replayed", "ended", ":material/content_copy:", "Submit copies as new steps.",
    "will be submitted again, as new steps with new ids; the old ones stay as they are.", lambda step: step.is_final,
)  # fmt: skip
ACTS = (REQUEUE, CANCEL, REPLAY)


def narrowed(where: StepFilter, act: Act) -> list[StepFilter]:
    """The filters for those of the steps that match `where` which the act can be done to; none where there are none."""
    status = Status.FAILED if where.dead_letters else where.status
    if act is REPLAY:
        ended = [replace(where, status=Status.COMPLETED)] if status in (None, Status.COMPLETED) else []
        dead = [replace(where, status=None, dead_letters=True)] if status in (None, Status.FAILED) else []
        return ended + dead
    needed = Status.FAILED if act is REQUEUE else Status.PENDING
    return [replace(where, status=needed)] if status in (None, needed) else []


def question(act: Act, count: int) -> str:
    """What will happen to so many steps."""
    kind = f"{act.needs} step"
    return f"{plural(count, kind)} {act.consequence}"


def outcome(act: Act, moved: int, asked: int) -> str:
    """What did happen."""
    rest = "" if moved == asked else f"; the others are not {act.needs} any more"
    return f"{moved:,} of {plural(asked, 'step')} {act.done}{rest}."


def filter_words(where: StepFilter) -> str:
    """The filters in words."""
    kind = "dead letters" if where.dead_letters else f"{where.status.value} steps" if where.status else "steps"
    parts = [
        f"of the task {where.task_type}" if where.task_type else "",
        f"that pod {where.claimed_by} claimed last" if where.claimed_by else "",
        f"with {where.text!r} in id, payload or error" if where.text else "",
        f"created from {format_ts(where.created_from)} UTC" if where.created_from is not None else "",
        f"created before {format_ts(where.created_until)} UTC" if where.created_until is not None else "",
    ]
    told = ", ".join(part for part in parts if part)
    return f"All {kind} {told}." if told else f"All {kind}."
