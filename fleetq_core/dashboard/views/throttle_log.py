"""Why the limit of a throttle moved: the changes that pods and their leader tell of, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.model import ThrottleChange, format_ts

from .throttle_figures import count, figure
from .words import duration, plural, shortened

FLEET = "*"
WHOLE_FLEET = "whole fleet"


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """One line of the log: what a limit did, and why."""

    at: str | None
    pod: str
    move: list[str]
    limit: str
    why: str


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
            n, after, times = (count(entry, key) for key in ("n", "after", "times"))
            ago_s = figure(entry, "ago_s")
            if n is not None and after is not None and times and ago_s is not None:
                reason, at_ts = str(entry.get("reason")), pod.last_heartbeat_ts - ago_s
                found.append(
                    ThrottleChange(
                        name, pod.pod_id, pod.incarnation, n, at_ts, count(entry, "before"), after, reason, times
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


def last_move(moves: Sequence[ThrottleChange], now_ts: float, *, where: bool = False) -> str:
    """The last move that says why the limit is where it is: not the tries above it, which come and go."""
    if not moves:
        return ""
    told = (move for move in moves if move.reason not in (*_TRIES, "latency hold"))
    change = next(told, moves[0])
    pod = f" on {change.pod_id}" if where else ""
    return f"{_limits(change.before, change.after)}{pod}, {duration(now_ts - change.at_ts)} ago: {_why(change)}"
