"""The Pods screen: who is alive, who leads, how busy each is, and what to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.model import PodRecord, RecoveryRun, Verdict, format_ts, hearing, living

from .words import Fact, duration, number, plural, shortened

CLOCK_OFF_S = 1.0  # more than a round trip to the store explains
LIVES = ("alive", "late", "resting", "dead", "down")
LEADER = "leader"
LOOKS = ("stuck", "outbox", "clock off", "other version")


@dataclass(frozen=True, slots=True)
class PodLine:
    """A pod in a table. `life` has two words for the leader; `look` says what is odd about the pod."""

    pod: str
    life: list[str]
    look: list[str]
    heartbeat_age_s: float
    state: str
    load: float
    running: int
    capacity: int
    buffered: int
    clock_offset_s: float | None
    stuck: int
    outbox: int
    stale_refused: int
    completed: int
    failed: int
    last_error: str | None
    birth: str | None
    version: str
    incarnation: str


def alive_pods(snap: Snapshot) -> list[PodRecord]:
    """The pods that are up and heard of."""
    return living(snap.pods, snap.now_ts, snap.threshold_s)


def hearing_pods(snap: Snapshot) -> list[PodRecord]:
    """The pods that one may order something: those alive, and those that rest."""
    return hearing(snap.pods, snap.now_ts, snap.threshold_s)


def fleet_rests(snap: Snapshot) -> bool:
    """Whether nobody is up because there is nothing to do: that is well."""
    return not alive_pods(snap) and any(pod.rests for pod in snap.pods)


def published_runs(pod: PodRecord) -> list[dict[str, Any]]:
    """What the pod says it runs, as far as that makes sense: it may be of another version."""
    runs = pod.meta.get("running")
    return [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []


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
    lines = [_pod_line(pod, snap) for pod in snap.pods]
    order = {"late": 0, "alive": 0, "resting": 1, "dead": 2, "down": 3}
    return sorted(lines, key=lambda line: (order[line.life[0]], LEADER not in line.life, line.birth or "", line.pod))


def _pod_line(pod: PodRecord, snap: Snapshot) -> PodLine:
    meta, life = pod.meta, life_of(pod, snap)
    lives = life in ("alive", "late")
    running, capacity = number(meta.get("running_count")), number(meta.get("capacity"))
    errors = meta.get("last_errors") or []
    return PodLine(
        pod=pod.pod_id,
        life=[life, LEADER] if leads(pod, snap) else [life],
        look=looks(pod, snap) if lives else [],
        heartbeat_age_s=round(silent_s(pod, snap), 1),
        state=state_of(pod, snap),
        load=min(1.0, running / capacity) if capacity and lives else 0.0,
        running=running if lives else 0,
        capacity=capacity,
        buffered=number(meta.get("buffered")) if lives else 0,
        clock_offset_s=clock_offset_s(pod),
        stuck=number(meta.get("stuck")) if lives else 0,
        outbox=number(meta.get("outbox")),
        stale_refused=number(meta.get("stale_refused")),
        completed=number(meta.get("completed")),
        failed=number(meta.get("failed")),
        last_error=shortened(errors[-1]) if errors else None,
        birth=format_ts(pod.birth_ts),
        version=version_of(pod),
        incarnation=pod.incarnation,
    )


def heartbeat_s(pod: PodRecord, default_s: float) -> float:
    """Seconds between its heartbeats; `default_s` where it has not published that."""
    published = pod.meta.get("heartbeat_s")
    known = isinstance(published, int | float) and not isinstance(published, bool) and published > 0
    return float(published) if known else default_s  # type: ignore[arg-type]  # known: it is a number


def leads(pod: PodRecord, snap: Snapshot) -> bool:
    """Whether this very process leads."""
    return snap.leader is not None and snap.leader.incarnation == pod.incarnation


def silent_s(pod: PodRecord, snap: Snapshot) -> float:
    """Seconds since its last heartbeat."""
    return max(0.0, snap.now_ts - pod.last_heartbeat_ts)


def version_of(pod: PodRecord) -> str:
    """The version that the pod has published."""
    return str(pod.meta.get("version") or "unknown")


def clock_offset_s(pod: PodRecord) -> float | None:
    """How far the clock of its machine is ahead of the database's; None where that is not known."""
    offset = pod.meta.get("clock_offset_s")
    return float(offset) if isinstance(offset, int | float) and not isinstance(offset, bool) else None


def looks(pod: PodRecord, snap: Snapshot) -> list[str]:
    """What is odd about a living pod, of LOOKS."""
    offset = clock_offset_s(pod)
    found = {
        "stuck": number(pod.meta.get("stuck")) > 0,
        "outbox": number(pod.meta.get("outbox")) > 0,
        "clock off": offset is not None and abs(offset) >= CLOCK_OFF_S,
        "other version": version_of(pod) != _usual_version(snap),
    }
    return [name for name in LOOKS if found[name]]


def oddities(snap: Snapshot) -> list[str]:
    """A sentence for each thing that is odd about some living pods."""
    told, alive = [], alive_pods(snap)
    off = [pod for pod in alive if "clock off" in looks(pod, snap)]
    if off:
        worst = max((clock_offset_s(pod) or 0.0 for pod in off), key=abs)
        way = "ahead of" if worst > 0 else "behind"
        told.append(
            f"The clock of {plural(len(off), 'pod')} is off, by up to {duration(abs(worst))} {way} the database's. "
            "FLEET-Q decides by the database's time alone; logs and handlers of that machine do not."
        )
    versions = Counter(version_of(pod) for pod in alive)
    if len(versions) > 1:
        counts = ", ".join(f"{version} on {plural(count, 'pod')}" for version, count in versions.most_common())
        told.append(f"The living pods run {len(versions)} versions: {counts}.")
    return told


def _usual_version(snap: Snapshot) -> str:
    # Of two that are as common the newer: it is the older pods that somebody forgot.
    versions = Counter(version_of(pod) for pod in alive_pods(snap))
    return max(versions, key=lambda version: (versions[version], version), default="")


def state_of(pod: PodRecord, snap: Snapshot) -> str:
    """What the pod does, or how it ended."""
    life = life_of(pod, snap)
    if life == "down":
        return _end_of(pod, snap)
    return "silent" if life == "dead" else str(pod.meta.get("state", ""))


def _end_of(pod: PodRecord, snap: Snapshot) -> str:
    # Both are `down` in the store; only a recovery run tells a pod that died from one that was stopped.
    died = any(pod.pod_id in run.dead_pods and run.started_ts >= pod.last_heartbeat_ts for run in snap.runs)
    return "declared dead" if died else "stopped"


def pod_facts(pod: PodRecord, snap: Snapshot, held: int) -> list[Fact]:
    """One pod in figures; `held` is how many steps its process has claimed by the store."""
    meta, offset = pod.meta, clock_offset_s(pod)
    lives = pod.is_alive(snap.now_ts, snap.threshold_s)
    running = number(meta.get("running_count")) if lives else 0
    return [
        Fact("Life", f"{life_of(pod, snap)}, {state_of(pod, snap)}" + (", leads" if leads(pod, snap) else "")),
        Fact("Last heartbeat", f"{duration(silent_s(pod, snap))} ago"),
        Fact("Runs", f"{running} of {number(meta.get('capacity'))} steps"),
        Fact("Holds", plural(held, "step"), hint="Claimed by this process, by the store: what runs and what waits."),
        Fact("Clock", "unknown" if offset is None else f"{offset:+.3f} s", hint="Against the database's clock."),
        Fact("Completed", f"{number(meta.get('completed')):,}"),
        Fact("Failed", f"{number(meta.get('failed')):,}"),
        Fact("Refused", f"{number(meta.get('stale_refused')):,}", hint="Results that came after the claim was lost."),
        Fact("Born (UTC)", format_ts(pod.birth_ts) or "–"),
        Fact("Version", version_of(pod)),
        Fact("Host", shortened(str(meta.get("host") or "unknown"), 60)),
        Fact("Incarnation", pod.incarnation),
    ]


def verdict_on(name: str, runs: Iterable[RecoveryRun]) -> tuple[RecoveryRun, Verdict] | None:
    """The first of the runs that declared a process of this name dead, with what it said."""
    return next(((run, verdict) for run in runs for verdict in run.verdicts if verdict.pod_id == name), None)


def death_sentence(run: RecoveryRun, verdict: Verdict, pod: PodRecord | None, threshold_s: float) -> str:
    """Why the pod was declared dead, by whom and when."""
    earlier = pod is not None and pod.incarnation != verdict.incarnation
    whom = "an earlier process of this name" if earlier else "it"
    heard_ts = run.started_ts - verdict.silent_s
    return (
        f"{run.leader_pod_id} declared {whom} dead at {format_ts(run.started_ts)} UTC: its last heartbeat was of "
        f"{format_ts(heard_ts)}, {duration(verdict.silent_s)} before. A pod may be silent for {duration(threshold_s)}."
    )


def silence_sentence(pod: PodRecord, snap: Snapshot, held: int) -> str | None:
    """What the silence of a pod that nobody has judged yet means; None for one that beats or is down."""
    silent, what = duration(silent_s(pod, snap)), f"the {plural(held, 'step')} it holds" if held else "what it holds"
    match life_of(pod, snap):
        case "dead":
            return f"Silent for {silent}, so it counts as dead: the next recovery cycle gives {what} back."
        case "late":
            left = duration(snap.threshold_s - silent_s(pod, snap))
            return f"Silent for {silent}. Unless it is heard of within {left} it counts as dead and loses {what}."
        case _:
            return None
