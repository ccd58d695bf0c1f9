"""The Throttles screen: which throttle is squeezed and why, its curves, and why its limit moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleetq_core.dashboard.snapshot import LATELY_S, Snapshot
from fleetq_core.model import ThrottleChange, ThrottleSample, living
from fleetq_core.shapes import published_throttles

from .throttle_curves import limit_points
from .throttle_figures import count, figure, grown
from .throttle_log import WHOLE_FLEET, last_move, live_changes
from .words import Fact, duration, number, plural

REFUSED_OFTEN = 0.05
_CALM_PAUSE_S = 0.5
# Worst first. A word, not a number, says how a throttle is.
STATES = ("paused", "refused often", "held", "at its limit", "learning", "steady", "idle")
SQUEEZED = STATES[:4]


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


def throttle_lines(snap: Snapshot) -> list[ThrottleLine]:
    """The throttles of the living pods, worst first."""
    published = published_throttles(snap.pods, snap.now_ts, snap.threshold_s)
    lines = [_throttle_line(snap, name, by_pod) for name, by_pod in published.items()]
    return sorted(lines, key=lambda line: (STATES.index(line.state[0]), -line.waiting, line.throttle))


def reason(line: ThrottleLine) -> str:
    """Why it is in its state, and what its limit did last."""
    return f"{line.why}." + (f" Limit: {line.last_move}." if line.last_move else "")


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
    fleet_limit = max((v for f in by_pod.values() if (v := count(f, "fleet_limit")) is not None), default=None)
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
        last_move=last_move(moves, snap.now_ts, where=len(pods) > 1),
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
    calls = grown([*(s.requests for s in own), count(figures, "total_requests")])
    refused = grown([*(s.refused for s in own), count(figures, "total_throttles")])
    state, why = _state(snap, pod_id, figures, calls, refused)
    return PodLine(
        pod=pod_id,
        state=[state],
        why=why,
        limit=count(figures, "max_inflight"),
        in_flight=count(figures, "current_inflight") or 0,
        waiting=count(figures, "waiting") or 0,
        refused_share=refused / calls if calls else None,
        refused=refused,
        timeouts=grown([*(s.timeouts for s in own), count(figures, "total_timeouts")]),
        calls=calls,
        p95_s=figure(figures, "current_p95_latency"),
        usual_s=figure(figures, "baseline_latency"),
        last_move=last_move([move for move in moves if move.pod_id == pod_id], snap.now_ts),
    )


def _state(snap: Snapshot, pod_id: str, figures: Mapping[str, Any], calls: int, refused: int) -> tuple[str, str]:
    """The state of a throttle on one pod, and the reason in words."""
    beat_ts = next((pod.last_heartbeat_ts for pod in snap.pods if pod.pod_id == pod_id), snap.now_ts)
    shut_s = (figure(figures, "shut_s") or 0.0) - (snap.now_ts - beat_ts)
    limit, in_flight = count(figures, "max_inflight"), count(figures, "current_inflight") or 0
    waiting = count(figures, "waiting") or 0
    # A slot that was just refused stays taken for about a round trip, though nothing is under way in it.
    taken = in_flight > 0 and count(figures, "available_capacity") == 0
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
    p95_s, usual_s = figure(figures, "current_p95_latency"), figure(figures, "baseline_latency")
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
