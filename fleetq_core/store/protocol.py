"""What a store must be able to do: few methods, all on sets, each write safe to repeat after a lost reply.

A store object owns one connection and may be used from many threads; loops that must not wait for each other
open one each (`reopen`). Methods raise StoreUnavailable when the call may simply be made again later, and
StoreError when trying again cannot help.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fleetq_core.model import (
    JSON,
    Beat,
    ClaimedRow,
    CommandRecord,
    Decision,
    DecisionFilter,
    DecisionRecord,
    HeldClaims,
    Identity,
    IdleLook,
    Outcome,
    PageKey,
    PodRecord,
    PodSample,
    QueueStats,
    RecoveryRun,
    Sample,
    StepFilter,
    StepRecord,
    StepRow,
    ThrottleChange,
    ThrottleSample,
    Verdict,
    WorkSpan,
)


@dataclass(frozen=True, slots=True)
class RecoveryOrder:
    """One recovery cycle: who asks, how long pods may be silent, and how often a step may be retried.

    `hold_off` keeps silent pods from being judged: only owners that are certainly gone (marked down, superseded or
    unknown) make orphans then. `limit` bounds the steps of one cycle.
    """

    run_id: str
    leader: Identity
    threshold_s: float
    max_retries: int
    hold_off: bool
    limit: int = 10_000


@dataclass(frozen=True, slots=True)
class Recovered:
    """What one recovery cycle did. `is_leader` is False where the caller did not lead, and so nothing was done."""

    is_leader: bool
    now_ts: float
    decisions: tuple[Decision, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    statements: int | None = None

    @property
    def dead_pods(self) -> tuple[str, ...]:
        """The names of the pods that were declared dead."""
        return tuple(verdict.pod_id for verdict in self.verdicts)


class ChangeSignal(Protocol):
    """For one waiting thread: whether another connection has committed since the last time it was told so."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for a commit; False when time is up or somebody interrupts. May also wake for a commit of our own."""
        ...

    def interrupt(self) -> None:
        """End the wait of this moment and of all times to come, from any thread."""
        ...

    def close(self) -> None:
        """Let go of what the signal holds, once nobody waits any more."""
        ...


class StepStore(Protocol):
    """The queue itself."""

    def insert_steps(self, steps: Sequence[StepRow]) -> int:
        """Add the steps whose step_id is new, leave the others alone; returns how many were new."""
        ...

    def claim_steps(
        self,
        who: Identity,
        claim_token: str,
        limit: int,
        threshold_s: float,
        caps: Mapping[str, int] | None = None,
    ) -> list[ClaimedRow]:
        """Claim up to `limit` pending steps that are due for a living pod, best first.

        At most `caps[type]` of each task type that is named there; a type at 0 is passed over. A type with a cap may
        hide steps of others behind it: after a claim that reached a cap, claim again with that cap at 0. The same token
        again returns the same claim, whether or not the first reply arrived.
        """
        ...

    def settle_steps(self, outcomes: Sequence[Outcome], max_retries: int) -> set[tuple[str, str]]:
        """Write outcomes; returns the (step_id, claim_token) pairs that stand in the store as written.

        An outcome of status pending gives its step back, due after its delay, without counting a retry.

        A pair that is missing was refused: the claim was lost meanwhile and the step belongs to someone else.
        """
        ...

    def release_steps(self, claims: Sequence[tuple[str, str]]) -> int:
        """Give claimed steps back, (step_id, claim_token) each, without counting a retry."""
        ...

    def release_unknown(self, who: Identity, known_tokens: Collection[str], before_ts: float) -> int:
        """Give back what the store says `who` claimed before `before_ts` under tokens that `who` does not know."""
        ...

    def held_claims(self, who: Identity) -> set[tuple[str, str]]:
        """The (step_id, claim_token) pairs that `who` holds."""
        ...

    def requeue_steps(self, step_ids: Sequence[str]) -> list[str]:
        """Failed steps back to pending with retry_count 0; returns the ids that moved."""
        ...

    def cancel_steps(self, step_ids: Sequence[str], reason: str) -> list[str]:
        """Pending steps to failed for good; returns the ids that moved."""
        ...

    def get_steps(self, step_ids: Sequence[str]) -> list[StepRecord]:
        """The steps with these ids, in no particular order; unknown ids are left out."""
        ...

    def payloads_of(self, step_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """(payload text, priority) of each known id."""
        ...

    def find_steps(self, where: StepFilter, limit: int, after: PageKey | None = None) -> list[StepRecord]:
        """Up to `limit` matching steps, newest first, continuing behind `after`."""
        ...

    def find_ids(self, where: StepFilter, limit: int) -> list[str]:
        """The ids of up to `limit` matching steps, newest first."""
        ...

    def created_behind(self, where: StepFilter, steps: int, after: PageKey | None = None) -> float | None:
        """When the last of the next `steps` matching steps behind `after` was created; None if there are fewer.

        Newest first, as `find_steps` goes: with it, a search can be cut into slices that take a bounded time.
        """
        ...

    def held_by_pod(self) -> list[HeldClaims]:
        """What each process holds of claimed steps; those that hold nothing are left out."""
        ...

    def stats(self) -> QueueStats:
        """Counts by status and the age of the oldest pending step."""
        ...


class PodStore(Protocol):
    """Who is there, and what operators have ordered."""

    def register_pod(self, who: Identity, meta: Mapping[str, Any]) -> float:
        """Take the row of `who.pod_id` over with a fresh birth; returns the database's time. Repeatable."""
        ...

    def beat(self, who: Identity, meta: Mapping[str, Any], threshold_s: float) -> Beat:
        """Renew the lease of `who` if it still owns its row; read leader and plans, pause, open commands."""
        ...

    def throttle_reports(self, threshold_s: float) -> dict[str, JSON]:
        """What living pods publish of their use of fleet throttles, by pod_id; pods that use none are left out."""
        ...

    def mark_down(self, who: Identity) -> None:
        """End the lease at once, so that leadership moves."""
        ...

    def idle_look(self) -> IdleLook:
        """Whether there is anything to do, for a pod that rests; as cheap as the store can make it."""
        ...

    def list_pods(self) -> list[PodRecord]:
        """Every pod on record, oldest first."""
        ...

    def insert_command(self, command_id: str, kind: str, target: str, args: Mapping[str, Any], issued_by: str) -> None:
        """Record an order. The same command_id again is a no-op."""
        ...

    def answer_command(self, command_id: str, pod_id: str, ok: bool, result: str) -> None:
        """Record what one pod did about a command. The first answer of a pod stands."""
        ...

    def list_commands(self, limit: int, command_ids: Sequence[str] | None = None) -> list[CommandRecord]:
        """The newest commands with their answers; or just those with the given ids."""
        ...


class LeaderStore(Protocol):
    """What only the leader writes, and the history that everyone reads."""

    def recover(self, order: RecoveryOrder) -> Recovered:
        """Requeue or end orphans and due failures, in guarded statements that act only if `order.leader` leads.

        The same run_id again goes on with that run, and its decisions are all that the run has made.
        """
        ...

    def save_recovery_run(self, run: RecoveryRun, decisions: Sequence[Decision]) -> None:
        """Keep a finished run with its decisions. The same run_id again is a no-op."""
        ...

    def list_recovery_runs(self, limit: int, run_id: str | None = None) -> list[RecoveryRun]:
        """The newest runs first; or just the one of that id."""
        ...

    def find_decisions(self, where: DecisionFilter, limit: int) -> list[DecisionRecord]:
        """Up to `limit` decisions of recovery runs, those of the newest runs first."""
        ...

    def take_sample(self, leader: Identity, interval_s: float, threshold_s: float) -> Sample | None:
        """Write one sample of the fleet and its throttles, if `leader` leads and none is younger than half an interval.

        With it goes why limits have moved. Nonsense in what a pod publishes is left out.
        """
        ...

    def list_samples(self, since_ts: float, limit: int) -> list[Sample]:
        """Samples from `since_ts` on, oldest first; at most the newest `limit`."""
        ...

    def work_history(self, since_ts: float, width_s: float) -> list[WorkSpan]:
        """The samples from `since_ts` on, added up over spans of `width_s` seconds, oldest first.

        Spans begin at multiples of the width; those without a sample are left out.
        """
        ...

    def list_pod_samples(self, since_ts: float, every: int = 1) -> list[PodSample]:
        """The pods in the samples from `since_ts` on, oldest first; of the samples only one in `every` counts."""
        ...

    def list_throttle_samples(self, since_ts: float, limit: int, name: str | None = None) -> list[ThrottleSample]:
        """Samples of throttles (of one, with `name`) from `since_ts` on, oldest first; at most the newest `limit`."""
        ...

    def list_throttle_changes(self, limit: int, since_ts: float = 0.0, name: str | None = None) -> list[ThrottleChange]:
        """Why limits moved, from `since_ts` on, newest first."""
        ...

    def purge(self, completed_before: float, failed_before: float, limit: int) -> dict[str, int]:
        """Delete up to `limit` old rows of each kind (steps, samples, runs, commands, pods, …); returns the counts."""
        ...


class Store(StepStore, PodStore, LeaderStore, Protocol):
    """A whole store."""

    def create_schema(self) -> None:
        """Create or migrate the tables. Idempotent, and safe when many pods start at once. May raise SchemaMismatch."""
        ...

    def now(self) -> float:
        """The database's time."""
        ...

    def change_signal(self) -> ChangeSignal | None:
        """Tells when another connection commits; None where the store has no such thing. Close it before the store."""
        ...

    def reopen(self, role: str = "") -> Store:
        """Another connection to the same store; `role` says what for, in a word, to those who watch the database."""
        ...

    def close(self) -> None:
        """Close the connection. Idempotent."""
        ...
