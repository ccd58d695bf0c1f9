"""Who led the fleet when, and the times of which no leader is on record.

The leader alone writes samples. A gap between them therefore means that nobody led, or that the leader could not write.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.model import PodSample

from .pods import fleet_rests
from .words import day_and_second, duration, plural

MISSED = 2.5  # intervals between two samples that are more than an unlucky moment
NOBODY, UNKNOWN = "no leader", "no record"
NO_RECORD = "Nothing is on record before."


@dataclass(frozen=True, slots=True)
class Reign:
    """A time in which one process led, or, with an empty `pod`, of which no leader is on record."""

    pod: str
    incarnation: str
    start_ts: float
    end_ts: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class ReignLine:
    """A reign in a table."""

    pod: list[str]
    start: str
    end: str
    lasted: str
    note: str


@dataclass(frozen=True, slots=True)
class _Moment:
    ts: float
    pods: frozenset[str]
    busy: bool
    leader: tuple[str, str]


def reigns(samples: Iterable[PodSample], since_ts: float, spacing_s: float, snap: Snapshot) -> list[Reign]:
    """The reigns from `since_ts` until now, oldest first, without a hole. Samples lie `spacing_s` apart."""
    moments = [moment for moment in map(_moment, _by_time(samples)) if moment is not None]
    if not moments:
        return [Reign("", "", since_ts, snap.now_ts, _why_now(snap))] if since_ts < snap.now_ts else []
    found: list[Reign] = []
    first, last = moments[0], moments[-1]
    if first.ts - since_ts > MISSED * spacing_s:
        found.append(Reign("", "", since_ts, first.ts, NO_RECORD))
    start_ts = since_ts if not found else first.ts
    for at, after in pairwise(moments):
        if after.ts - at.ts > MISSED * spacing_s:
            end_ts = at.ts + spacing_s
            _add(found, Reign(*at.leader, start_ts, end_ts))
            _add(found, Reign("", "", end_ts, after.ts, _why_then(at, after)))
        else:
            _add(found, Reign(*at.leader, start_ts, after.ts))
        start_ts = after.ts
    _finish(found, last, start_ts, spacing_s, snap)
    return found


def _finish(found: list[Reign], last: _Moment, start_ts: float, spacing_s: float, snap: Snapshot) -> None:
    """From the last sample until now: the snapshot knows who leads before the next sample does."""
    now = (snap.leader.pod_id, snap.leader.incarnation) if snap.leader else ("", "")
    recent = snap.now_ts - last.ts <= MISSED * spacing_s
    if recent and now == last.leader:
        _add(found, Reign(*now, start_ts, max(snap.now_ts, last.ts)))
        return
    end_ts = _heard_until(last, min(last.ts + spacing_s, snap.now_ts), snap)
    _add(found, Reign(*last.leader, start_ts, end_ts))
    if recent and snap.leader:
        if snap.leader.birth_ts > end_ts:
            note = f"{snap.leader.pod_id}, which leads now, had not started yet."
            _add(found, Reign("", "", end_ts, snap.leader.birth_ts, note))
        _add(found, Reign(*now, max(end_ts, snap.leader.birth_ts), snap.now_ts))
    elif end_ts < snap.now_ts:
        _add(found, Reign("", "", end_ts, snap.now_ts, _why_now(snap)))


def _heard_until(last: _Moment, latest_ts: float, snap: Snapshot) -> float:
    """When a leader that leads no more was heard of last: with samples minutes apart that is much closer."""
    heard = next((pod.last_heartbeat_ts for pod in snap.pods if pod.incarnation == last.leader[1]), latest_ts)
    return max(last.ts, min(heard, latest_ts))


def _by_time(samples: Iterable[PodSample]) -> list[list[PodSample]]:
    return [list(pods) for _, pods in groupby(samples, key=lambda sample: sample.sampled_ts)]


def _moment(pods: Sequence[PodSample]) -> _Moment | None:
    leader = next(((pod.pod_id, pod.incarnation) for pod in pods if pod.leads), None)
    if leader is None:
        return None
    return _Moment(
        pods[0].sampled_ts, frozenset(pod.incarnation for pod in pods), any(pod.running for pod in pods), leader
    )


def _add(found: list[Reign], reign: Reign) -> None:
    """At the end, or as more of the last reign where the same process goes on."""
    last = found[-1] if found else None
    if last and (last.pod, last.incarnation) == (reign.pod, reign.incarnation) and last.end_ts >= reign.start_ts:
        found[-1] = Reign(last.pod, last.incarnation, last.start_ts, reign.end_ts, last.note or reign.note)
    else:
        found.append(reign)


def _why_then(before: _Moment, after: _Moment) -> str:
    if not before.pods & after.pods:
        return "No pod lived through it: nobody was there to lead."
    if before.busy:
        return "Pods were at work before and lived on: the store was away, or they were frozen."
    return "Idle pods lived on: the fleet rested, or the store was away."


def _why_now(snap: Snapshot) -> str:
    if fleet_rests(snap):
        return "The fleet rests: there is nothing to do."
    if snap.leader is None:
        return "No living pod leads now."
    return f"{snap.leader.pod_id} leads now, but has written no sample."


def reign_lines(found: Sequence[Reign], now_ts: float, since_ts: float, limit: int) -> list[ReignLine]:
    """The newest reigns first, at most `limit`."""
    return [
        ReignLine(
            pod=[reign.pod or (UNKNOWN if reign.note == NO_RECORD else NOBODY)],
            start=day_and_second(reign.start_ts) if reign.start_ts > since_ts else "before",
            end=day_and_second(reign.end_ts) if reign.end_ts < now_ts else "now",
            lasted=("" if reign.start_ts > since_ts else "at least ") + duration(reign.end_ts - reign.start_ts),
            note=reign.note,
        )
        for reign in reversed(found[-limit:])
    ]


def summary(found: Sequence[Reign]) -> str:
    """One sentence about the whole time, and another one where the record does not reach back to its start."""
    led = [reign for reign in found if reign.pod]
    if not led:
        return "No leader is on record in this time."
    names = list(dict.fromkeys(reign.pod for reign in led))
    without_s = sum(reign.end_ts - reign.start_ts for reign in found if not reign.pod and reign.note != NO_RECORD)
    changes = sum(before.incarnation != after.incarnation for before, after in pairwise(led))
    told = f"{names[0]} was the only leader" if len(names) == 1 else f"{len(names)} pods led"
    told += f", with {plural(changes, 'change')} of leader" if changes else ""
    told += f"; for {duration(without_s)} no leader is on record." if without_s else ", without a gap."
    begins = next((reign.end_ts for reign in found if reign.note == NO_RECORD), None)
    return told + (f" Nothing is on record before {day_and_second(begins)} UTC." if begins else "")
