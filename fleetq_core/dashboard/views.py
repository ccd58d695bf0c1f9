"""Read models: from records to what a screen says. Pure functions; all arithmetic with times is in here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleetq_core.model import (
    JSON,
    CommandRecord,
    Decision,
    PodRecord,
    RecoveryRun,
    Sample,
    Status,
    StepRecord,
    format_ts,
)

from .snapshot import Snapshot

OLD_PENDING_S = 300.0
Point = tuple[float, str, float]  # time, series, value
SHORT = 120  # characters of a payload or an error in a table


@dataclass(frozen=True, slots=True)
class Fact:
    """One named value; `tone` is good, bad, warn or plain."""

    label: str
    value: str
    tone: str = "plain"
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Attention:
    """Something a person should look at, and the page that helps."""

    text: str
    page: str
    link: str
    params: tuple[tuple[str, str], ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RunningRow:
    """A step that a living pod is working on."""

    pod: str
    step_id: str
    task: str
    seconds: float
    note: str


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


# -- words ------------------------------------------------------------------------------------------------------------


def clock(ts: float) -> str:
    """`HH:MM:SS` in UTC."""
    return datetime.fromtimestamp(ts, UTC).strftime("%H:%M:%S")


def duration(seconds: float | None) -> str:
    """A span in one or two units, e.g. `3 min 20 s`."""
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s" if seconds < 10 else f"{seconds:.0f} s"
    whole = int(seconds)
    for unit, name, part, part_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit} {name}" + (f" {rest} {part_name}" if rest else "")
    return f"{whole} s"


def plural(count: int, noun: str) -> str:
    """`1 step`, `2 steps`, `12,000 steps`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shortened(value: JSON, limit: int = SHORT) -> str:
    """A value on one line, cut to `limit` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0


# -- overview ---------------------------------------------------------------------------------------------------------


def alive_pods(snap: Snapshot) -> list[PodRecord]:
    """The pods that are up and heard of; clients that claim without a pod are not counted."""
    return [pod for pod in snap.pods if pod.is_alive(snap.now_ts, snap.threshold_s) and not is_client(pod)]


def is_client(pod: PodRecord) -> bool:
    """Whether this row belongs to a program that claims through the Python API and runs no pod."""
    return pod.meta.get("state") == "client"


def oldest_pending_s(snap: Snapshot) -> float | None:
    """How long the oldest pending step has waited."""
    oldest = snap.stats.oldest_pending_ts
    return None if oldest is None else max(0.0, snap.now_ts - oldest)


def health(snap: Snapshot, pod_id: str, pod_state: str, problem: str | None) -> list[Fact]:
    """The health strip."""
    alive, silent = len(alive_pods(snap)), len(dead_pods(snap))
    age = oldest_pending_s(snap)
    dead_letters = snap.stats.dead_letters
    return [
        Fact("Store", "down" if problem else "answers", "bad" if problem else "good"),
        Fact(
            "Pods alive",
            f"{alive}" + (f", {silent} dead" if silent else ""),
            "bad" if not alive else "warn" if silent else "good",
        ),
        Fact(
            "Leader",
            snap.leader.pod_id if snap.leader else "none",
            "good" if snap.leader else "bad",
            "The oldest living pod leads: it recovers the steps of dead pods and retries failed ones.",
        ),
        Fact(
            "Oldest pending",
            "nothing waits" if age is None else duration(age),
            "good" if age is None or age < OLD_PENDING_S else "warn",
            "How long the oldest pending step has waited to be claimed.",
        ),
        Fact(
            "Dead letters",
            f"{dead_letters:,}",
            "bad" if dead_letters else "good",
            "Failed steps with no retry left. They wait for a person.",
        ),
        Fact("This pod", pod_state, _TONES.get(pod_state, "bad"), f"The pod inside this dashboard: {pod_id}"),
    ]


_TONES = {"running": "good", "paused": "warn", "draining": "warn", "stopping": "warn", "new": "warn"}


def dead_pods(snap: Snapshot) -> list[PodRecord]:
    """Pods that are on record as up but have fallen silent: dead, and not yet recovered."""
    return [pod for pod in snap.pods if pod.status == "up" and not pod.is_alive(snap.now_ts, snap.threshold_s)]


def attention(snap: Snapshot, failure: str | None = None) -> list[Attention]:
    """What needs a person, worst first."""
    found = []
    stats, age = snap.stats, oldest_pending_s(snap)
    if failure:
        found.append(Attention("This dashboard's own pod has stopped after an error.", "pods", "Pods", (), failure))
    if not alive_pods(snap):
        found.append(Attention("No pod is alive, so nothing will be claimed.", "pods", "See the pods"))
    elif snap.leader is None:
        found.append(Attention("No pod leads, so nothing is recovered or retried.", "pods", "See the pods"))
    if stats.dead_letters:
        verb = "waits" if stats.dead_letters == 1 else "wait"
        text = f"{plural(stats.dead_letters, 'dead letter')} {verb} for a decision: replay or leave."
        found.append(Attention(text, "recovery", "Look and replay"))
    if silent := dead_pods(snap):
        text = f"{plural(len(silent), 'pod')} fell silent; the next recovery run takes the claims back."
        found.append(Attention(text, "recovery", "Run it now", (), ", ".join(pod.pod_id for pod in silent)))
    if interrupted := [run for run in snap.runs if run.finished_ts is None]:
        text = f"{plural(len(interrupted), 'recovery run')} ended in the middle: the leader stopped during it."
        found.append(Attention(text, "recovery", "See the runs"))
    if paused := [pod for pod in alive_pods(snap) if pod.meta.get("state") == "paused"]:
        text = f"{plural(len(paused), 'pod')} paused: nothing new is claimed there."
        found.append(Attention(text, "pods", "Resume", (), ", ".join(pod.pod_id for pod in paused)))
    if stuck := sum(_number(pod.meta.get("stuck")) for pod in alive_pods(snap)):
        text = f"{plural(stuck, 'handler')} ran past the time limit and did not return; each holds a slot."
        found.append(Attention(text, "pods", "See the pods"))
    if age is not None and age >= OLD_PENDING_S:
        text = f"The oldest pending step has waited {duration(age)}."
        found.append(Attention(text, "steps", "See pending steps", (("status", Status.PENDING.value),)))
    return found


def running_rows(snap: Snapshot) -> list[RunningRow]:
    """What runs now, by pod, longest first."""
    rows = []
    for pod in alive_pods(snap):
        since_beat = max(0.0, snap.now_ts - pod.last_heartbeat_ts)
        for run in pod.meta.get("running") or []:
            note = "past its time limit" if run.get("timed_out") else ""
            seconds = float(run.get("seconds", 0.0)) + since_beat
            rows.append(
                RunningRow(pod.pod_id, str(run.get("step_id")), str(run.get("task_type")), round(seconds, 1), note)
            )
    return sorted(rows, key=lambda row: (row.pod, -row.seconds))


def window(samples: Iterable[Sample], now_ts: float, seconds: float) -> list[Sample]:
    """The samples of the last `seconds`."""
    return [sample for sample in samples if sample.sampled_ts >= now_ts - seconds]


def depth_points(samples: Iterable[Sample]) -> list[Point]:
    """(time, status, steps). Completed steps are history, not depth: throughput shows them."""
    return [
        (sample.sampled_ts, status.value, float(getattr(sample, status.value)))
        for sample in samples
        for status in (Status.PENDING, Status.CLAIMED, Status.FAILED)
    ]


def throughput_points(samples: Iterable[Sample]) -> list[Point]:
    """(time, what, steps per second) for submitted, completed and failed."""
    points = []
    for sample in samples:
        seconds = max(sample.interval_s, 0.001)
        for name in ("submitted", "completed", "failed"):
            points.append((sample.sampled_ts, name, round(getattr(sample, f"{name}_delta") / seconds, 3)))
    return points


def latency_facts(samples: Sequence[Sample]) -> list[Fact]:
    """Waiting and running time of the steps that completed last; empty while there are none."""
    last = next((sample for sample in reversed(samples) if sample.run_p50_s is not None), None)
    if last is None:
        return []
    return [
        Fact("Wait p50", duration(last.wait_p50_s), hint="From submit to claim, median."),
        Fact("Wait p95", duration(last.wait_p95_s), hint="From submit to claim; 95 % are faster."),
        Fact("Run p50", duration(last.run_p50_s), hint="Time in the handler, median."),
        Fact("Run p95", duration(last.run_p95_s), hint="Time in the handler; 95 % are faster."),
    ]


# -- steps ------------------------------------------------------------------------------------------------------------


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
        error=shortened(step.error) if step.error else None,
    )


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
        return "Failed for good: no retry is left. Requeue it to give it a fresh set of retries."
    match step.status:
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
            error=entry.get("error"),
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


def profile_columns(result: JSON) -> list[dict[str, Any]] | None:
    """The columns of a `process_data` result as rows of a table; None if this is not such a result."""
    columns = result.get("columns") if isinstance(result, dict) else None
    if isinstance(columns, dict):
        columns = [{"name": name, **about} for name, about in columns.items() if isinstance(about, dict)]
    if not isinstance(columns, list) or not columns or not all(isinstance(column, dict) for column in columns):
        return None
    # A column of one table may hold numbers here and dates there: as text they can stand together.
    return [{key: _cell(value) for key, value in column.items()} for column in columns]


def _cell(value: Any) -> Any:
    if value is None:
        return None
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else shortened(value)


def profile_facts(result: JSON) -> list[Fact]:
    """The single values of a result, e.g. how many rows a file has."""
    if not isinstance(result, dict):
        return []
    return [
        Fact(_label(key), f"{value:,}" if isinstance(value, int) else shortened(value, 200))
        for key, value in result.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    ]


def _label(key: object) -> str:
    # Labels are Markdown on screen, and this one comes from a step.
    return re.sub(r"[^A-Za-z0-9 -]", " ", str(key)[:40])


def known_tasks(snap: Snapshot | None, local: Iterable[str]) -> list[str]:
    """The task types that pods have published, and this process's own."""
    names = set(local)
    for pod in snap.pods if snap else ():
        names.update(str(name) for name in pod.meta.get("tasks") or [])
    return sorted(names)


# -- pods -------------------------------------------------------------------------------------------------------------


def life_of(pod: PodRecord, snap: Snapshot) -> str:
    """alive, dead (fell silent) or down (stopped, or declared dead and recovered)."""
    if pod.is_alive(snap.now_ts, snap.threshold_s):
        return "alive"
    return "dead" if pod.status == "up" else "down"


def pod_lines(snap: Snapshot) -> list[PodLine]:
    """The pods: the living first, the leader on top."""
    order = {"alive": 0, "dead": 1, "down": 2}
    lines = [_pod_line(pod, snap) for pod in snap.pods]
    return sorted(lines, key=lambda line: (order[line.life[0]], not line.leader, line.birth or "", line.pod))


def _pod_line(pod: PodRecord, snap: Snapshot) -> PodLine:
    meta, life = pod.meta, life_of(pod, snap)
    running, capacity = _number(meta.get("running_count")), _number(meta.get("capacity"))
    errors = meta.get("last_errors") or []
    return PodLine(
        pod=pod.pod_id,
        life=[life],
        leader="★ leader" if snap.leader and snap.leader.incarnation == pod.incarnation else "",
        state=str(meta.get("state", "")) if life == "alive" else "",
        heartbeat_age_s=round(max(0.0, snap.now_ts - pod.last_heartbeat_ts), 1),
        running=running if life == "alive" else 0,
        capacity=capacity,
        load=min(1.0, running / capacity) if capacity and life == "alive" else 0.0,
        buffered=_number(meta.get("buffered")) if life == "alive" else 0,
        stuck=_number(meta.get("stuck")) if life == "alive" else 0,
        completed=_number(meta.get("completed")),
        failed=_number(meta.get("failed")),
        stale_refused=_number(meta.get("stale_refused")),
        outbox=_number(meta.get("outbox")),
        birth=format_ts(pod.birth_ts),
        version=str(meta.get("version", "")),
        incarnation=pod.incarnation,
        last_error=shortened(errors[-1]) if errors else None,
    )


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


# -- recovery ---------------------------------------------------------------------------------------------------------


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


def stale_refused(snap: Snapshot) -> int:
    """Completions that came too late and were refused, over all pods on record."""
    return sum(_number(pod.meta.get("stale_refused")) for pod in snap.pods)
