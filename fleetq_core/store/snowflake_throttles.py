"""What living pods publish of their throttles, as rows for Snowflake.

It may be another version's, or nonsense: only what has the right type counts, the rest is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fleetq_core.model import PodRecord

from .snowflake_connection import timestamp

_MOST = 10**12
_WHOLE = ("max_inflight", "current_inflight", "waiting")
_TOTALS = ("total_requests", "total_throttles", "total_timeouts", "fleet_limit")


@dataclass(frozen=True, slots=True)
class Change:
    """A row of throttle_change."""

    incarnation: str
    name: str
    n: int
    pod_id: str
    at_ts: float
    before: int | None
    after: int
    reason: str
    times: int

    @property
    def key(self) -> tuple[str, str, int]:
        """Its primary key."""
        return self.incarnation, self.name, self.n

    def row(self) -> list[Any]:
        """Its columns, for a JSON bind."""
        at = timestamp(self.at_ts).isoformat(" ", "microseconds")
        return [
            self.incarnation, self.name, self.n, self.pod_id, at, self.before, self.after, self.reason, self.times,
        ]  # fmt: skip


def figures(pods: Iterable[PodRecord]) -> list[list[Any]]:
    """A row of throttle_sample for each throttle of each pod."""
    return [
        [
            name, pod.pod_id, *(_whole(told.get(key)) for key in _WHOLE),
            _number(told.get("current_p95_latency")), _number(told.get("baseline_latency")),
            *(_whole(told.get(key)) for key in _TOTALS),
        ]
        for pod in pods for name, told in _throttles(pod)
    ]  # fmt: skip


def changes(pods: Iterable[PodRecord]) -> list[Change]:
    """The runs of changes that pods tell of."""
    found = []
    for pod in pods:
        for name, told in _throttles(pod):
            listed = told.get("changes")
            for run in listed if isinstance(listed, list) else ():
                if isinstance(run, dict) and (change := _change(pod, name, run)):
                    found.append(change)
    return found


def _change(pod: PodRecord, name: str, run: Mapping[str, Any]) -> Change | None:
    n, before, after, times = (_whole(run.get(key)) for key in ("n", "before", "after", "times"))
    ago_s, reason = _number(run.get("ago_s")), _reason(run.get("reason"))
    if n is None or before is None or after is None or not times or ago_s is None or reason is None:
        return None
    return Change(
        pod.incarnation, name, n, pod.pod_id, pod.last_heartbeat_ts - ago_s, before, after, reason, times
    )  # fmt: skip


def joined(told: Iterable[Change], known: Iterable[Sequence[Any]]) -> list[Change]:
    """The changes under the numbers of the runs on record that they belong to.

    A run may grow after it was written; and when its beginning has left the pod's log, the rest is still that run.
    """
    begun = {(incarnation, name, n): (at, reason, times) for incarnation, name, n, at, reason, times in known}
    found: dict[tuple[str, str, int], Change] = {}
    for change in told:
        first, reason, times = begun.get(change.key, (change.n, "", 0))
        if first + times > change.n and reason == change.reason:
            change = replace(change, n=first, times=change.n + change.times - first)
        if change.key not in found or found[change.key].times < change.times:
            found[change.key] = change
    return list(found.values())


def plan_changes(leader: PodRecord, known: Iterable[Sequence[Any]]) -> list[Change]:
    """Why the fleet's limits moved, by the leader's plans. Changes between two samples are told as one."""
    last = {name: (n, after) for name, n, after in known}
    plans = leader.meta.get("throttle_plans")
    found = []
    for name, plan in plans.items() if isinstance(plans, dict) else ():
        if not isinstance(plan, dict):
            continue
        epoch, limit, reason = _whole(plan.get("epoch")), _whole(plan.get("limit")), _reason(plan.get("reason"))
        n, before = last.get(name, (epoch, None))
        if epoch is None or limit is None or reason is None or before == limit:
            continue
        found.append(
            Change("*" + leader.incarnation, name, epoch, "*", leader.last_heartbeat_ts, before, limit, reason,
                   max(1, epoch - n))
        )  # fmt: skip
    return found


def _throttles(pod: PodRecord) -> Iterator[tuple[str, Mapping[str, Any]]]:
    published = pod.meta.get("throttles")
    if isinstance(published, dict):
        yield from ((name, told) for name, told in published.items() if isinstance(told, dict))


def _whole(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST else None


def _number(value: object) -> float | None:
    return value if type(value) in (int, float) and 0 <= value <= _MOST else None  # type: ignore[operator,return-value]


def _reason(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= 40 else None
