"""What the screens read from the store, shared by all viewers: N viewers cost the store what one costs.

An answer is kept for a moment; one caller refreshes it while the others go on with the old one. While the store is
away the last good answer stays, marked with the problem.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fleetq_core.errors import StoreError
from fleetq_core.leader.election import leader_of
from fleetq_core.model import (
    CommandRecord,
    DecisionFilter,
    DecisionRecord,
    HeldClaims,
    PodRecord,
    PodSample,
    QueueStats,
    RecoveryRun,
    Sample,
    StepFilter,
    StepRecord,
    ThrottleChange,
    ThrottleSample,
    WorkSpan,
)
from fleetq_core.runtime import Runtime

T = TypeVar("T")

TTL_S = 1.5
KEPT_S = 300.0  # answers nobody has asked for since are dropped
SAMPLE_WINDOW_S = 3600.0
RECENT_RUNS = 50
MOST_RUNS = 1_000  # looked back on
RECENT_COMMANDS = 50
DEAD_LETTERS = 100
LATELY_S = 300.0
MAX_SAMPLES = 400  # of the fleet, in the last LATELY_S seconds
MAX_LATELY = 2_000  # samples of all throttles together
MAX_THROTTLE_SAMPLES = 8_000  # of the one that is looked at
MAX_CHANGES = 1_000
MOST_SPANS = 180  # of a curve: as many points as a chart of this width can show
MAX_DECISIONS = 10_000
MOST_OF_A_CORE = 0.01  # what one answer may take of this process, whose pod has work to do
RETRY_S = 10.0  # after a read that failed or found nothing, however long an answer is kept otherwise


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The fleet at `now_ts`, the database's time; samples are those of the last LATELY_S seconds."""

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
class History:
    """What the fleet did up to `now_ts`, in spans of `width_s`, oldest first."""

    now_ts: float
    width_s: float
    spans: tuple[WorkSpan, ...]


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
    cpu_s: float = 0.0  # what the last read took of this process; the time that a store elsewhere took is not ours
    asked_at: float = 0.0


def shared(runtime: Runtime, key: str, read: Callable[[], T], ttl_s: float = TTL_S) -> Answer[T]:
    """The answer of `read()`, at most `ttl_s` old if the store allows; older if it takes much of a core to read."""
    now = time.monotonic()
    with runtime.lock:
        slots: dict[str, _Slot] = runtime.cache.setdefault("dashboard", {})
        for old in [name for name, slot in slots.items() if now - slot.asked_at > KEPT_S and name != key]:
            del slots[old]
        slot = slots.setdefault(key, _Slot())
        slot.asked_at = now
    if slot.answer.problem or slot.answer.value is None:
        ttl_s = min(ttl_s, RETRY_S)
    ttl_s = max(ttl_s, slot.cpu_s / MOST_OF_A_CORE)
    if now - slot.read_at >= ttl_s:
        # Somebody else is reading already: only who has nothing to show waits for it.
        first = slot.read_at == float("-inf")
        if slot.lock.acquire(blocking=first):
            try:
                if time.monotonic() - slot.read_at >= ttl_s:
                    started = time.thread_time()
                    slot.answer = _attempt(read, slot.answer)
                    slot.read_at, slot.cpu_s = time.monotonic(), time.thread_time() - started
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
        samples=tuple(store.list_samples(stats.now_ts - LATELY_S, MAX_SAMPLES)),
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


def history(runtime: Runtime, now_ts: float, seconds: float) -> Answer[History | None]:
    """What the fleet did in the last `seconds`, added up by the store. A long range is read seldom."""
    width_s = span_width_s(seconds, runtime.config.sample_interval)

    def read() -> History | None:
        spans = runtime.queue.store.work_history((now_ts - seconds) // width_s * width_s, width_s)
        return History(now_ts, width_s, tuple(spans)) if spans else None

    return shared(runtime, f"history:{seconds:.0f}", read, ttl_s=max(3.0, width_s / 4))


def span_width_s(seconds: float, sample_interval_s: float) -> float:
    """How wide the spans of a range of `seconds` are: whole samples, and no more spans than a chart can show."""
    return max(1, math.ceil(seconds / MOST_SPANS / sample_interval_s)) * sample_interval_s


def pod_samples(runtime: Runtime, now_ts: float, seconds: float) -> Answer[list[PodSample]]:
    """The pods in the samples of the last `seconds`, thinned out to MOST_SPANS moments."""
    every = round(span_width_s(seconds, runtime.config.sample_interval) / runtime.config.sample_interval)

    def read() -> list[PodSample]:
        return runtime.queue.store.list_pod_samples(now_ts - seconds, every)

    return shared(
        runtime, f"pod_samples:{seconds:.0f}", read, ttl_s=max(5.0, every * runtime.config.sample_interval / 4)
    )


def held(runtime: Runtime) -> Answer[list[HeldClaims]]:
    """What each process holds of claimed steps now."""
    return shared(runtime, "held", lambda: runtime.queue.store.held_by_pod(), ttl_s=3.0)


def dead_letters(runtime: Runtime) -> Answer[list[StepRecord]]:
    """The newest steps that failed for good."""
    where = StepFilter(dead_letters=True)
    return shared(runtime, "dead_letters", lambda: runtime.queue.find_steps(where, limit=DEAD_LETTERS))


def decisions(runtime: Runtime, where: DecisionFilter) -> Answer[list[DecisionRecord]]:
    """What recovery runs decided: in one run, about one step, or about the steps of one pod."""
    read = runtime.queue.store.find_decisions
    return shared(runtime, f"decisions:{where}", lambda: read(where, MAX_DECISIONS), ttl_s=5.0)


def runs(runtime: Runtime) -> Answer[list[RecoveryRun]]:
    """The newest MOST_RUNS recovery runs, the newest first, for who looks further back than the snapshot does."""
    return shared(runtime, "runs", lambda: runtime.queue.store.list_recovery_runs(MOST_RUNS), ttl_s=15.0)


def run(runtime: Runtime, run_id: str) -> Answer[RecoveryRun | None]:
    """One recovery run, however old; the value is None for an unknown id too."""

    def read() -> RecoveryRun | None:
        found = runtime.queue.store.list_recovery_runs(1, run_id)
        return found[0] if found else None

    return shared(runtime, f"run:{run_id}", read, ttl_s=5.0)


def fates(
    runtime: Runtime, where: DecisionFilter, limit: int
) -> Answer[tuple[list[DecisionRecord], dict[str, StepRecord]]]:
    """The newest decisions that match, and the steps they were about as they are now."""
    store = runtime.queue.store

    def read() -> tuple[list[DecisionRecord], dict[str, StepRecord]]:
        found = store.find_decisions(where, limit)
        ids = sorted({record.decision.step_id for record in found})
        return found, {step.step_id: step for step in (store.get_steps(ids) if ids else [])}

    return shared(runtime, f"fates:{where}:{limit}", read, ttl_s=5.0)


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
