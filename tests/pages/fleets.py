"""Fleets made up for the read models: a snapshot, its pods, and samples of them."""

from __future__ import annotations

from typing import Any

from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.leader.election import leader_of
from fleetq_core.model import PodRecord, PodSample, QueueStats, RecoveryRun, Verdict

NOW = 1_795_600_000.0
THRESHOLD_S = 15.0


def pod(name: str, *, silent_s: float = 0.0, age_s: float = 1000.0, status: str = "up", **meta: Any) -> PodRecord:
    """A pod that beats every 2 s and was heard of `silent_s` ago."""
    told = {"state": "running", "heartbeat_s": 2.0, "capacity": 6, "running_count": 0, "version": "1"} | meta
    return PodRecord(name, f"{name}-now", status, NOW - age_s, NOW - silent_s, True, told)


def fleet(*pods: PodRecord, runs: tuple[RecoveryRun, ...] = (), **stats: int) -> Snapshot:
    """These pods at NOW."""
    return Snapshot(
        NOW, QueueStats(NOW, **stats), pods, leader_of(pods, NOW, THRESHOLD_S), (), runs, THRESHOLD_S
    )  # fmt: skip


def run(
    run_id: str = "run-1", *, ago_s: float = 100.0, dead: tuple[Verdict, ...] = (), moved: int = 0, **other: Any
) -> RecoveryRun:
    """A finished run of `ago_s` ago that resubmitted `moved` orphans."""
    started = NOW - ago_s
    figures = {"finished_ts": started + 0.1, "duration_s": 0.1, "terminal_failures": 0, "retried": 0} | other
    return RecoveryRun(
        run_id=run_id, leader_pod_id="pod-a", trigger="cycle", started_ts=started,
        dead_pods=tuple(one.pod_id for one in dead), total_orphans=moved, resubmitted=moved, verdicts=dead, **figures,
    )  # fmt: skip


def seen(ago_s: float, *names: str, leader: str | None = None, silent_s: float = 0.0, running: int = 0) -> list[Any]:
    """A sample of `ago_s` ago: these pods were alive; `name/2` is the second process of that name."""
    return [
        PodSample(NOW - ago_s, name.split("/")[0], name, running, 6, silent_s, name == (leader or names[0]))
        for name in names
    ]
