"""The curves of a throttle: limits, shares, latency and refusals over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise

from fleetq_core.model import ThrottleSample

from .throttle_figures import grown

MOST_PODS = 8  # curves in one chart; the others are added up

Point = tuple[float, str, float]  # time, series, value


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
            count = sum(grown([getattr(first, name), getattr(last, name)]) for first, last in both)
            points.append((ts, what, round(count / minutes, 2)))
    return points


def _spans(samples: Iterable[ThrottleSample], width_s: float) -> Iterable[tuple[float, dict[str, ThrottleSample]]]:
    """The last sample of each pod in spans of `width_s` that begin at its multiples; 0: each moment by itself."""
    for _, group in groupby(samples, key=lambda s: s.sampled_ts // width_s if width_s else s.sampled_ts):
        span = list(group)
        yield span[-1].sampled_ts, {sample.pod_id: sample for sample in span}
