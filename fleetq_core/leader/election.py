"""Who leads: the oldest living pod. Everybody computes the same answer from the same rows."""

from __future__ import annotations

from collections.abc import Iterable

from fleetq_core.model import PodRecord, living


def leader_of(pods: Iterable[PodRecord], now_ts: float, threshold_s: float) -> PodRecord | None:
    """The living pod with the earliest birth (then pod_id) that may lead. The store says the same in SQL."""
    return min(living(pods, now_ts, threshold_s), key=lambda pod: (pod.birth_ts, pod.pod_id), default=None)
