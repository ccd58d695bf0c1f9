"""What an order to pods will do, in words, before anybody says yes; and what they have answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleetq_core.commands import CommandKind
from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.model import CommandRecord, PodRecord

from .pods import alive_pods, hearing_pods, heartbeat_s, leads
from .words import duration, number, plural, shortened

MOST_NAMED = 10  # in a sentence


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of an order: a line for each answer, and the pods that have not answered."""

    lines: tuple[str, ...]
    refused: int
    open: tuple[str, ...]


def question(kind: CommandKind, pods: Sequence[PodRecord], snap: Snapshot, own_pod: str | None) -> str:
    """What will happen to `pods` if this is ordered; `own_pod` is the name of the pod in this very process."""
    whom, steps = plural(len(pods), "pod"), sum(_busy_with(pod) for pod in pods)
    held = f"The {plural(steps, 'step')} there" if steps else "Nothing runs there now; whatever begins meanwhile"
    match kind:
        case CommandKind.PAUSE:
            told = [f"{whom} will claim no new step until somebody resumes. {held} will be finished."]
        case CommandKind.RESUME:
            told = [f"{whom} will claim steps again."]
        case _:
            told = [
                f"{whom} will claim nothing more and then stop. {held} will be finished first, however long it takes. "
                "A pod that was drained does not come back by itself."
            ]
    told += _warnings(kind, pods, snap, own_pod)
    return "\n\n".join(told)


def _busy_with(pod: PodRecord) -> int:
    return number(pod.meta.get("running_count")) + number(pod.meta.get("buffered"))


def _warnings(kind: CommandKind, pods: Sequence[PodRecord], snap: Snapshot, own_pod: str | None) -> list[str]:
    if kind is CommandKind.RESUME:
        return []
    told = []
    chosen = {pod.incarnation for pod in pods}
    left = [pod for pod in hearing_pods(snap) if pod.incarnation not in chosen and _claims(pod)]
    if not left:
        told.append("Nobody will be left to claim: pending steps will wait.")
    if kind is CommandKind.DRAIN:
        living = [pod for pod in alive_pods(snap) if pod.incarnation not in chosen]
        if not living:
            told.append("It is the last living pod: nobody will recover the steps of dead pods or retry failed ones.")
        elif any(leads(pod, snap) for pod in pods):
            told.append("It leads now; the oldest pod that is left takes over.")
        if own_pod in {pod.pod_id for pod in pods}:
            told.append("It is the pod inside this dashboard. The dashboard stays; its pod comes back with a restart.")
    return told


def _claims(pod: PodRecord) -> bool:
    return pod.meta.get("state") not in ("paused", "draining", "stopping", "stopped")


def answers(record: CommandRecord | None, addressed: Sequence[str]) -> Answers:
    """Who of the addressed pods has answered what."""
    given = [one for one in (record.answers if record else ()) if one.pod_id in addressed]
    heard = {one.pod_id for one in given}
    return Answers(
        tuple(f"{one.pod_id}: {'' if one.ok else 'refused, '}{shortened(one.result, 300)}" for one in given),
        sum(not one.ok for one in given),
        tuple(name for name in addressed if name not in heard),
    )


def waiting_sentence(open_pods: Sequence[str], snap: Snapshot) -> str:
    """Why some pods have not answered."""
    told, hearers = [], {pod.pod_id: pod for pod in hearing_pods(snap)}
    gone = [name for name in open_pods if name not in hearers]
    slow = [name for name in open_pods if name in hearers]
    if slow:
        every_s = max(heartbeat_s(hearers[name], 0.0) for name in slow)
        beats = f" (one every {duration(every_s)})" if every_s else ""
        told.append(f"Not yet answered, until the next heartbeat{beats}: {_names(slow)}.")
    if gone:
        told.append(f"Gone meanwhile: {_names(gone)}.")
    return " ".join(told)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
