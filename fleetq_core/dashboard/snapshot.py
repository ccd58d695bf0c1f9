"""What the screens read from the store, shared by all viewers: N viewers cost the store what one costs.

An answer is kept for a moment; one caller refreshes it while the others go on with the old one. While the store is
away the last good answer stays, marked with the problem.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fleetq_core.errors import StoreError
from fleetq_core.leader.election import leader_of
from fleetq_core.model import (
    CommandRecord,
    Decision,
    HourOfWork,
    PodRecord,
    QueueStats,
    RecoveryRun,
    Sample,
    StepFilter,
    StepRecord,
    ThrottleChange,
    ThrottleSample,
)
from fleetq_core.runtime import Runtime

T = TypeVar("T")

TTL_S = 1.5
KEPT_S = 300.0  # answers nobody has asked for since are dropped
SAMPLE_WINDOW_S = 3600.0
MAX_SAMPLES = 400
RECENT_RUNS = 50
RECENT_COMMANDS = 50
DEAD_LETTERS = 100
LATELY_S = 300.0
MAX_LATELY = 2_000  # samples of all throttles together
MAX_THROTTLE_SAMPLES = 8_000  # of the one that is looked at
MAX_CHANGES = 1_000
HOUR_S, DAYS_S = 3600.0, 7 * 86_400.0
WEEK_TTL_S = 300.0
RETRY_S = 10.0  # after a read that failed or found nothing, however long an answer is kept otherwise


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The fleet at `now_ts`, the database's time; `throttle_samples` are those of the last LATELY_S seconds."""

    now_ts: float
    stats: QueueStats
    pods: tuple[PodRecord, ...]
    leader: PodRecord | None
    samples: tuple[Sample, ...]
    runs: tuple[RecoveryRun, ...]
    threshold_s: float
    throttle_samples: tuple[ThrottleSample, ...] = ()


@dataclass(frozen=True, slots=True)
class ThrottleHistory:
    """What the store kept of one throttle: its figures, oldest first, and why its limits moved, newest first."""

    samples: tuple[ThrottleSample, ...]
    changes: tuple[ThrottleChange, ...]


@dataclass(frozen=True, slots=True)
class Week:
    """The hours of the last days, oldest first, as they were at `now_ts`."""

    now_ts: float
    hours: tuple[HourOfWork, ...]


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A value read from the store (None: never read) and, if the last attempt failed, what went wrong."""

    value: T | None
    problem: str | None = None


@dataclass(slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    answer: Answer[object] = field(default_factory=lambda: Answer(None))
    read_at: float = float("-inf")
    asked_at: float = 0.0


def shared(runtime: Runtime, key: str, read: Callable[[], T], ttl_s: float = TTL_S) -> Answer[T]:
    """The answer of `read()`, at most `ttl_s` old if the store allows."""
    now = time.monotonic()
    with runtime.lock:
        slots: dict[str, _Slot] = runtime.cache.setdefault("dashboard", {})
        for old in [name for name, slot in slots.items() if now - slot.asked_at > KEPT_S and name != key]:
            del slots[old]
        slot = slots.setdefault(key, _Slot())
        slot.asked_at = now
    if slot.answer.problem or slot.answer.value is None:
        ttl_s = min(ttl_s, RETRY_S)
    if now - slot.read_at >= ttl_s:
        # Somebody else is reading already: only who has nothing to show waits for it.
        first = slot.read_at == float("-inf")
        if slot.lock.acquire(blocking=first):
            try:
                if time.monotonic() - slot.read_at >= ttl_s:
                    slot.answer = _attempt(read, slot.answer)
                    slot.read_at = time.monotonic()
            finally:
                slot.lock.release()
    return slot.answer  # type: ignore[return-value]  # the key decides the type


def _attempt(read: Callable[[], object], last: Answer[object]) -> Answer[object]:
    try:
        return Answer(read())
    except StoreError as exc:
        return Answer(last.value, f"{type(exc).__name__}: {exc}")


def fleet(runtime: Runtime) -> Answer[Snapshot]:
    """The shared snapshot."""
    return shared(runtime, "fleet", lambda: _read_fleet(runtime))


def _read_fleet(runtime: Runtime) -> Snapshot:
    store, threshold_s = runtime.queue.store, runtime.config.dead_pod_threshold
    stats = store.stats()
    pods = tuple(store.list_pods())
    throttled = any(pod.meta.get("throttles") for pod in pods)
    return Snapshot(
        now_ts=stats.now_ts,
        stats=stats,
        pods=pods,
        leader=leader_of(pods, stats.now_ts, threshold_s),
        samples=tuple(store.list_samples(stats.now_ts - SAMPLE_WINDOW_S, MAX_SAMPLES)),
        runs=tuple(store.list_recovery_runs(RECENT_RUNS)),
        threshold_s=threshold_s,
        throttle_samples=tuple(store.list_throttle_samples(stats.now_ts - LATELY_S, MAX_LATELY) if throttled else ()),
    )


def commands(runtime: Runtime) -> Answer[list[CommandRecord]]:
    """The newest operator commands with their answers."""
    return shared(runtime, "commands", lambda: runtime.queue.store.list_commands(RECENT_COMMANDS))


def command(runtime: Runtime, command_id: str) -> CommandRecord | None:
    """One order with its answers so far, for whoever waits for them. Raises StoreError."""
    answer = shared(runtime, f"command:{command_id}", lambda: runtime.queue.command(command_id), ttl_s=0.5)
    if answer.problem:
        raise StoreError(answer.problem)
    return answer.value


def week(runtime: Runtime, now_ts: float) -> Answer[Week | None]:
    """The last seven days hour by hour, added up by the store; one read in minutes for all viewers."""

    def read() -> Week | None:
        hours = runtime.queue.store.hourly_history((now_ts - DAYS_S) // HOUR_S * HOUR_S)
        return Week(now_ts, tuple(hours)) if hours else None

    return shared(runtime, "week", read, ttl_s=WEEK_TTL_S)


def dead_letters(runtime: Runtime) -> Answer[list[StepRecord]]:
    """The newest steps that failed for good."""
    where = StepFilter(dead_letters=True)
    return shared(runtime, "dead_letters", lambda: runtime.queue.find_steps(where, limit=DEAD_LETTERS))


def decisions(runtime: Runtime, run_id: str) -> Answer[list[Decision]]:
    """What one recovery run did."""
    return shared(runtime, f"decisions:{run_id}", lambda: runtime.queue.store.list_decisions(run_id), ttl_s=5.0)


def throttle_history(runtime: Runtime, name: str) -> Answer[ThrottleHistory]:
    """What is known of one throttle's past, at most an hour of it."""
    store = runtime.queue.store

    def read() -> ThrottleHistory:
        since_ts = store.now() - SAMPLE_WINDOW_S
        samples = store.list_throttle_samples(since_ts, MAX_THROTTLE_SAMPLES, name)
        return ThrottleHistory(tuple(samples), tuple(store.list_throttle_changes(MAX_CHANGES, name=name)))

    return shared(runtime, f"throttle:{name}", read, ttl_s=3.0)


def step(runtime: Runtime, step_id: str) -> Answer[StepRecord]:
    """One step, whole; the value is None for an unknown id too."""
    return shared(runtime, f"step:{step_id}", lambda: runtime.queue.get_step(step_id), ttl_s=0.5)  # type: ignore[arg-type,return-value]
