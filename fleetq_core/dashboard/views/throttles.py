"""The Throttles screen: which throttle is squeezed and why, its curves, and why its limit moved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from fleetq_core.dashboard.snapshot import LATELY_S, Snapshot
from fleetq_core.model import ThrottleChange, ThrottleSample, format_ts, living
from fleetq_core.shapes import published_throttles

from .words import Fact, duration, number, plural, shortened

FLEET = "*"
WHOLE_FLEET = "whole fleet"
REFUSED_OFTEN = 0.05
MOST_PODS = 8  # curves in one chart; the others are added up
_CALM_PAUSE_S = 0.5
# Worst first. A word, not a number, says how a throttle is.
STATES = ("paused", "refused often", "held", "at its limit", "learning", "steady", "idle")
SQUEEZED = STATES[:4]

Point = tuple[float, str, float]  # time, series, value


@dataclass(frozen=True, slots=True)
class PodLine:
    """One throttle on one pod."""

    pod: str
    state: list[str]
    why: str
    limit: int | None
    in_flight: int
    waiting: int
    refused_share: float | None
    refused: int
    timeouts: int
    calls: int
    p95_s: float | None
    usual_s: float | None
    last_move: str


@dataclass(frozen=True, slots=True)
class ThrottleLine:
    """One throttle of the whole fleet, with its lines by pod."""

    throttle: str
    state: list[str]
    why: str
    last_move: str
    limit: int | None
    highest: int | None
    in_flight: int
    waiting: int
    refused_share: float | None
    p95_s: float | None
    usual_s: float | None
    scope: str
    on: int
    pods: tuple[PodLine, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """One line of the log: what a limit did, and why."""

    at: str | None
    pod: str
    move: list[str]
    limit: str
    why: str


def throttle_lines(snap: Snapshot) -> list[ThrottleLine]:
    """The throttles of the living pods, worst first."""
    published = published_throttles(snap.pods, snap.now_ts, snap.threshold_s)
    lines = [_throttle_line(snap, name, by_pod) for name, by_pod in published.items()]
    return sorted(lines, key=lambda line: (STATES.index(line.state[0]), -line.waiting, line.throttle))


def squeezed(lines: Iterable[ThrottleLine]) -> list[ThrottleLine]:
    """Those that make callers wait, or are refused."""
    return [line for line in lines if line.state[0] in SQUEEZED]


def paused(lines: Iterable[ThrottleLine]) -> list[ThrottleLine]:
    """Those that start nothing, on some pod, because the downstream has asked for it."""
    return [line for line in lines if line.state == ["paused"]]


def often_refused(lines: Iterable[ThrottleLine]) -> list[ThrottleLine]:
    """Those of which the downstream has refused more than an odd call lately."""
    return [line for line in lines if line.refused_share is not None and line.refused_share > REFUSED_OFTEN]


# -- one throttle -----------------------------------------------------------------------------------------------------


def _throttle_line(snap: Snapshot, name: str, by_pod: Mapping[str, Mapping[str, Any]]) -> ThrottleLine:
    samples = [sample for sample in snap.throttle_samples if sample.name == name]
    moves = live_changes(snap, name)
    pods = sorted(
        (_pod_line(snap, pod_id, figures, samples, moves) for pod_id, figures in by_pod.items()),
        key=lambda line: (STATES.index(line.state[0]), -line.waiting, line.pod),
    )
    shared = any(figures.get("scope") == "fleet" for figures in by_pod.values())
    fleet_limit = max((v for f in by_pod.values() if (v := _count(f, "fleet_limit")) is not None), default=None)
    limits = [line.limit for line in pods if line.limit is not None]
    limit = fleet_limit if shared and fleet_limit is not None else sum(limits) if limits else None
    calls, refused = sum(line.calls for line in pods), sum(line.refused for line in pods)
    worst = pods[0]
    same = [line for line in pods if line.state == worst.state]
    where = ", on all pods" if len(same) == len(pods) else f", on {len(same)} of {len(pods)} pods"
    state = worst.state[0]
    why = worst.why if len(pods) == 1 else _why_of_all(state, same, limit, worst) + where
    if calls and refused > REFUSED_OFTEN * calls and STATES.index(state) > 1:
        state, why = "refused often", _refused_words(refused, calls)
    seen = [value for _, series, value in limit_points(samples, 0) if series == ("fleet limit" if shared else "limit")]
    return ThrottleLine(
        throttle=name,
        state=[state],
        why=why,
        last_move=_last_move(moves, snap.now_ts, where=len(pods) > 1),
        limit=limit,
        highest=max([*(int(value) for value in seen), limit], default=None) if limit is not None else None,
        in_flight=sum(line.in_flight for line in pods),
        waiting=sum(line.waiting for line in pods),
        refused_share=refused / calls if calls else None,
        p95_s=max((line.p95_s for line in pods if line.p95_s is not None), default=None),
        usual_s=max((line.usual_s for line in pods if line.usual_s is not None), default=None),
        scope=WHOLE_FLEET if shared else "each pod",
        on=len(pods),
        pods=tuple(pods),
    )


def _why_of_all(state: str, same: Sequence[PodLine], limit: int | None, worst: PodLine) -> str:
    if state == "at its limit" and limit is not None:
        waiting = sum(line.waiting for line in same)
        return "all slots are taken" + _queue_words(waiting)
    if state == "refused often":
        return _refused_words(sum(line.refused for line in same), sum(line.calls for line in same))
    return worst.why


def _pod_line(
    snap: Snapshot,
    pod_id: str,
    figures: Mapping[str, Any],
    samples: Sequence[ThrottleSample],
    moves: Sequence[ThrottleChange],
) -> PodLine:
    own = [sample for sample in samples if sample.pod_id == pod_id]
    calls = _grown([*(s.requests for s in own), _count(figures, "total_requests")])
    refused = _grown([*(s.refused for s in own), _count(figures, "total_throttles")])
    state, why = _state(snap, pod_id, figures, calls, refused)
    return PodLine(
        pod=pod_id,
        state=[state],
        why=why,
        limit=_count(figures, "max_inflight"),
        in_flight=_count(figures, "current_inflight") or 0,
        waiting=_count(figures, "waiting") or 0,
        refused_share=refused / calls if calls else None,
        refused=refused,
        timeouts=_grown([*(s.timeouts for s in own), _count(figures, "total_timeouts")]),
        calls=calls,
        p95_s=_figure(figures, "current_p95_latency"),
        usual_s=_figure(figures, "baseline_latency"),
        last_move=_last_move([move for move in moves if move.pod_id == pod_id], snap.now_ts),
    )


def _state(snap: Snapshot, pod_id: str, figures: Mapping[str, Any], calls: int, refused: int) -> tuple[str, str]:
    """The state of a throttle on one pod, and the reason in words."""
    beat_ts = next((pod.last_heartbeat_ts for pod in snap.pods if pod.pod_id == pod_id), snap.now_ts)
    shut_s = (_figure(figures, "shut_s") or 0.0) - (snap.now_ts - beat_ts)
    limit, in_flight = _count(figures, "max_inflight"), _count(figures, "current_inflight") or 0
    waiting = _count(figures, "waiting") or 0
    # A slot that was just refused stays taken for about a round trip, though nothing is under way in it.
    taken = in_flight > 0 and _count(figures, "available_capacity") == 0
    full = waiting > 0 or taken or (limit is not None and in_flight >= limit > 0)
    queue = _queue_words(waiting)
    if shut_s > _CALM_PAUSE_S:
        return "paused", f"paused for {duration(shut_s)} by the downstream{queue}"
    if calls and refused > REFUSED_OFTEN * calls:
        return "refused often", _refused_words(refused, calls) + queue
    if figures.get("slow") is True:
        return "held", f"latency {_times_usual(figures)}: the limit does not grow{queue}"
    if limit == 0 and full:
        return "at its limit", f"this pod has no share of the fleet's limit{queue}"
    if full:
        return "at its limit", _taken_words(limit) + queue
    if not calls and not in_flight:
        return "idle", f"no call in the last {duration(LATELY_S)}"
    if figures.get("baseline_latency") is None:
        return "learning", "too few answers to know the usual latency"
    return "steady", "fewer calls than the limit allows"


def _taken_words(limit: int | None) -> str:
    if limit == 1:
        return "its one slot is taken"
    return f"all {limit} slots are taken" if limit else "all slots are taken"


def _queue_words(waiting: int) -> str:
    return f", {plural(waiting, 'caller')} {'waits' if waiting == 1 else 'wait'}" if waiting else ""


def _refused_words(refused: int, calls: int) -> str:
    return f"{refused / calls:.0%} of calls refused ({refused:,} of {calls:,} in {duration(LATELY_S)})"


def _times_usual(figures: Mapping[str, Any]) -> str:
    p95_s, usual_s = _figure(figures, "current_p95_latency"), _figure(figures, "baseline_latency")
    return f"is {p95_s / usual_s:.1f}× the usual" if p95_s and usual_s else "is above the usual"


def exchange_fact(line: ThrottleLine, snap: Snapshot) -> list[Fact]:
    """What sharing the limit costs; nothing for a throttle that each pod learns alone."""
    if line.scope != WHOLE_FLEET:
        return []
    beats = sum(number(pod.meta.get("exchanges")) for pod in living(snap.pods, snap.now_ts, snap.threshold_s))
    hint = "Heartbeats beyond the usual ones, of all living pods since they started: a pod that uses a throttle of the "
    hint += "fleet beats every 2 s, unless set otherwise, and each beat costs 6 statements on the embedded store."
    return [Fact("Extra heartbeats", f"{beats:,}", hint=hint)]


def throttle_facts(line: ThrottleLine, samples: Sequence[ThrottleSample]) -> list[Fact]:
    """The head of one throttle."""
    shared = line.scope == WHOLE_FLEET
    series = "fleet limit" if shared else "limit"
    seen = [int(value) for _, name, value in limit_points(samples, 0) if name == series]
    highest = max([*seen, line.limit or 0])
    slots = "–" if line.limit is None else f"{plural(line.limit, 'call')} at once"
    return [
        Fact("Limit", slots, hint="Learnt from answers and refusals; of all pods together."),
        Fact("Highest in the last hour", f"{highest:,}" if highest else "–"),
        Fact("In flight", f"{line.in_flight:,}", hint="Calls under way, as of the pods' last heartbeats."),
        Fact("Waiting", f"{line.waiting:,}", hint="Callers that have no slot yet."),
        Fact("Refused, last 5 min", "–" if line.refused_share is None else f"{line.refused_share:.1%}"),
        Fact("Latency p95", duration(line.p95_s), hint="Of answered calls, on the slowest pod; 95 % are faster."),
        Fact("Usual p95", duration(line.usual_s), hint="The limit does not grow while p95 is far above it."),
        Fact(
            "Scope",
            "shared by the fleet" if shared else "learnt by each pod",
            hint="A throttle of the fleet has one limit that the leader shares out; otherwise each pod learns its own.",
        ),
    ]


# -- why limits moved -------------------------------------------------------------------------------------------------

_REASONS = {
    "increase": "answers came while the limit was reached",
    "slow start": "a fresh start: every answer raises it",
    "probe": "tries one more above the ceiling it knows",
    "probe undone": "the try above the ceiling was refused",
    "throttle": "the downstream refused a call",
    "timeout": "a call ran into its time limit",
    "latency hold": "not raised: latency is far above the usual",
    "reset": "reset by an operator",
    "fleet share": "the leader gave this pod another share of the fleet's limit",
    "own rule": "no word from a leader: this pod goes by its own rule",
}
_TRIES = ("probe", "probe undone")
_FLEET_REASONS = {
    "start": "the first plan: the initial limit",
    "new leader": "a new leader went on from what the pods were using",
    "throttle": "pods reported refused calls",
    "timeout": "too many calls ran into their time limit",
    "probe": "all of it was used without a refusal",
}


def live_changes(snap: Snapshot, name: str) -> list[ThrottleChange]:
    """What the pods publish about the moves of their limits right now, newest first."""
    found = []
    for pod in snap.pods:
        throttles = pod.meta.get("throttles") if pod.is_alive(snap.now_ts, snap.threshold_s) else None
        figures = throttles.get(name) if isinstance(throttles, dict) else None
        published = figures.get("changes") if isinstance(figures, dict) else None
        for entry in published if isinstance(published, list) else ():
            n, after, times = (_count(entry, key) for key in ("n", "after", "times"))
            ago_s = _figure(entry, "ago_s")
            if n is not None and after is not None and times and ago_s is not None:
                reason, at_ts = str(entry.get("reason")), pod.last_heartbeat_ts - ago_s
                found.append(
                    ThrottleChange(
                        name, pod.pod_id, pod.incarnation, n, at_ts, _count(entry, "before"), after, reason, times
                    )
                )
    return _newest_first(found)


def all_changes(kept: Iterable[ThrottleChange], live: Iterable[ThrottleChange]) -> list[ThrottleChange]:
    """The log of the store with what pods have published since the last sample, each run once."""
    found = {(c.incarnation, c.n): c for c in kept}
    for change in live:
        run = next(
            (
                c
                for c in found.values()
                if c.incarnation == change.incarnation and c.reason == change.reason and c.n <= change.n < c.n + c.times
            ),
            None,
        )
        if run is None:
            found[change.incarnation, change.n] = change
        elif run.n + run.times < change.n + change.times:
            found[run.incarnation, run.n] = ThrottleChange(
                run.name, run.pod_id, run.incarnation, run.n, change.at_ts, run.before, change.after, run.reason,
                change.n + change.times - run.n,
            )  # fmt: skip
    return _newest_first(found.values())


def _newest_first(changes: Iterable[ThrottleChange]) -> list[ThrottleChange]:
    return sorted(changes, key=lambda c: (-c.at_ts, -c.n, c.pod_id))


def change_lines(changes: Iterable[ThrottleChange]) -> list[ChangeLine]:
    """The log in words, from the newest; a pod's tries in a row, and what became of them, are one line."""
    groups: list[list[ThrottleChange]] = []
    trying: dict[str, list[ThrottleChange]] = {}
    for change in changes:
        if change.pod_id != FLEET and change.reason in _TRIES:
            if change.incarnation not in trying:
                trying[change.incarnation] = []
                groups.append(trying[change.incarnation])
            trying[change.incarnation].append(change)
        else:
            trying.pop(change.incarnation, None)
            groups.append([change])
    return [_change_line(group) for group in groups]


def _change_line(group: Sequence[ThrottleChange]) -> ChangeLine:
    newest, before = group[0], group[-1].before
    why = _why(newest) + (f" · {newest.times:,} moves in a row" if newest.times > 1 else "")
    if len(group) > 1:
        tries = sum(change.times for change in group if change.reason == "probe")
        undone = sum(change.times for change in group if change.reason == "probe undone")
        why = f"tried one more above the ceiling it knows, {plural(tries, 'time')}; refused {plural(undone, 'time')}"
    return ChangeLine(
        at=format_ts(newest.at_ts),
        pod=WHOLE_FLEET if newest.pod_id == FLEET else newest.pod_id,
        move=[_verb(newest.reason, before, newest.after)],
        limit=_limits(before, newest.after),
        why=why,
    )


def _verb(reason: str, before: int | None, after: int) -> str:
    if reason == "reset":
        return "reset"
    if before is None or before == after:
        return "held" if reason == "latency hold" else "steady"
    return "raised" if after > before else "lowered"


def _limits(before: int | None, after: int) -> str:
    return f"{after}" if before in (None, after) else f"{before} → {after}"


def _why(change: ThrottleChange) -> str:
    words = _FLEET_REASONS if change.pod_id == FLEET else _REASONS
    return words.get(change.reason) or _REASONS.get(change.reason) or shortened(change.reason, 40)


def _last_move(moves: Sequence[ThrottleChange], now_ts: float, *, where: bool = False) -> str:
    """The last move that says why the limit is where it is: not the tries above it, which come and go."""
    if not moves:
        return ""
    told = (move for move in moves if move.reason not in (*_TRIES, "latency hold"))
    change = next(told, moves[0])
    pod = f" on {change.pod_id}" if where else ""
    return f"{_limits(change.before, change.after)}{pod}, {duration(now_ts - change.at_ts)} ago: {_why(change)}"


# -- curves -----------------------------------------------------------------------------------------------------------


def limit_points(samples: Iterable[ThrottleSample], width_s: float) -> list[Point]:
    """(time, what, calls): the limit and what is in flight, of all pods together; the fleet's own limit if it has."""
    points: list[Point] = []
    for ts, by_pod in _spans(samples, width_s):
        fleet = [s.fleet_limit for s in by_pod.values() if s.fleet_limit is not None]
        limits = [s.limit for s in by_pod.values() if s.limit is not None]
        if fleet:
            points.append((ts, "fleet limit", float(max(fleet))))
        if limits:
            points.append((ts, "shares of pods" if fleet else "limit", float(sum(limits))))
        points.append((ts, "in flight", float(sum(s.in_flight or 0 for s in by_pod.values()))))
    return points


def share_points(samples: Sequence[ThrottleSample], width_s: float) -> list[Point]:
    """(time, pod, limit) for the pods with the largest limits; the others are added up."""
    spans = list(_spans(samples, width_s))
    total: dict[str, int] = {}
    for _, by_pod in spans:
        for pod_id, sample in by_pod.items():
            total[pod_id] = total.get(pod_id, 0) + (sample.limit or 0)
    shown = sorted(sorted(total, key=lambda pod_id: (-total[pod_id], pod_id))[:MOST_PODS])
    points: list[Point] = []
    for ts, by_pod in spans:
        points += [(ts, pod_id, float(by_pod[pod_id].limit or 0) if pod_id in by_pod else 0.0) for pod_id in shown]
        if len(total) > len(shown):
            others = sum(s.limit or 0 for pod_id, s in by_pod.items() if pod_id not in shown)
            points.append((ts, "other pods", float(others)))
    return points


def latency_points(samples: Iterable[ThrottleSample], width_s: float) -> list[Point]:
    """(time, what, seconds): p95 of the slowest pod, and the usual p95 of that pod."""
    points: list[Point] = []
    for ts, by_pod in _spans(samples, width_s):
        measured = [sample for sample in by_pod.values() if sample.p95_s is not None]
        if measured:
            slowest = max(measured, key=lambda sample: sample.p95_s or 0.0)
            points.append((ts, "p95", slowest.p95_s or 0.0))
            if slowest.baseline_s is not None:
                points.append((ts, "usual p95", slowest.baseline_s))
    return points


def refusal_points(samples: Iterable[ThrottleSample], width_s: float) -> list[Point]:
    """(time, what, calls a minute): refused, and given up at a time limit."""
    points: list[Point] = []
    for (before_ts, before), (ts, now) in pairwise(_spans(samples, width_s)):
        minutes = (ts - before_ts) / 60
        both = [(before[pod_id], sample) for pod_id, sample in now.items() if pod_id in before]
        for what, name in (("refused", "refused"), ("timed out", "timeouts")):
            count = sum(_grown([getattr(first, name), getattr(last, name)]) for first, last in both)
            points.append((ts, what, round(count / minutes, 2)))
    return points


def _spans(samples: Iterable[ThrottleSample], width_s: float) -> Iterable[tuple[float, dict[str, ThrottleSample]]]:
    """The last sample of each pod in spans of `width_s` that begin at its multiples; 0: each moment by itself."""
    for _, group in groupby(samples, key=lambda s: s.sampled_ts // width_s if width_s else s.sampled_ts):
        span = list(group)
        yield span[-1].sampled_ts, {sample.pod_id: sample for sample in span}


# -- figures ----------------------------------------------------------------------------------------------------------


def _grown(totals: Sequence[int | None]) -> int:
    """By how much a total has grown; one that falls has started again from 0."""
    known = [total for total in totals if total is not None]
    return sum(after - before if after >= before else after for before, after in pairwise(known))


def _figure(figures: Any, name: str) -> float | None:
    """A number that a pod has published; None for whatever else another version may say there."""
    value = figures.get(name) if isinstance(figures, dict) else None
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known and 0 <= value <= 1e12 else None  # type: ignore[operator,arg-type]


def _count(figures: Any, name: str) -> int | None:
    value = _figure(figures, name)
    return None if value is None else int(value)
