"""The nouns of FLEET-Q as plain values. All `*_ts` are seconds since the epoch in UTC, by the database's clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NoReturn

from .errors import Throttled

MAX_DEFER_S = 86_400.0

JSON = Any  # None | bool | int | float | str | list[JSON] | dict[str, JSON]


class Status(StrEnum):
    """Where a step is. `failed` with a retry_ts waits for its retry; without one it is a dead letter."""

    PENDING = "pending"
    CLAIMED = "claimed"
    COMPLETED = "completed"
    FAILED = "failed"


# Every move a step may make; the contract tests hold all SQL against it.
TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.CLAIMED, Status.FAILED}),  # claim; cancel
    Status.CLAIMED: frozenset({Status.COMPLETED, Status.FAILED, Status.PENDING}),  # settle; defer, release, recovery
    Status.FAILED: frozenset({Status.PENDING}),  # retry by the leader, requeue by an operator
    Status.COMPLETED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step to submit. `step_id` is the idempotency key; without one a time-ordered id is made."""

    payload: Mapping[str, JSON]
    priority: int = 0
    step_id: str | None = None
    max_retries: int | None = None


@dataclass(frozen=True, slots=True)
class StepRow:
    """A checked `NewStep`, as the store writes it."""

    step_id: str
    task_type: str
    payload: str
    priority: int
    max_retries: int | None


@dataclass(frozen=True, slots=True)
class ClaimedRow:
    """What a claim reads back for each step; `payload` is still JSON text."""

    step_id: str
    task_type: str
    payload: str
    priority: int
    retry_count: int
    created_ts: float
    claim_token: str
    deferrals: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A claimed step, as its handler sees it. Delivered at least once: use `step_id` as idempotency key downstream."""

    step_id: str
    payload: dict[str, JSON]
    priority: int
    retry_count: int
    claim_token: str
    pod_id: str
    created_ts: float = 0.0
    deferrals: int = 0

    @property
    def task_type(self) -> str:
        """The name of the task that handles this step."""
        return str(self.payload["task_type"])

    def __getitem__(self, field: str) -> Any:
        """A field by its name, in any case: `step["PAYLOAD"]` is `step.payload`. Raises KeyError for any other."""
        name = field.lower()
        if name not in self.__slots__:
            raise KeyError(field)
        return getattr(self, name)

    def defer(self, seconds: float | None = None, reason: str = "") -> NoReturn:
        """Hand the step back from inside its handler; nobody claims it for `seconds`, and no retry is used.

        `seconds` goes from 0 to 86,400; without it the wait is random and grows with the number of deferrals. Works by
        raising Throttled. Raises ValueError for any other `seconds`.
        """
        if seconds is not None and not _is_delay(seconds):
            raise ValueError(f"step.defer({seconds!r}): must be a number of seconds from 0 to {MAX_DEFER_S:,.0f}")
        raise Throttled(reason or "deferred by its handler", seconds)


def _is_delay(seconds: object) -> bool:
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= MAX_DEFER_S


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One row of STEP_TRACKER, whole. `history` lists the attempts that did not complete.

    `due_ts` is set while a step that was handed back waits; `deferrals` says how often it has been.
    """

    step_id: str
    task_type: str
    payload: JSON
    priority: int
    status: Status
    retry_count: int
    max_retries: int | None
    claimed_by: str | None
    incarnation: str | None
    claim_token: str | None
    created_ts: float
    claimed_ts: float | None
    finished_ts: float | None
    last_update_ts: float
    retry_ts: float | None
    run_s: float | None
    result: JSON
    error: str | None
    history: list[dict[str, JSON]]
    recovery_run_id: str | None
    due_ts: float | None = None
    deferrals: int = 0

    @property
    def is_final(self) -> bool:
        """Whether nothing will happen to the step any more, unless an operator requeues it."""
        return self.status is Status.COMPLETED or self.is_dead_letter

    @property
    def is_dead_letter(self) -> bool:
        """Failed with no retry left."""
        return self.status is Status.FAILED and self.retry_ts is None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended: completed, failed, or pending where the handler handed its step back.

    `retry_delay_s` is None where no retry may follow (success, or a terminal failure). A step that was handed back is
    due that long after the store has heard of it; None is at once.
    """

    step_id: str
    claim_token: str
    status: Status
    run_s: float
    result: str | None = None
    error: str | None = None
    retry_delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class StepFilter:
    """Which steps to find. None means any; `text` is looked for in step_id, payload and error."""

    status: Status | None = None
    task_type: str | None = None
    claimed_by: str | None = None
    text: str | None = None
    created_from: float | None = None
    created_until: float | None = None
    dead_letters: bool = False


@dataclass(frozen=True, slots=True)
class PageKey:
    """Where the previous page of steps ended (newest first)."""

    created_ts: float
    step_id: str


@dataclass(frozen=True, slots=True)
class Identity:
    """A pod is an incarnation: its name plus a random id made when the process starts."""

    pod_id: str
    incarnation: str
    may_lead: bool = True


BEATS_MISSED = 2.5


@dataclass(frozen=True, slots=True)
class PodRecord:
    """One row of POD_HEALTH. `meta` is what the pod published with its last beat."""

    pod_id: str
    incarnation: str
    status: str
    birth_ts: float
    last_heartbeat_ts: float
    may_lead: bool
    meta: dict[str, JSON]

    def is_alive(self, now_ts: float, threshold_s: float) -> bool:
        """Up, and heard of within the threshold, by the database's clock."""
        return self.status == "up" and self.last_heartbeat_ts > now_ts - threshold_s

    @property
    def rests(self) -> bool:
        """Down of its own will, because there was nothing to do; it looks, and beats again when there is."""
        return self.status == "down" and self.meta.get("state") == "resting"

    def is_late(self, now_ts: float) -> bool:
        """Whether beats that the pod has promised are missing: it may be dead, but does not count as such yet."""
        told = self.meta.get("heartbeat_s")  # as it published it: another version may say anything
        interval_s = float(told) if isinstance(told, int | float) else 0.0
        return interval_s > 0 and now_ts - self.last_heartbeat_ts > BEATS_MISSED * interval_s


def living(pods: Iterable[PodRecord], now_ts: float, threshold_s: float) -> list[PodRecord]:
    """The pods that are alive, in the order given.

    Programs that merely claim are on record too, but they run no loops: they neither lead nor hear commands.
    """
    return [pod for pod in pods if pod.may_lead and pod.is_alive(now_ts, threshold_s)]


def hearing(pods: Iterable[PodRecord], now_ts: float, threshold_s: float) -> list[PodRecord]:
    """The pods that hear commands: those that are alive and those that rest, in the order given."""
    return [pod for pod in pods if pod.may_lead and (pod.rests or pod.is_alive(now_ts, threshold_s))]


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a set of steps: their ids in order, how many were new, and which belong to other steps.

    The others are there already, equal to what was given.
    """

    step_ids: list[str]
    new: int
    conflicts: list[str]


@dataclass(frozen=True, slots=True)
class IdleLook:
    """What a resting pod wants to know. It stays the same for as long as nobody submits, orders or beats."""

    open_steps: bool  # pending, claimed, or failed with a retry to come
    newest_command_ts: float | None
    newest_beat_ts: float | None


class BeatState(StrEnum):
    """What a beat found."""

    ALIVE = "alive"
    REVIVED = "revived"  # the row had been marked down meanwhile: claims may be gone
    SUPERSEDED = "superseded"  # another incarnation owns the row
    MISSING = "missing"  # the row was purged


@dataclass(frozen=True, slots=True)
class Beat:
    """The answer to a heartbeat: the database's time and the fleet as it stands."""

    now_ts: float
    state: BeatState
    leader: str | None = None  # incarnation of the leader
    leader_pod_id: str | None = None
    paused: bool = False
    commands: tuple[Command, ...] = ()
    throttle_plans: Mapping[str, JSON] = field(default_factory=dict)  # as the leader has published them
    throttles_reported: bool = False  # to the leader: whether some living pod uses a throttle of the fleet


@dataclass(frozen=True, slots=True)
class Command:
    """An operator's order, kept in the store. `target` is a pod_id, '*' for all pods, or 'leader'."""

    command_id: str
    kind: str
    target: str
    args: dict[str, JSON]
    issued_by: str
    issued_ts: float


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """A command with the answers given so far: one for each pod that executed it."""

    command: Command
    answers: tuple[CommandAnswer, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """What one pod (or the operator's own process) did about a command."""

    pod_id: str
    done_ts: float
    ok: bool
    result: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What a recovery run did to one step, and why."""

    step_id: str
    cause: str  # 'orphan' | 'failed'
    action: str  # 'requeued' | 'terminal'
    owner: str | None
    retry_count: int
    reason: str


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Which decisions to find. None means any; `owner` is the pod that had the step, `cause` orphan or failed."""

    run_id: str | None = None
    step_id: str | None = None
    owner: str | None = None
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A decision with the run that took it; the times are the run's, and None where the run is not on record."""

    run_id: str
    leader_pod_id: str | None
    started_ts: float | None
    decision: Decision


@dataclass(frozen=True, slots=True)
class Verdict:
    """A pod that a recovery run declared dead: it had been silent for `silent_s`."""

    pod_id: str
    incarnation: str
    silent_s: float


@dataclass(frozen=True, slots=True)
class HeldClaims:
    """How many steps one process has claimed, and since when it has had the oldest of them."""

    pod_id: str
    incarnation: str
    steps: int
    oldest_claimed_ts: float


@dataclass(frozen=True, slots=True)
class RecoveryRun:
    """One recovery cycle of a leader that did something, or that a person asked for.

    `statements` counts what the store was asked for, without the writing of this record; None: it was not counted.
    """

    run_id: str
    leader_pod_id: str
    trigger: str  # 'cycle' | 'manual'
    started_ts: float
    finished_ts: float | None
    duration_s: float | None
    dead_pods: tuple[str, ...]
    total_orphans: int
    resubmitted: int
    terminal_failures: int
    retried: int
    held_off: bool = False
    verdicts: tuple[Verdict, ...] = ()
    statements: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The fleet at one moment, written by the leader for charts. Rates are counts since the previous sample."""

    sampled_ts: float
    interval_s: float
    pending: int
    claimed: int
    completed: int
    failed: int
    submitted_delta: int
    completed_delta: int
    failed_delta: int
    oldest_pending_s: float | None
    pods_alive: int
    running: int
    leader_pod_id: str | None
    wait_p50_s: float | None = None
    wait_p95_s: float | None = None
    wait_p99_s: float | None = None
    run_p50_s: float | None = None
    run_p95_s: float | None = None
    run_p99_s: float | None = None


@dataclass(frozen=True, slots=True)
class WorkSpan:
    """What the fleet did in the span of time from `start_ts` on, of which its samples cover `seconds`.

    `submitted`, `completed` and `failed` are counts of that span; `most_*` the most steps that were in a status at
    once. The rest is the worst of its samples, but for the p50s, which are their mean.
    """

    start_ts: float
    seconds: float
    submitted: int
    completed: int
    failed: int
    most_pending: int
    most_claimed: int
    most_failed: int
    oldest_pending_s: float | None
    wait_p50_s: float | None
    wait_p95_s: float | None
    wait_p99_s: float | None
    run_p50_s: float | None
    run_p95_s: float | None
    run_p99_s: float | None


@dataclass(frozen=True, slots=True)
class PodSample:
    """One living pod in a sample: what it ran, how many slots it had, and how long it had been silent."""

    sampled_ts: float
    pod_id: str
    incarnation: str
    running: int
    capacity: int
    silent_s: float
    leads: bool


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How many steps are in each status, and how long the oldest pending one that may be claimed has waited.

    `deferred` counts those of the pending that were handed back and are not due yet, `retry_due` those of the failed
    that the next recovery cycle retries.
    """

    now_ts: float
    pending: int = 0
    claimed: int = 0
    completed: int = 0
    failed: int = 0
    dead_letters: int = 0
    oldest_pending_ts: float | None = None
    deferred: int = 0
    retry_due: int = 0

    def by_status(self) -> dict[str, int]:
        """The counts under the specification's names."""
        return {
            "pending": self.pending,
            "claimed": self.claimed,
            "completed": self.completed,
            "failed": self.failed,
        }


def format_ts(ts: float | None) -> str | None:
    """`ts` as the specification prints times: `2026-01-17 12:34:56`, UTC."""
    return None if ts is None else datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True, slots=True)
class ThrottleSample:
    """One throttle of one pod at one moment, as the pod published it; None where it did not.

    `requests`, `refused` and `timeouts` are totals since the pod's process started or the throttle was reset.
    """

    name: str
    pod_id: str
    sampled_ts: float
    limit: int | None
    in_flight: int | None
    waiting: int | None
    p95_s: float | None
    baseline_s: float | None
    requests: int | None
    refused: int | None
    timeouts: int | None
    fleet_limit: int | None


@dataclass(frozen=True, slots=True)
class ThrottleChange:
    """Why a limit moved: a run of `times` like changes, the last of them at `at_ts`.

    `pod_id` is '*' for the limit of the whole fleet, as its leader planned it. `n` numbers the changes of a process.
    """

    name: str
    pod_id: str
    incarnation: str
    n: int
    at_ts: float
    before: int | None
    after: int
    reason: str
    times: int
