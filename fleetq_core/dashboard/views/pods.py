"""The Pods screen: who is alive, who leads, how busy each is, and what operators have ordered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.model import CommandRecord, PodRecord, format_ts, hearing, living

from .words import number, shortened


@dataclass(frozen=True, slots=True)
class PodLine:
    """A pod in a table."""

    pod: str
    life: list[str]
    leader: str
    state: str
    heartbeat_age_s: float
    running: int
    capacity: int
    load: float
    buffered: int
    stuck: int
    completed: int
    failed: int
    stale_refused: int
    outbox: int
    birth: str | None
    version: str
    incarnation: str
    last_error: str | None


@dataclass(frozen=True, slots=True)
class CommandLine:
    """An operator's command with what the pods answered."""

    issued: str | None
    by: str
    command: str
    target: str
    state: list[str]
    answers: str
    command_id: str


def alive_pods(snap: Snapshot) -> list[PodRecord]:
    """The pods that are up and heard of."""
    return living(snap.pods, snap.now_ts, snap.threshold_s)


def hearing_pods(snap: Snapshot) -> list[PodRecord]:
    """The pods that one may order something: those alive, and those that rest."""
    return hearing(snap.pods, snap.now_ts, snap.threshold_s)


def fleet_rests(snap: Snapshot) -> bool:
    """Whether nobody is up because there is nothing to do: that is well."""
    return not alive_pods(snap) and any(pod.rests for pod in snap.pods)


def dead_pods(snap: Snapshot) -> list[PodRecord]:
    """Pods that are on record as up but have fallen silent: dead, and not yet recovered."""
    return [pod for pod in snap.pods if pod.status == "up" and not pod.is_alive(snap.now_ts, snap.threshold_s)]


def late_pods(snap: Snapshot) -> list[PodRecord]:
    """Pods that count as alive although beats are missing: with the next ones missing too they are dead."""
    return [pod for pod in alive_pods(snap) if pod.is_late(snap.now_ts)]


def life_of(pod: PodRecord, snap: Snapshot) -> str:
    """alive, late (beats are missing), resting, dead (fell silent), or down (stopped, or declared dead)."""
    if pod.is_alive(snap.now_ts, snap.threshold_s):
        return "late" if pod.is_late(snap.now_ts) else "alive"
    return "dead" if pod.status == "up" else "resting" if pod.rests else "down"


def pod_lines(snap: Snapshot) -> list[PodLine]:
    """The pods: the living first, the leader on top."""
    order = {"late": 0, "alive": 0, "resting": 1, "dead": 2, "down": 3}
    lines = [_pod_line(pod, snap) for pod in snap.pods]
    return sorted(lines, key=lambda line: (order[line.life[0]], not line.leader, line.birth or "", line.pod))


def _pod_line(pod: PodRecord, snap: Snapshot) -> PodLine:
    meta, life = pod.meta, life_of(pod, snap)
    lives = life in ("alive", "late")
    running, capacity = number(meta.get("running_count")), number(meta.get("capacity"))
    errors = meta.get("last_errors") or []
    return PodLine(
        pod=pod.pod_id,
        life=[life],
        leader="★ leader" if snap.leader and snap.leader.incarnation == pod.incarnation else "",
        state=_state_of(pod, life, snap),
        heartbeat_age_s=round(max(0.0, snap.now_ts - pod.last_heartbeat_ts), 1),
        running=running if lives else 0,
        capacity=capacity,
        load=min(1.0, running / capacity) if capacity and lives else 0.0,
        buffered=number(meta.get("buffered")) if lives else 0,
        stuck=number(meta.get("stuck")) if lives else 0,
        completed=number(meta.get("completed")),
        failed=number(meta.get("failed")),
        stale_refused=number(meta.get("stale_refused")),
        outbox=number(meta.get("outbox")),
        birth=format_ts(pod.birth_ts),
        version=str(meta.get("version", "")),
        incarnation=pod.incarnation,
        last_error=shortened(errors[-1]) if errors else None,
    )


def _state_of(pod: PodRecord, life: str, snap: Snapshot) -> str:
    if life == "down":
        return _end_of(pod, snap)
    return "silent" if life == "dead" else str(pod.meta.get("state", ""))


def stale_refused(snap: Snapshot) -> int:
    """Completions that came too late and were refused, over all pods on record."""
    return sum(number(pod.meta.get("stale_refused")) for pod in snap.pods)


def _end_of(pod: PodRecord, snap: Snapshot) -> str:
    # Both are `down` in the store; only a recovery run tells a pod that died from one that was stopped.
    died = any(pod.pod_id in run.dead_pods and run.started_ts >= pod.last_heartbeat_ts for run in snap.runs)
    return "declared dead" if died else "stopped"


def command_lines(commands: Iterable[CommandRecord]) -> list[CommandLine]:
    """The command log, newest first."""
    return [_command_line(record) for record in commands]


def _command_line(record: CommandRecord) -> CommandLine:
    command = record.command
    state = "open" if not record.answers else "done" if all(answer.ok for answer in record.answers) else "refused"
    return CommandLine(
        issued=format_ts(command.issued_ts),
        by=command.issued_by,
        command=command.kind.replace("_", " "),
        target="all pods" if command.target == "*" else command.target,
        state=[state],
        answers="; ".join(f"{answer.pod_id}: {answer.result}" for answer in record.answers),
        command_id=command.command_id,
    )
