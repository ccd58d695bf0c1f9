"""The verbs of the queue: submit, claim, complete, fail, requeue; and what one may ask of it."""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from .backoff import full_jitter
from .config import Config
from .errors import InvalidPayload, StepConflict, TerminalError
from .failures import error_text
from .ids import STEP_ID, new_id, new_step_id, new_token
from .model import (
    JSON,
    MAX_DEFER_S,
    BeatState,
    ClaimedRow,
    CommandRecord,
    Identity,
    NewStep,
    Outcome,
    PageKey,
    QueueStats,
    Status,
    Step,
    StepFilter,
    StepRecord,
    StepRow,
    Submitted,
    hearing,
)
from .payload import canonical, decode, encode_payload, encode_result
from .store import Store

log = logging.getLogger(__name__)

SUBMIT_SET = 500  # steps for each insert statement
LOOK_AGAIN_S = 1.0  # a caller that waits for a step looks at least this often
DEFER_BASE_S = 1.0  # the window of a deferral without a time: doubled with each, up to the most
DEFER_MOST_S = 30.0
MAX_BULK = 10_000  # steps that one operator action may touch
PRIORITY_LIMIT = 2**31 - 1
STORE_OPERATOR = "(store)"  # answers commands that need no pod


class Queue:
    """The queue as user code and pods see it. Safe to share between threads."""

    def __init__(self, store: Store, config: Config, who: Identity | None = None) -> None:
        self.store = store
        self.config = config
        # A claim made outside a pod belongs to a client that never leads: it has no leader loop.
        self.who = who or Identity(config.pod_id, new_token(), may_lead=False)
        self.on_submit: Callable[[], None] | None = None

    # -- submit -------------------------------------------------------------------------------------------------------

    def submit_step(
        self,
        payload: Mapping[str, JSON],
        *,
        priority: int = 0,
        step_id: str | None = None,
        max_retries: int | None = None,
    ) -> str:
        """Submit one step and return its step_id.

        The same step_id with the same payload and priority again is a no-op: the first submit stands, with its
        max_retries. Raises InvalidPayload, or StepConflict where the step_id belongs to a different step.
        """
        return self.submit_steps([NewStep(payload, priority, step_id, max_retries)])[0]

    def submit_steps(self, steps: Iterable[NewStep | Mapping[str, JSON]]) -> list[str]:
        """Submit many steps, given as NewStep or as plain payloads; returns their ids in the same order.

        Steps go in sets of a few hundred. After an error the sets before it stand; submit the same ids again to resume.
        """
        ids: list[str] = []
        for submitted in self.submit_sets(steps):
            if submitted.conflicts:
                raise StepConflict(submitted.conflicts[0])
            ids += submitted.step_ids
        return ids

    def submit_sets(self, steps: Iterable[NewStep | Mapping[str, JSON]]) -> Iterator[Submitted]:
        """`submit_steps` set by set: what became of each set of SUBMIT_SET steps, conflicts named and not raised."""
        source = iter(steps)
        while chunk := list(itertools.islice(source, SUBMIT_SET)):
            rows = [self._row(step if isinstance(step, NewStep) else NewStep(step)) for step in chunk]
            new = self.store.insert_steps(rows)
            conflicts = self._conflicts(rows) if new < len(rows) else []
            if self.on_submit:
                self.on_submit()
            yield Submitted([row.step_id for row in rows], new, conflicts)

    def check(self, step: NewStep) -> None:
        """Raise InvalidPayload if `step` could not be submitted."""
        self._row(step)

    def _row(self, step: NewStep) -> StepRow:
        task_type, payload = encode_payload(step.payload, self.config.max_payload_bytes)
        step_id = new_step_id() if step.step_id is None else step.step_id
        if not isinstance(step_id, str) or not STEP_ID.fullmatch(step_id):
            raise InvalidPayload(
                "step_id", "must be 1 to 200 letters, digits or _ . : @ / + -, starting with a letter or digit"
            )
        if type(step.priority) is not int or abs(step.priority) > PRIORITY_LIMIT:
            raise InvalidPayload(
                "priority", f"must be a whole number of at most ±{PRIORITY_LIMIT}, not {step.priority!r}"
            )
        retries = step.max_retries
        if retries is not None and (type(retries) is not int or not 0 <= retries <= 1000):
            raise InvalidPayload("max_retries", f"must be a whole number from 0 to 1000, not {retries!r}")
        return StepRow(step_id, task_type, payload, step.priority, retries)

    def _conflicts(self, rows: Sequence[StepRow]) -> list[str]:
        """The ids that belong to steps of another payload or priority."""
        stored = self.store.payloads_of([row.step_id for row in rows])
        found = []
        for row in rows:
            payload, priority = stored.get(row.step_id, (row.payload, row.priority))
            if priority != row.priority or (payload != row.payload and canonical(payload) != canonical(row.payload)):
                found.append(row.step_id)
        return found

    # -- claim and settle ---------------------------------------------------------------------------------------------

    def claim_steps(self, limit: int) -> list[Step]:
        """Claim up to `limit` pending steps, best first, outside a pod.

        The claims are honoured for one dead-pod threshold after the last call of this method.
        """
        beat = self.store.beat(self.who, {"state": "client"}, self.config.dead_pod_threshold)
        if beat.state is BeatState.MISSING:
            self.store.register_pod(self.who, {"state": "client"})
        return self.claim_as(new_token(), limit)

    def claim_as(self, claim_token: str, limit: int, caps: Mapping[str, int] | None = None) -> list[Step]:
        """Claim under a token of the caller's; the same token again returns the same claim.

        `caps` says of how many steps to take at most of each task type that it names.
        """
        return self.steps_of(self.claim_rows(claim_token, limit, caps))

    def claim_rows(self, claim_token: str, limit: int, caps: Mapping[str, int] | None = None) -> list[ClaimedRow]:
        """`claim_as` for who wants the rows as they are stored."""
        return self.store.claim_steps(self.who, claim_token, limit, self.config.dead_pod_threshold, caps)

    def steps_of(self, rows: Iterable[ClaimedRow]) -> list[Step]:
        """The steps in claimed rows. One whose payload is damaged is failed, and left out."""
        return [step for row in rows if (step := self._step(row)) is not None]

    def _step(self, row: ClaimedRow) -> Step | None:
        try:
            payload = decode(row.payload)
            if not isinstance(payload, dict) or not isinstance(payload.get("task_type"), str):
                raise ValueError("not an object with a task_type")
        except ValueError as exc:
            # One damaged row must not hold the others of its claim up.
            error = f"the stored payload is damaged: {exc}"
            self.settle([Outcome(row.step_id, row.claim_token, Status.FAILED, 0.0, error=error)])
            return None
        return Step(
            row.step_id, payload, row.priority, row.retry_count, row.claim_token, self.who.pod_id, row.created_ts,
            row.deferrals,
        )  # fmt: skip

    def complete_step(self, step: Step, result: JSON = None, *, run_s: float = 0.0) -> bool:
        """Write a step's result. False: the claim was lost meanwhile, and the result is not wanted any more."""
        return self.settle([self.completed(step, result, run_s)]) == 1

    def fail_step(self, step: Step, error: str | BaseException, *, run_s: float = 0.0) -> bool:
        """Write a step's failure; the leader retries it after its backoff delay. False as in complete_step."""
        return self.settle([self.failed(step, error, run_s)]) == 1

    def completed(self, step: Step, result: JSON, run_s: float) -> Outcome:
        """The outcome of a handler that returned. Raises InvalidPayload for a result that is not JSON."""
        encoded = encode_result(result, self.config.max_payload_bytes)
        return Outcome(step.step_id, step.claim_token, Status.COMPLETED, run_s, encoded)

    def failed(self, step: Step, error: str | BaseException, run_s: float) -> Outcome:
        """The outcome of a handler that raised; errors that no retry can cure carry no delay."""
        terminal = isinstance(error, (TerminalError, InvalidPayload))
        delay = full_jitter(step.retry_count, self.config.retry_base_delay, self.config.retry_max_delay)
        return Outcome(
            step.step_id,
            step.claim_token,
            Status.FAILED,
            run_s,
            error=error_text(error),
            retry_delay_s=None if terminal else delay,
        )

    def deferred(self, step: Step, reason: str | BaseException, run_s: float, delay_s: float | None = None) -> Outcome:
        """The outcome of a handler that handed its step back for `delay_s` seconds; no retry is counted.

        Without a usable delay a random one is drawn from a window that grows with the number of the step's deferrals.
        """
        if delay_s is None or not math.isfinite(delay_s):
            delay_s = full_jitter(step.deferrals, DEFER_BASE_S, DEFER_MOST_S)
        delay_s = min(max(0.0, delay_s), MAX_DEFER_S)
        return Outcome(
            step.step_id, step.claim_token, Status.PENDING, run_s, error=error_text(reason), retry_delay_s=delay_s
        )

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """Write outcomes in one set; returns how many stand."""
        return len(self.store.settle_steps(outcomes, self.config.max_retries))

    def release_steps(self, steps: Sequence[Step]) -> int:
        """Give claimed steps back without counting a retry; returns how many were still ours."""
        return self.store.release_steps([(step.step_id, step.claim_token) for step in steps]) if steps else 0

    # -- operators ----------------------------------------------------------------------------------------------------

    def requeue_step(self, step_id: str, *, by: str = "api") -> bool:
        """Give a failed step a fresh set of retries. False: it is unknown or not failed."""
        return bool(self.requeue_steps([step_id], by=by))

    def requeue_steps(self, step_ids: Sequence[str], *, by: str = "api") -> list[str]:
        """Requeue failed steps, at most MAX_BULK; returns the ids that moved. Audited."""
        moved = self.store.requeue_steps(_bounded(step_ids))
        self._audit("requeue_steps", step_ids, moved, by)
        self.notify()
        return moved

    def cancel_steps(self, step_ids: Sequence[str], *, by: str = "api") -> list[str]:
        """Fail pending steps for good, at most MAX_BULK; returns the ids that moved. Audited."""
        moved = self.store.cancel_steps(_bounded(step_ids), f"cancelled by {by}")
        self._audit("cancel_steps", step_ids, moved, by)
        return moved

    def order(self, kind: str, target: str, *, by: str, **args: JSON) -> str:
        """Issue a command to a pod, to '*' or to 'leader'; returns its id, under which the answers will appear."""
        command_id = new_id("cmd")
        self.store.insert_command(command_id, kind, target, args, by)
        return command_id

    def ask(self, kind: str, target: str, *, by: str, timeout_s: float, **args: JSON) -> CommandRecord:
        """Issue a command and wait until everyone addressed who can hear has answered, or time is up."""
        heard = hearing(self.store.list_pods(), self.store.now(), self.config.dead_pod_threshold)
        expected = max(1, len(heard)) if target == "*" else 1
        command_id = self.order(kind, target, by=by, **args)
        deadline, pause = time.monotonic() + timeout_s, threading.Event()
        while True:
            record = self.store.list_commands(1, [command_id])[0]
            if len(record.answers) >= expected or time.monotonic() >= deadline:
                return record
            pause.wait(0.2)

    def command(self, command_id: str) -> CommandRecord | None:
        """A command with its answers so far."""
        found = self.store.list_commands(1, [command_id])
        return found[0] if found else None

    def begin_act(self, kind: str, step_ids: Sequence[str], *, by: str, **args: JSON) -> str:
        """Put on record what somebody is about to do to many steps by the queue itself; returns the record's id."""
        return self.order(kind, STORE_OPERATOR, by=by, step_ids=list(step_ids)[:100], count=len(step_ids), **args)

    def end_act(self, command_id: str, result: str, *, ok: bool = True) -> None:
        """Put on record what came of it."""
        self.store.answer_command(command_id, STORE_OPERATOR, ok, result)

    def _audit(self, kind: str, step_ids: Sequence[str], moved: Sequence[str], by: str) -> None:
        self.end_act(self.begin_act(kind, step_ids, by=by), f"{len(moved)} of {len(step_ids)} steps moved")

    def notify(self) -> None:
        """Let whoever waits for steps in this process look at once."""
        if self.on_submit:
            self.on_submit()

    # -- questions ----------------------------------------------------------------------------------------------------

    def get_step(self, step_id: str) -> StepRecord | None:
        """One step, whole; None if there is none of that id."""
        found = self.store.get_steps([step_id])
        return found[0] if found else None

    def find_steps(
        self, where: StepFilter | None = None, *, limit: int = 100, after: PageKey | None = None
    ) -> list[StepRecord]:
        """A page of at most 1,000 matching steps, newest first."""
        return self.store.find_steps(where or StepFilter(), min(max(limit, 1), 1000), after)

    def stats(self) -> QueueStats:
        """Counts by status."""
        return self.store.stats()

    def wait(self, step_id: str, timeout_s: float) -> StepRecord:
        """Wait until a step has completed or failed for good, and return it.

        Raises KeyError for an unknown step_id and TimeoutError when time is up.
        """
        signal = self.store.change_signal()
        try:
            return self._wait(step_id, timeout_s, signal.wait if signal else _pause)
        finally:
            if signal:
                signal.close()

    def _wait(self, step_id: str, timeout_s: float, pause: Callable[[float], object]) -> StepRecord:
        deadline = time.monotonic() + timeout_s
        while True:
            record = self.get_step(step_id)
            if record is None:
                raise KeyError(step_id)
            if record.is_final:
                return record
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"step {step_id} is still {record.status.value} after {timeout_s:g} s")
            pause(min(left, LOOK_AGAIN_S))

    def close(self) -> None:
        """Close the store's connection."""
        self.store.close()


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _bounded(step_ids: Sequence[str]) -> list[str]:
    if len(step_ids) > MAX_BULK:
        raise InvalidPayload("step_ids", f"holds {len(step_ids):,} ids; one action may touch {MAX_BULK:,}")
    return list(step_ids)
