"""The Overview screen: is the fleet well, what does it do now, and what needs a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from operator import attrgetter

from fleetq_core.dashboard.snapshot import History, Snapshot
from fleetq_core.model import HeldClaims, RecoveryRun, Status, WorkSpan

from . import throttles
from .pods import alive_pods, dead_pods, fleet_rests, late_pods, oddities, published_runs
from .words import Fact, duration, number, plural

OLD_PENDING_S = 300.0
UNDER_WAY_S = 10.0
LATELY_S = 3600.0

FAILING, FAILING_BADLY = 0.05, 0.25  # of the steps that finished lately
GAP_SPANS = 2.5  # samples come a little late, and one span may have none: only a wider hole is a gap

Point = tuple[float, str, float | None]  # time, series, value; None ends a line
_DEPTHS = (Status.PENDING.value, Status.CLAIMED.value, Status.FAILED.value)
_FLOWS = ("submitted", "completed", "failed")
_PERCENTILES = ("p50", "p95", "p99")


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
class LoadRow:
    """How busy a living pod is; `load` is the share of its slots that run."""

    pod: str
    load: float
    running: int
    capacity: int
    buffered: int
    state: str


def health(snap: Snapshot, problem: str | None, orphans: int = 0) -> list[Fact]:
    """The health strip; `orphans` is how many claims dead pods hold."""
    alive, late, silent = len(alive_pods(snap)), len(late_pods(snap)), len(dead_pods(snap))
    resting, rests = sum(pod.rests for pod in snap.pods), fleet_rests(snap)
    counted = ((late, "late"), (silent, "dead"), (resting, "resting"))
    age = oldest_pending_s(snap)
    dead_letters = snap.stats.dead_letters
    return [
        Fact("Store", "down" if problem else "answers", "bad" if problem else "good"),
        Fact(
            "Pods alive",
            f"{alive}" + "".join(f", {n} {word}" for n, word in counted if n),
            "warn" if late or silent else "good" if alive or rests else "bad",
            "Pods that rest had nothing to do: they look now and then, and beat again when there is something.",
        ),
        Fact(
            "Leader",
            snap.leader.pod_id if snap.leader else "the fleet rests" if rests else "none",
            "good" if snap.leader or rests else "bad",
            "The oldest living pod leads: it recovers the steps of dead pods and retries failed ones.",
        ),
        Fact(
            "Oldest pending",
            "nothing waits" if age is None else duration(age),
            "good" if age is None or age < OLD_PENDING_S else "warn",
            "How long the oldest pending step has waited to be claimed.",
        ),
        _failure_fact(snap),
        _recovery_fact(snap, orphans),
        Fact(
            "Dead letters",
            f"{dead_letters:,}",
            "bad" if dead_letters else "good",
            "Failed steps with no retry left. They wait for a person.",
        ),
    ]


def failure_rate(snap: Snapshot) -> tuple[int, int]:
    """(failed, finished) steps of the last minutes, as sampled."""
    failed = sum(sample.failed_delta for sample in snap.samples)
    return failed, failed + sum(sample.completed_delta for sample in snap.samples)


def _failure_fact(snap: Snapshot) -> Fact:
    failed, finished = failure_rate(snap)
    hint = f"Of {plural(finished, 'step')} that finished in the last 5 minutes, {failed:,} failed; retries may follow."
    if not finished:
        return Fact("Failure rate", "none finished", "plain", "No step finished in the last 5 minutes.")
    share = failed / finished
    tone = "bad" if share >= FAILING_BADLY else "warn" if share >= FAILING else "good"
    return Fact("Failure rate", f"{share:.1%}", tone, hint)


def _recovery_fact(snap: Snapshot, orphans: int) -> Fact:
    due = snap.stats.retry_due + orphans
    hint = "Steps that the leader's next recovery cycle moves: claims of dead pods, and failures whose retry is due."
    if not due:
        return Fact("Recovery due", "nothing", "good", hint)
    return Fact("Recovery due", plural(due, "step"), "bad" if snap.leader is None else "warn" if orphans else "plain",
                hint if snap.leader else f"{hint} No pod leads: nobody will do it.")  # fmt: skip


def orphans(snap: Snapshot, held: Iterable[HeldClaims]) -> int:
    """How many claims are held by processes that are not among the living."""
    living = {pod.incarnation for pod in snap.pods if pod.is_alive(snap.now_ts, snap.threshold_s)}
    return sum(claims.steps for claims in held if claims.incarnation not in living)


def summary(snap: Snapshot, own_pod: tuple[str, str] | None) -> list[Fact]:
    """What every page says about the fleet; `own_pod` is the name and the state of this process's pod."""
    return [
        Fact("Pods alive", str(len(alive_pods(snap)))),
        Fact("Leader", snap.leader.pod_id if snap.leader else "the fleet rests" if fleet_rests(snap) else "none"),
        Fact("This pod", f"{own_pod[0]}, {own_pod[1]}", hint="The pod inside this dashboard.")
        if own_pod
        else Fact("This process", "runs no pod", hint="FLEET_Q_ROLE says so; pods run elsewhere."),
    ]


def attention(snap: Snapshot, failure: str | None = None) -> list[Attention]:
    """What needs a person, worst first."""
    found = []
    stats, age = snap.stats, oldest_pending_s(snap)
    if failure:
        found.append(Attention("This dashboard's own pod has stopped after an error.", "pods", "Pods", (), failure))
    if not alive_pods(snap) and not fleet_rests(snap):
        found.append(Attention("No pod is alive, so nothing will be claimed.", "pods", "See the pods"))
    elif snap.leader is None and alive_pods(snap):
        found.append(Attention("No pod leads, so nothing is recovered or retried.", "pods", "See the pods"))
    if stats.dead_letters:
        verb = "waits" if stats.dead_letters == 1 else "wait"
        text = f"{plural(stats.dead_letters, 'dead letter')} {verb} for a decision: requeue or leave."
        found.append(Attention(text, "recovery", "Look and requeue"))
    if silent := dead_pods(snap):
        text = f"{plural(len(silent), 'pod')} fell silent; the next recovery run takes the claims back."
        found.append(Attention(text, "recovery", "Run it now", (), ", ".join(pod.pod_id for pod in silent)))
    if late := late_pods(snap):
        oldest = max(snap.now_ts - pod.last_heartbeat_ts for pod in late)
        text = f"{plural(len(late), 'pod')} missed heartbeats, for {duration(oldest)} now; dead pods are recovered."
        found.append(Attention(text, "pods", "See the pods", (), ", ".join(pod.pod_id for pod in late)))
    if interrupted := [run for run in snap.runs if _is_interrupted(run, snap.now_ts)]:
        text = f"{plural(len(interrupted), 'recovery run')} ended in the middle: the leader stopped during it."
        found.append(Attention(text, "recovery", "See the runs"))
    if paused := [pod for pod in alive_pods(snap) if pod.meta.get("state") == "paused"]:
        text = f"{plural(len(paused), 'pod')} paused: nothing new is claimed there."
        found.append(Attention(text, "pods", "Resume", (), ", ".join(pod.pod_id for pod in paused)))
    if stuck := sum(number(pod.meta.get("stuck")) for pod in alive_pods(snap)):
        text = f"{plural(stuck, 'handler')} ran past the time limit and did not return; each holds a slot."
        found.append(Attention(text, "pods", "See the pods"))
    found += _squeezed_throttles(snap)
    found += _failing(snap) + _odd_pods(snap)
    if age is not None and age >= OLD_PENDING_S:
        text = f"The oldest pending step has waited {duration(age)}."
        found.append(Attention(text, "steps", "See pending steps", (("status", Status.PENDING.value),)))
    return found


def _failing(snap: Snapshot) -> list[Attention]:
    failed, finished = failure_rate(snap)
    if not finished or failed / finished < FAILING:
        return []
    text = f"{failed / finished:.0%} of the steps that ended in the last 5 minutes failed: {failed:,} of {finished:,}."
    return [Attention(text, "steps", "See failed steps", (("status", Status.FAILED.value),))]


def _odd_pods(snap: Snapshot) -> list[Attention]:
    return [Attention(sentence, "pods", "See the pods") for sentence in oddities(snap)]


def _squeezed_throttles(snap: Snapshot) -> list[Attention]:
    found, lines = [], throttles.throttle_lines(snap)
    if shut := throttles.paused(lines):
        text = f"{plural(len(shut), 'throttle')} paused: the downstream has asked for it, and no call starts meanwhile."
        found.append(_of_throttles(text, shut))
    if refused := [line for line in throttles.often_refused(lines) if line not in shut]:
        often = f"{throttles.REFUSED_OFTEN:.0%}"
        text = f"{plural(len(refused), 'throttle')} had more than {often} of calls refused in the last 5 minutes."
        found.append(_of_throttles(text, refused))
    return found


def _of_throttles(text: str, lines: Sequence[throttles.ThrottleLine]) -> Attention:
    detail = "\n".join(f"{line.throttle}: {line.why}" for line in lines[:10])
    return Attention(text, "throttles", "See why", (("throttle", lines[0].throttle),), detail)


def _is_interrupted(run: RecoveryRun, now_ts: float) -> bool:
    """Cut short, lately enough to matter, and not just under way."""
    return run.finished_ts is None and UNDER_WAY_S < now_ts - run.started_ts < LATELY_S


def oldest_pending_s(snap: Snapshot) -> float | None:
    """How long the oldest pending step has waited."""
    oldest = snap.stats.oldest_pending_ts
    return None if oldest is None else max(0.0, snap.now_ts - oldest)


def running_rows(snap: Snapshot) -> list[RunningRow]:
    """What runs now, longest first."""
    rows = []
    for pod in alive_pods(snap):
        since_beat = max(0.0, snap.now_ts - pod.last_heartbeat_ts)
        for run in published_runs(pod):
            note = "past its time limit" if run.get("timed_out") else ""
            told = run.get("seconds")
            seconds = (float(told) if isinstance(told, int | float) else 0.0) + since_beat
            rows.append(
                RunningRow(pod.pod_id, str(run.get("step_id")), str(run.get("task_type")), round(seconds, 1), note)
            )
    return sorted(rows, key=lambda row: (-row.seconds, row.pod))


def load_rows(snap: Snapshot) -> list[LoadRow]:
    """How busy each living pod is, the busiest first."""
    rows = []
    for pod in alive_pods(snap):
        running, capacity = number(pod.meta.get("running_count")), number(pod.meta.get("capacity"))
        load = min(1.0, running / capacity) if capacity else 0.0
        state = "late" if pod.is_late(snap.now_ts) else str(pod.meta.get("state", ""))
        rows.append(LoadRow(pod.pod_id, load, running, capacity, number(pod.meta.get("buffered")), state))
    return sorted(rows, key=lambda row: (-row.load, row.pod))


def depth_points(past: History) -> list[Point]:
    """(time, status, steps). Completed steps are history, not depth: throughput shows them."""
    return _curves(past, {name: attrgetter(f"most_{name}") for name in _DEPTHS})


def throughput_points(past: History) -> list[Point]:
    """(time, what, steps a second) for submitted, completed and failed."""
    return _curves(past, {name: partial(_rate, name) for name in _FLOWS})


def wait_points(past: History) -> list[Point]:
    """(time, percentile, seconds) from submit to claim."""
    return _curves(past, {name: attrgetter(f"wait_{name}_s") for name in _PERCENTILES})


def run_points(past: History) -> list[Point]:
    """(time, percentile, seconds) in the handler."""
    return _curves(past, {name: attrgetter(f"run_{name}_s") for name in _PERCENTILES})


def _rate(name: str, span: WorkSpan) -> float:
    return float(getattr(span, name)) / max(span.seconds, 0.001)


def _curves(past: History, series: Mapping[str, Callable[[WorkSpan], float | None]]) -> list[Point]:
    """The points of curves made of steps. A span without a value, or without a sample, is a gap and not a line over it:
    a span ends its curve with a point at its end and one without a value, unless the next begins there."""
    points: list[Point] = []
    for name, value_of in series.items():
        for span, following in zip_longest(past.spans, past.spans[1:]):
            value = value_of(span)
            if value is None:
                continue
            points.append((span.start_ts, name, round(value, 4)))
            ends = span.start_ts + past.width_s
            goes_on = following is not None and following.start_ts - span.start_ts < GAP_SPANS * past.width_s
            if not goes_on or value_of(following) is None:
                points += [(ends, name, round(value, 4)), (ends, name, None)]
    return points


def latest(points: Sequence[Point], past: History) -> str:
    """The newest value of each series in words, as far as the last two spans have one."""
    newest: dict[str, float] = {}
    for ts, name, value in points:
        if value is not None and ts >= past.now_ts - 2 * past.width_s:
            newest[name] = value
    return ", ".join(f"{name} {_figure(name, value)}" for name, value in newest.items()) or "nothing lately"


def _figure(name: str, value: float) -> str:
    if name in _PERCENTILES:
        return duration(value)
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"
