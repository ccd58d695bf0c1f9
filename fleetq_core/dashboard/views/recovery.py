"""The Recovery screen: what recovery runs did, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.model import Decision, RecoveryRun, format_ts

from .overview import UNDER_WAY_S
from .pods import dead_pods, fleet_rests
from .words import Fact, duration, number, plural, shortened

MOVED_NOTHING = "moved nothing"
# What a run did, worst first.
EFFECTS = ("interrupted", "held off", "failed for good", "resubmitted", MOVED_NOTHING)
UNDER_WAY = "under way"
CAUSES = {"orphan": "its pod died", "failed": "its retry was due"}


@dataclass(frozen=True, slots=True)
class RunLine:
    """A recovery run in a table."""

    started: str | None
    did: list[str]
    resubmitted: int
    terminal: int
    dead_pods: str
    orphans: int
    retried: int
    leader: str
    trigger: str
    duration_s: float | None
    statements: int | None
    run_id: str


@dataclass(frozen=True, slots=True)
class RunPoint:
    """A recovery run in the timeline."""

    at_ts: float
    effect: str
    steps: int
    note: str
    run_id: str


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """A pod that a run judged dead."""

    pod: str
    silent: str
    limit: str
    held: int
    incarnation: str


@dataclass(frozen=True, slots=True)
class DecisionLine:
    """What a run decided about a step."""

    step_id: str
    action: list[str]
    cause: str
    owner: str | None
    retries: int
    reason: str


@dataclass(frozen=True, slots=True)
class GroupLine:
    """Decisions that are alike."""

    steps: int
    action: list[str]
    cause: str
    owner: str | None


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A pod whose late results were refused."""

    pod: str
    refused: int
    since: str | None


def tiles(snap: Snapshot) -> list[Fact]:
    """What the next cycle will find, and what only a person can do."""
    stats, silent = snap.stats, len(dead_pods(snap))
    leads = snap.leader.pod_id if snap.leader else "the fleet rests" if fleet_rests(snap) else "nobody"
    return [
        Fact("Leader", leads, "good" if snap.leader or fleet_rests(snap) else "bad", "It runs the recovery cycles."),
        Fact("Silent pods", f"{silent:,}", "warn" if silent else "good", "The next cycle judges them dead."),
        Fact("Retries due", f"{stats.retry_due:,}", hint="Failed steps that the next cycle puts back."),
        Fact("Dead letters", f"{stats.dead_letters:,}", "bad" if stats.dead_letters else "good",
             "Failed with no retry left: they wait for a person."),
        Fact("Late results", f"{sum(line.refused for line in refused_lines(snap)):,}",
             hint="By all pods on record, each since its start."),
    ]  # fmt: skip


def effect_of(run: RecoveryRun, now_ts: float) -> str:
    """What a run did: one of EFFECTS, or that it is under way."""
    if run.finished_ts is None:
        return UNDER_WAY if now_ts - run.started_ts <= UNDER_WAY_S else "interrupted"
    if run.terminal_failures:
        return "failed for good"
    return "resubmitted" if run.resubmitted else "held off" if run.held_off else MOVED_NOTHING


def run_lines(runs: Iterable[RecoveryRun], now_ts: float) -> list[RunLine]:
    """Recovery runs in the order given."""
    return [
        RunLine(
            started=format_ts(run.started_ts),
            did=[effect_of(run, now_ts)],
            resubmitted=run.resubmitted,
            terminal=run.terminal_failures,
            dead_pods=", ".join(run.dead_pods),
            orphans=run.total_orphans,
            retried=run.retried,
            leader=run.leader_pod_id,
            trigger=run.trigger,
            duration_s=None if run.duration_s is None else round(run.duration_s, 3),
            statements=run.statements,
            run_id=run.run_id,
        )
        for run in runs
    ]


def run_points(runs: Iterable[RecoveryRun], now_ts: float) -> list[RunPoint]:
    """Finished and interrupted runs as points of a timeline."""
    effects = ((run, effect_of(run, now_ts)) for run in runs)
    return [
        RunPoint(
            at_ts=run.started_ts,
            effect=effect,
            steps=run.resubmitted + run.terminal_failures,
            note=f"{run.resubmitted:,} resubmitted, {run.terminal_failures:,} failed for good, "
            f"{plural(len(run.dead_pods), 'dead pod')}",
            run_id=run.run_id,
        )
        for run, effect in effects
        if effect in EFFECTS
    ]


def run_sentences(run: RecoveryRun, now_ts: float) -> list[str]:
    """What one run's numbers mean."""
    if run.finished_ts is None:
        if effect_of(run, now_ts) == UNDER_WAY:
            return ["Under way: the leader is at it."]
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
    if not (run.resubmitted or run.terminal_failures or run.dead_pods):
        told.append("It found nothing to do; it is on record because a person asked for it.")
    return told


def run_facts(run: RecoveryRun) -> list[Fact]:
    """The head of one run."""
    asked = (
        "a person asked" if run.trigger == "manual" else "the usual cycle" if run.trigger == "cycle" else run.trigger
    )
    return [
        Fact("Leader", run.leader_pod_id),
        Fact("Why then", asked),
        Fact("Started (UTC)", format_ts(run.started_ts) or "–"),
        Fact("Took", duration(run.duration_s)),
        Fact("Statements", "–" if run.statements is None else f"{run.statements:,}",
             hint="That it asked of the store, without the writing of its own record."),
        Fact("Dead pods", f"{len(run.dead_pods):,}"),
        Fact("Orphans", f"{run.total_orphans:,}", hint="Claimed steps whose pod was not among the living."),
        Fact("Retries due", f"{run.retried:,}"),
        Fact("Resubmitted", f"{run.resubmitted:,}"),
        Fact("Failed for good", f"{run.terminal_failures:,}"),
    ]  # fmt: skip


def verdict_lines(run: RecoveryRun, decisions: Iterable[Decision], threshold_s: float) -> list[VerdictLine]:
    """The pods that a run judged dead, and why. The limit is today's: a run does not keep the one it went by."""
    held = Counter(decision.owner for decision in decisions if decision.cause == "orphan")
    return [
        VerdictLine(one.pod_id, duration(one.silent_s), duration(threshold_s), held[one.pod_id], one.incarnation)
        for one in run.verdicts
    ]


def group_lines(decisions: Iterable[Decision]) -> list[GroupLine]:
    """How many decisions of each kind, the commonest first."""
    groups = Counter((decision.action, decision.cause, decision.owner) for decision in decisions)
    return [
        GroupLine(n, [action], CAUSES.get(cause, cause), owner) for (action, cause, owner), n in groups.most_common()
    ]


def matching(decisions: Iterable[Decision], action: str | None, text: str) -> list[Decision]:
    """The decisions of an action (None: any) with `text` in the step, its pod or the reason."""
    wanted = text.strip().lower()
    return [
        decision
        for decision in decisions
        if action in (None, decision.action)
        and (
            not wanted
            or any(wanted in part.lower() for part in (decision.step_id, decision.owner or "", decision.reason))
        )
    ]


def decision_lines(decisions: Iterable[Decision]) -> list[DecisionLine]:
    """What a run decided, a line for each step."""
    return [
        DecisionLine(
            step_id=decision.step_id,
            action=[decision.action],
            cause=CAUSES.get(decision.cause, decision.cause),
            owner=decision.owner,
            retries=decision.retry_count,
            reason=shortened(decision.reason, 300),
        )
        for decision in decisions
    ]


def refused_lines(snap: Snapshot) -> list[RefusedLine]:
    """The pods whose late results were refused, most first."""
    lines = [
        RefusedLine(pod.pod_id, number(pod.meta.get("stale_refused")), format_ts(pod.birth_ts)) for pod in snap.pods
    ]
    return sorted((line for line in lines if line.refused), key=lambda line: (-line.refused, line.pod))


def nobody_leads(snap: Snapshot) -> str | None:
    """Why an order to run a recovery would reach nobody, or None where it reaches a leader."""
    if snap.leader is not None or fleet_rests(snap):
        return None
    return (
        "No living pod leads, so nobody would carry it out. Start a pod: it leads and recovers by itself. Without one, "
        "the command fleetq recover runs a cycle from a shell."
    )


def reaching(runs: Sequence[RecoveryRun], since_ts: float, limit: int) -> tuple[list[RecoveryRun], float | None]:
    """The runs from `since_ts` on; and from when on they are complete, where `limit` cut them off after that."""
    found = [run for run in runs if run.started_ts >= since_ts]
    cut = len(runs) >= limit and len(found) == len(runs)
    return found, runs[-1].started_ts if cut and runs else None
