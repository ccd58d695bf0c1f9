"""What the leader notes of the fleet now and again on Snowflake: counts, times, pods and throttles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from fleetq_core.model import Identity, PodRecord, QueueStats, Sample

from . import rows
from . import snowflake_throttles as throttles
from .snowflake_binds import json_sets
from .snowflake_connection import timestamp
from .snowflake_statements import Statements, microseconds

_SAMPLED_TIMES = 1000
_SAMPLE_COUNTS = 13  # columns of sample_look before those of the pod


def take(run: Statements, leader: Identity, interval_s: float, threshold_s: float) -> Sample | None:
    """Write a sample, and return it, if `leader` still leads and none is as young as half an interval."""
    bind = {"threshold_us": microseconds(threshold_s), "interval_us": microseconds(interval_s)}
    found = run.rows("sample_look", **bind)
    pods = [rows.lenient_pod(row[_SAMPLE_COUNTS:]) for row in found]
    if next((pod.incarnation for pod in pods if pod.may_lead), None) != leader.incarnation:
        return None
    last, since, now, *counts = found[0][:_SAMPLE_COUNTS]
    if last is not None and now - last < interval_s / 2:
        return None
    completed_since = counts[-2]
    times = run.rows("sample_times", since=timestamp(since), limit=_SAMPLED_TIMES) if completed_since else []
    running = [pod.meta.get("running_count") for pod in pods]
    sample = rows.sample(
        now, since, QueueStats(now, *counts[:7]),
        (*counts[7:], len(pods), sum(n for n in running if isinstance(n, int))),
        [(waited_us / 1e6, run_s) for waited_us, run_s in times],
    )  # fmt: skip
    sample = replace(sample, leader_pod_id=leader.pod_id)
    bucket = int(now // interval_s)
    seen = rows.seen_pods([pod for pod in pods if pod.may_lead], now)
    taken = rows.as_bind(sample) | {"sampled_ts": timestamp(now), "pods": seen}
    changed = run.write("insert_sample", bucket=bucket, **taken)
    _tell_throttles(run, bucket, now, leader, pods)
    return sample if changed else None


def _tell_throttles(run: Statements, bucket: int, now: float, leader: Identity, pods: Sequence[PodRecord]) -> None:
    for _, text in json_sets(throttles.figures(pods)):
        run.write("insert_throttle_samples", figures=text, bucket=bucket, sampled_ts=timestamp(now))
    found = throttles.changes(pods)
    if found:
        known = run.rows("known_runs", told=json.dumps([change.key for change in found]))
        found = throttles.joined(found, known)
    for pod in pods:
        if pod.incarnation == leader.incarnation and pod.meta.get("throttle_plans"):
            found += throttles.plan_changes(pod, run.rows("known_plans"))
    for _, text in json_sets(change.row() for change in found):
        run.write("insert_throttle_changes", changes=text)
