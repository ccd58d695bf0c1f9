"""What must hold in every history: a model of the fleet that sees each committed call and each move of a step.

The moves come from a trigger in the database, so that a statement cannot move a step unseen. The model keeps beats,
births and owners by itself, from the calls, and never asks the statements that it judges.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fleetq_core.model import TRANSITIONS, Status

MOVED = """CREATE TEMP TRIGGER step_moved AFTER UPDATE ON step_tracker
WHEN old.status <> new.status OR old.claim_token IS NOT new.claim_token OR old.retry_count <> new.retry_count
BEGIN SELECT step_moved(new.step_id, old.status, new.status, old.claim_token, new.claim_token, old.retry_count,
    new.retry_count, COALESCE(new.max_retries, 3), old.claimed_by, old.incarnation, old.retry_ts, new.retry_ts); END"""

MAKERS = {
    ("pending", "claimed"): {"claim_steps"},
    ("pending", "failed"): {"cancel_steps"},
    ("claimed", "completed"): {"settle_steps"},
    ("claimed", "failed"): {"settle_steps", "recover"},
    ("claimed", "pending"): {"settle_steps", "release_steps", "release_unknown", "recover"},
    ("failed", "pending"): {"recover", "requeue_steps"},
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call that reached the store. `late`: it landed after its caller had given up."""

    number: int
    name: str
    args: tuple[Any, ...]
    late: bool


@dataclass(frozen=True, slots=True)
class Move:
    """What the trigger saw of one row."""

    step_id: str
    old: str
    new: str
    old_token: str | None
    new_token: str | None
    old_retry: int
    new_retry: int
    max_retries: int
    owner: str | None
    incarnation: str | None
    old_retry_ts: float | None
    retry_ts: float | None


@dataclass(slots=True)
class PodRow:
    """A pod's row, as the calls have made it."""

    incarnation: str
    birth: float
    beat: float
    up: bool
    may_lead: bool


class Model:
    """Judges calls and moves as they come; what is wrong is in `violations`."""

    def __init__(self, now: Callable[[], float], threshold_s: float) -> None:
        self._now, self._threshold_s = now, threshold_s
        self.violations: list[str] = []
        self.pods: dict[str, PodRow] = {}
        self.tokens: dict[str, str | None] = {}  # step -> current token
        self.token_call: dict[str, int] = {}  # token -> the last call that claimed with it
        self.held: defaultdict[str, set[str]] = defaultdict(set)  # token -> the steps that are claimed under it
        self.heard: set[str] = set()  # tokens of claims whose answer has reached the pod
        self.judged: set[tuple[str, str]] = set()  # run, pod that it declared dead
        self.starts: Counter[tuple[str, str]] = Counter()
        self.finished_well: set[tuple[str, str]] = set()
        self.completions: Counter[str] = Counter()
        self.due: dict[str, float] = {}  # step -> when it was handed back for
        self.call = Call(0, "nothing", (), late=False)

    def wrong(self, what: str) -> None:
        self.violations.append(f"at {self._now() - 1_800_000_000:.3f} s: {what}")

    # -- calls --------------------------------------------------------------------------------------------------------

    def before(self, name: str, args: tuple[Any, ...], *, late: bool) -> None:
        self.call = Call(self.call.number + 1, name, args, late)

    def after(self, name: str, args: tuple[Any, ...], answer: Any) -> None:
        now = self._now()
        if name == "register_pod":
            who = args[0]
            row = self.pods.get(who.pod_id)
            keeps = row is not None and row.incarnation == who.incarnation and row.up
            birth = row.birth if row is not None and keeps else now
            self.pods[who.pod_id] = PodRow(who.incarnation, birth, now, True, who.may_lead)
        elif name in ("beat", "mark_down"):
            row = self.pods.get(args[0].pod_id)
            if row is not None and row.incarnation == args[0].incarnation:
                row.up = name == "beat"
                row.beat = now if row.up else row.beat
        elif name == "recover":
            self._bury(args[0], answer.dead_pods)

    def leader(self) -> str | None:
        now = self._now()
        alive = [(r.birth, p, r.incarnation) for p, r in self.pods.items() if r.may_lead and self._alive(r, now)]
        return min(alive)[2] if alive else None

    def _alive(self, row: PodRow, now: float) -> bool:
        return row.up and row.beat > now - self._threshold_s

    def _bury(self, order: Any, told: tuple[str, ...]) -> None:
        # A request that is repeated, or lands twice, is told again what its run has judged, maybe of a pod that beats
        # by now: that is no new verdict.
        dead = [pod_id for pod_id in told if (order.run_id, pod_id) not in self.judged]
        self.judged |= {(order.run_id, pod_id) for pod_id in dead}
        for pod_id in dead:
            row = self.pods[pod_id]
            if self._alive(row, self._now()):
                self.wrong(f"I12: pod {pod_id} was declared dead {self._now() - row.beat:.1f} s after its beat")
            if order.hold_off:
                self.wrong(f"hold-off: pod {pod_id} was declared dead all the same")
        for pod_id in dead:
            self.pods[pod_id].up = False

    # -- moves --------------------------------------------------------------------------------------------------------

    def moved(self, *values: Any) -> None:
        m = Move(*values)
        name = self.call.name
        self.tokens[m.step_id] = m.new_token
        due = self.due.pop(m.step_id, 0.0)
        if m.new == "claimed" and self._now() < due:
            self.wrong(f"I16: {m.step_id} was claimed {due - self._now():.3f} s before it was due")
        if m.old == m.new:
            self.wrong(f"I4: {name} changed {m.step_id} while it stayed {m.old}")
        elif Status(m.new) not in TRANSITIONS[Status(m.old)] or name not in MAKERS[(m.old, m.new)]:
            self.wrong(f"I4/I8: {name} moved {m.step_id} from {m.old} to {m.new}")
        else:
            getattr(self, f"_check_{name}")(m)
        if m.old == "claimed":
            self.held[str(m.old_token)].discard(m.step_id)
        if m.new == "claimed":
            self.held[str(m.new_token)].add(m.step_id)

    def _check_claim_steps(self, m: Move) -> None:
        who = self.call.args[0]
        token = str(m.new_token)
        if self.token_call.get(token) != self.call.number:
            # Who never had an answer asks for the same claim again, maybe after the first was recovered: a token is
            # used up by the answer. Nobody hears of a request that lands late; what it claims is released.
            if self.held[token]:
                self.wrong(f"I4: {m.step_id} was claimed under the token of {sorted(self.held[token])}")
            elif token in self.heard and not self.call.late:
                self.wrong(f"I4: token of {m.step_id} was used by two claims")
        self.token_call[token] = self.call.number
        if m.new_token == m.old_token and not self.call.late:
            self.wrong(f"I4: {m.step_id} was claimed with the token it had before")
        row = self.pods.get(who.pod_id)
        if row is None or row.incarnation != who.incarnation or not self._alive(row, self._now()):
            self.wrong(f"I4: {m.step_id} was claimed by {who.pod_id}, which is not alive")
        self._same_retry(m)

    def _check_settle_steps(self, m: Move) -> None:
        outcomes = {(o.step_id, o.claim_token): o for o in self.call.args[0]}
        outcome = outcomes.get((m.step_id, str(m.old_token)))
        if outcome is None:
            self.wrong(f"I7: {m.step_id} was settled with a token that is not the current one")
            return
        self._same_retry(m)
        if m.new != outcome.status:
            self.wrong(f"I4: {m.step_id} became {m.new} by an outcome that says {outcome.status}")
        if m.new == "pending":
            self.due[m.step_id] = self._now() + (outcome.retry_delay_s or 0.0)
        elif m.new == "completed":
            self.completions[m.step_id] += 1
            if self.completions[m.step_id] > 1:
                self.wrong(f"I8: {m.step_id} was completed twice")
            if (m.step_id, m.old_token) not in self.finished_well:
                self.wrong(f"I9: {m.step_id} is completed, but no run under its token finished")
        elif m.retry_ts is None and outcome.retry_delay_s is not None and m.old_retry < m.max_retries:
            self.wrong(f"I11: {m.step_id} became a dead letter with retries left")

    def _check_release_steps(self, m: Move) -> None:
        if (m.step_id, m.old_token) not in {tuple(c) for c in self.call.args[0]}:
            self.wrong(f"I7: {m.step_id} was released with a token that is not the current one")
        self._same_retry(m)

    def _check_release_unknown(self, m: Move) -> None:
        who, known, _ = self.call.args
        if m.incarnation != who.incarnation or m.old_token in known:
            self.wrong(f"I7: {m.step_id} was released as unknown, but is another's or known")
        self._same_retry(m)

    def _check_requeue_steps(self, m: Move) -> None:
        if m.new_retry != 0:
            self.wrong(f"I10: {m.step_id} was requeued by an operator with retry_count {m.new_retry}")

    def _check_cancel_steps(self, m: Move) -> None:
        self._same_retry(m)

    def _check_recover(self, m: Move) -> None:
        order, now = self.call.args[0], self._now()
        if order.leader.incarnation != self.leader():
            self.wrong(f"leadership: {order.leader.pod_id} moved {m.step_id} without leading")
        if m.old == "failed":
            if m.old_retry_ts is None or m.old_retry_ts > now:
                self.wrong(f"I8: {m.step_id} was retried as a dead letter or before its time")
        else:
            self._check_orphan(m, order, now)
        ends = m.new == "failed"
        if m.new_retry != m.old_retry + (not ends) or m.new_retry > m.max_retries:
            self.wrong(f"I10: recovery took {m.step_id} from retry {m.old_retry} to {m.new_retry}")
        if ends and m.old_retry < m.max_retries:
            self.wrong(f"I11: {m.step_id} was ended by recovery with retries left")

    def _check_orphan(self, m: Move, order: Any, now: float) -> None:
        row = self.pods.get(str(m.owner))
        gone = row is None or row.incarnation != m.incarnation or not row.up
        if not gone and (order.hold_off or (row is not None and self._alive(row, now))):
            self.wrong(f"I12: {m.step_id} was taken from {m.owner}, which is alive or not to be judged yet")
        if m.new_token is not None:
            self.wrong(f"I7: {m.step_id} kept its token when recovery took it")

    def _same_retry(self, m: Move) -> None:
        if m.new_retry != m.old_retry:
            self.wrong(f"I10: {self.call.name} changed retry_count of {m.step_id}")

    # -- runs ---------------------------------------------------------------------------------------------------------

    def started(self, step_id: str, token: str, *, superseded: bool) -> None:
        self.starts[step_id, token] += 1
        if self.starts[step_id, token] > 1:
            self.wrong(f"I5: {step_id} was started twice under one token")
        if self.tokens.get(step_id) != token and not superseded:
            self.wrong(f"I6: {step_id} was started under a claim that is lost, by a pod that trusts its lease")
