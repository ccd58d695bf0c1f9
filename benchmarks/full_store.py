"""A store as it looks after a busy week: a million steps of a day, ten pods, and seven days of records."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from fleetq_core.config import Config
from fleetq_core.store import open_store

DAY_S = 86_400.0
PENDING, FAILED, TYPES, PODS = 6_000, 4_000, 20, 10
SAMPLE_S, SAMPLED_S, THROTTLED_S = 10.0, 7 * DAY_S, DAY_S
RUNS, DECISIONS, COMMANDS = 2_000, 20, 5_000
THROTTLES = ("partner", "mail")


def create(path: Path, steps: int) -> None:
    """Make the store and fill it."""
    store = open_store(Config(store=f"sqlite:///{path}"))
    now = store.now()
    store.close()
    fill(path, now, steps)


def fill(path: Path, now: float, steps: int) -> None:
    """Put `steps` steps of a day into the store, the newest of them failed or waiting, and what a fleet records."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA synchronous=OFF")
    _insert(db, "step_tracker", _STEP, _steps(now, steps))
    _insert(db, "pod_health", _POD, _pods(now))
    _insert(db, "sample", _SAMPLE, _samples(now))
    _insert(db, "throttle_sample", _THROTTLE, _throttle_samples(now))
    _insert(db, "recovery_run", _RUN, _runs(now))
    _insert(db, "recovery_decision", _DECISION, _decisions(steps))
    _insert(db, "command_log", _COMMAND, _commands(now))
    _insert(db, "command_answer", _ANSWER, _answers(now))
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    os.sync()


_STEP = (
    "step_id", "task_type", "payload", "priority", "status", "created_ts", "claimed_ts", "finished_ts",
    "last_update_ts", "claimed_by", "run_s", "result", "error",
)  # fmt: skip
_POD = ("pod_id", "incarnation", "status", "birth_ts", "last_heartbeat_ts", "may_lead", "meta")
_SAMPLE = (
    "bucket", "sampled_ts", "interval_s", "pending", "claimed", "completed", "failed", "submitted_delta",
    "completed_delta", "failed_delta", "oldest_pending_s", "pods_alive", "running", "leader_pod_id", "wait_p50_s",
    "wait_p95_s", "wait_p99_s", "run_p50_s", "run_p95_s", "run_p99_s", "pods",
)  # fmt: skip
_THROTTLE = (
    "bucket", "name", "pod_id", "sampled_ts", "max_calls", "in_flight", "waiting", "p95_s", "baseline_s", "requests",
    "refused", "timeouts",
)  # fmt: skip
_RUN = (
    "run_id", "leader_pod_id", "trigger", "started_ts", "finished_ts", "duration_s", "dead_pods", "total_orphans",
    "resubmitted", "terminal_failures", "retried", "held_off",
)  # fmt: skip
_DECISION = ("run_id", "step_id", "cause", "action", "owner", "retry_count", "reason")
_COMMAND = ("command_id", "kind", "target", "args", "issued_by", "issued_ts")
_ANSWER = ("command_id", "pod_id", "done_ts", "ok", "result")


def _insert(db: sqlite3.Connection, table: str, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    marks = ", ".join("?" * len(columns))
    db.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)


def _steps(now: float, steps: int) -> Iterator[tuple[object, ...]]:
    for n in range(steps):
        left = steps - n
        status = "pending" if left <= PENDING else "failed" if left <= PENDING + FAILED else "completed"
        task, created = f"type{n % TYPES:02}", now - DAY_S * left / steps
        payload = f'{{"task_type":"{task}","customer":"c-{n:07}","note":"{"x" * 150}"}}'
        ran = status != "pending"
        ended = created + 1 if ran else None
        yield (
            f"old-{n:08}", task, payload, 0, status, created, ended, ended, created,
            f"pod-{n % PODS}" if ran else None, 0.1 if ran else None, '{"ok":true}' if status == "completed" else None,
            "ValueError: no such customer" if status == "failed" else None,
        )  # fmt: skip


def _pods(now: float) -> Iterator[tuple[object, ...]]:
    figures = {
        "max_inflight": 10, "current_inflight": 4, "waiting": 0, "current_p95_latency": 0.2, "baseline_latency": 0.15,
        "total_requests": 5_000, "total_throttles": 3, "total_timeouts": 0,
    }  # fmt: skip
    running = [{"step_id": f"old-{n:08}", "task_type": "type00", "seconds": 3.0} for n in range(4)]
    meta = json.dumps({
        "state": "running", "version": "0", "host": "bench", "capacity": 10, "running": running, "running_count": 4,
        "tasks": [f"type{n:02}" for n in range(TYPES)], "throttles": dict.fromkeys(THROTTLES, figures),
    })  # fmt: skip
    for n in range(PODS):
        yield f"pod-{n}", f"life-{n}", "up", now - SAMPLED_S + n, now, 1, meta


def _samples(now: float) -> Iterator[tuple[object, ...]]:
    seen = json.dumps([[f"pod-{n}", f"life-{n}", 4, 10, 1.0] for n in range(PODS)])
    for at in _moments(now, SAMPLED_S):
        yield (
            int(at // SAMPLE_S), at, SAMPLE_S, 6000, 40, 500_000, 4000, 120, 118, 1, 50.0, PODS, 40, "pod-0", 0.1, 0.5,
            0.9, 0.1, 0.3, 0.6, seen,
        )  # fmt: skip


def _throttle_samples(now: float) -> Iterator[tuple[object, ...]]:
    for at in _moments(now, THROTTLED_S):
        for name in THROTTLES:
            for n in range(PODS):
                yield int(at // SAMPLE_S), name, f"pod-{n}", at, 10, 4, 0, 0.2, 0.15, int(at) % 10**6, 3, 0


def _runs(now: float) -> Iterator[tuple[object, ...]]:
    for n in range(RUNS):
        at = now - SAMPLED_S * (RUNS - n) / RUNS
        yield f"run-{n}", "pod-0", "cycle", at, at + 1, 1.0, f'["pod-{n % PODS}"]', DECISIONS, DECISIONS, 0, 0, 0


def _decisions(steps: int) -> Iterator[tuple[object, ...]]:
    for n in range(RUNS):
        for k in range(DECISIONS):
            yield (
                f"run-{n}",
                f"old-{(n * DECISIONS + k) % steps:08}",
                "orphan",
                "requeued",
                f"pod-{n % PODS}",
                0,
                "its pod died",
            )


def _commands(now: float) -> Iterator[tuple[object, ...]]:
    for n in range(COMMANDS):
        yield (
            f"command-{n}",
            "reset_throttle",
            "*",
            '{"throttle": "mail"}',
            "bench",
            now - DAY_S * (COMMANDS - n) / COMMANDS,
        )


def _answers(now: float) -> Iterator[tuple[object, ...]]:
    for n in range(COMMANDS):
        for pod in range(PODS):
            yield f"command-{n}", f"pod-{pod}", now - DAY_S * (COMMANDS - n) / COMMANDS + 1, 1, "reset"


def _moments(now: float, seconds: float) -> Iterator[float]:
    for n in range(int(seconds / SAMPLE_S), 0, -1):
        yield now - n * SAMPLE_S
