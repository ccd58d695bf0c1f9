"""What outside programs read and write, in one place for the command line and HTTP: JSON in, and the fields out."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping

from .errors import InvalidPayload
from .leader.election import leader_of
from .model import JSON, Identity, NewStep, PodRecord, RecoveryRun, StepRecord, format_ts, living
from .queue import Queue

STEP_FIELDS = ("payload", "priority", "step_id", "max_retries")
_SUMMED = (
    "max_inflight", "current_inflight", "available_capacity", "total_requests", "total_successes", "total_throttles",
)  # fmt: skip
_MAX_MESSAGE_CHARS = 500


# -- in ---------------------------------------------------------------------------------------------------------------


def parse_json(text: str, what: str) -> JSON:
    """The value behind JSON text. Raises InvalidPayload, which names `what`, or the key that an object holds twice."""
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as exc:
        reason = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise InvalidPayload(what, f"is not JSON: {reason}") from exc


def _without_twins(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) < len(pairs):
        # Programs disagree about which of two equal keys counts, so neither does.
        twin, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise InvalidPayload(twin, "is there twice in one JSON object")
    return found


def new_step(fields: Mapping[str, JSON], *, priority: int = 0) -> NewStep:
    """The step that a JSON object of STEP_FIELDS describes; `priority` is for those without one of their own.

    Raises InvalidPayload for a field that there is not, or a missing payload. The queue checks the values.
    """
    unknown = sorted(set(fields) - set(STEP_FIELDS))
    if unknown:
        raise InvalidPayload(unknown[0], f"is not a field of a step; there are {', '.join(STEP_FIELDS)}")
    if "payload" not in fields:
        raise InvalidPayload("payload", "is missing")
    return NewStep(
        fields["payload"], fields.get("priority", priority), fields.get("step_id"), fields.get("max_retries")
    )


# -- out --------------------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """`text` for an error message: bounded, and free of the lone surrogates that no encoding can write."""
    short = text if len(text) <= _MAX_MESSAGE_CHARS else text[:_MAX_MESSAGE_CHARS] + "…"
    return short.encode("utf-8", "backslashreplace").decode("utf-8")


def step_view(record: StepRecord) -> dict[str, JSON]:
    """A step as the specification shows it, with its result, error and earlier attempts."""
    return {
        "step_id": record.step_id,
        "status": record.status.value,
        "claimed_by": record.claimed_by,
        "payload": record.payload,
        "retry_count": record.retry_count,
        "priority": record.priority,
        "due_ts": format_ts(record.due_ts),
        "deferrals": record.deferrals,
        "created_ts": format_ts(record.created_ts),
        "last_update_ts": format_ts(record.last_update_ts),
        "result": record.result,
        "error": record.error,
        "history": record.history,
    }


def fleet_of(queue: Queue) -> tuple[list[PodRecord], float, float]:
    """What the views of a fleet are made from: the pods on record, the database's time, the dead-pod threshold."""
    return queue.store.list_pods(), queue.store.now(), queue.config.dead_pod_threshold


def leader_view(
    pods: Iterable[PodRecord], now_ts: float, threshold_s: float, me: Identity | None = None
) -> dict[str, JSON]:
    """Who leads, and who is alive; with `me`, whether that is me."""
    alive = living(pods, now_ts, threshold_s)
    leader = leader_of(alive, now_ts, threshold_s)
    view: dict[str, JSON] = {"leader_pod_id": leader.pod_id if leader else None}
    if me is not None:
        view["this_pod_id"] = me.pod_id
        view["is_leader"] = leader is not None and leader.incarnation == me.incarnation
    names = [pod.pod_id for pod in alive]
    return view | {"total_alive_pods": len(names), "alive_pods": names}


def recovery_stats(run: RecoveryRun) -> dict[str, int]:
    """The counts of a recovery run under the specification's names."""
    return {
        "dead_pods": len(run.dead_pods),
        "total_orphans": run.total_orphans,
        "resubmitted": run.resubmitted,
        "terminal_failures": run.terminal_failures,
    }


def published_throttles(
    pods: Iterable[PodRecord], now_ts: float, threshold_s: float
) -> dict[str, dict[str, dict[str, JSON]]]:
    """What each living pod publishes of each throttle: name → pod_id → figures."""
    found: dict[str, dict[str, dict[str, JSON]]] = {}
    for pod in pods:
        throttles = pod.meta.get("throttles") if pod.is_alive(now_ts, threshold_s) else None
        for name, figures in throttles.items() if isinstance(throttles, dict) else ():
            if isinstance(figures, dict):
                found.setdefault(name, {})[pod.pod_id] = without_nan(figures)
    return found


def throttle_view(by_pod: Mapping[str, Mapping[str, JSON]]) -> dict[str, JSON]:
    """One throttle of the whole fleet: capacities and counts are sums, latencies those of the slowest pod.

    `fleet_limit` is the limit of all pods together, where its scope is the fleet and its leader has planned one.
    """
    view: dict[str, JSON] = {name: sum(_numbers(by_pod, name)) for name in _SUMMED}
    requests = view["total_requests"]
    view["throttle_rate"] = round(view["total_throttles"] / requests, 4) if requests else 0.0
    for name in ("current_p95_latency", "baseline_latency"):
        view[name] = max(_numbers(by_pod, name), default=None)
    scopes = {str(figures["scope"]) for figures in by_pod.values() if "scope" in figures}
    if scopes:
        view["scope"] = "fleet" if "fleet" in scopes else "pod"
        view["fleet_limit"] = max(_numbers(by_pod, "fleet_limit"), default=None)
        view |= {name: sum(_numbers(by_pod, name)) for name in ("total_timeouts", "waiting")}
    return view | {"pods": {pod_id: dict(figures) for pod_id, figures in by_pod.items()}}


def _numbers(by_pod: Mapping[str, Mapping[str, JSON]], name: str) -> list[int | float]:
    found = [figures.get(name) for figures in by_pod.values()]
    return [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]


def without_nan(value: JSON) -> JSON:
    """JSON has no NaN: what nobody has measured yet is null."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
