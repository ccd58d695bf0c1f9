"""The Snowflake store: a fleet on many machines, on standard or on hybrid tables.

Every method is made of single autocommit statements, and every one of these may be repeated: there is no transaction
across the network that a dead client could leave open.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fleetq_core.errors import SchemaMismatch, StoreError
from fleetq_core.ids import new_token
from fleetq_core.model import (
    JSON,
    Beat,
    BeatState,
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
    Status,
    StepFilter,
    StepRecord,
    StepRow,
    ThrottleChange,
    ThrottleSample,
    Verdict,
    WorkSpan,
)

from . import rows, snowflake_history, snowflake_samples, snowflake_schema
from .protocol import Recovered, RecoveryOrder, Store
from .snowflake_beats import Held, told
from .snowflake_binds import DIALECT, json_sets
from .snowflake_claims import Claims
from .snowflake_connection import SnowflakeConnection, Statement, timestamp
from .snowflake_statements import Statements, microseconds
from .snowpark import SessionKeeper
from .step_filter import conditions, decision_conditions

_MISSING_TABLE = (2003, 2043)
_FOREVER_US = 10**15  # 31 years: nobody has been silent for as long


class SnowflakeStore:
    """`Store` on Snowflake. Time is the database's; `connection` is its own and is closed with it."""

    def __init__(self, connection: SnowflakeConnection, snowpark: SessionKeeper | None = None) -> None:
        self.tables = ""
        self._db, self._run = connection, Statements(connection)
        self._claims = Claims(self._run)
        self._looked: IdleLook | None = None
        self._held = Held()
        self._last_run = ""
        self._snowpark = snowpark or SessionKeeper()

    # -- life cycle ---------------------------------------------------------------------------------------------------

    def create_schema(self, tables: snowflake_schema.Tables | None = None) -> None:
        """Create the tables if they are missing, or add what older ones lack. For an operator; pods only check."""
        found = self._version()
        if found is None or found[0] < snowflake_schema.VERSION:
            kind = snowflake_schema.kind_of(found[1]) if found else tables or "standard"
            for text in snowflake_schema.statements(kind):
                self._db.write(Statement.of("schema", text), {})
        self.check_schema()
        if tables not in (None, self.tables):
            raise StoreError(
                f"this Snowflake schema has {self.tables} tables of FLEET-Q already, and they do not turn {tables}: "
                "name another schema in SNOWFLAKE_SCHEMA"
            )

    def check_schema(self) -> None:
        """Raise SchemaMismatch, or StoreError where there are no tables; set `tables` to their kind."""
        found = self._version()
        if found is None:
            raise StoreError("this Snowflake schema has no FLEET-Q tables: run `fleetq schema --apply`")
        version, tables = found
        if version != snowflake_schema.VERSION:
            older = version < snowflake_schema.VERSION
            raise SchemaMismatch(
                f"the tables on Snowflake have version {version}, this program knows {snowflake_schema.VERSION}: "
                + ("stop the pods of the older FLEET-Q and run `fleetq schema --apply`" if older else
                   "run the same FLEET-Q everywhere, or give this one a schema of its own in SNOWFLAKE_SCHEMA")
            )  # fmt: skip
        self.tables = tables
        if tables == "hybrid":
            self._db.use_hybrid()

    def _version(self) -> tuple[int, str] | None:
        try:
            found = self._run.rows("schema_version")
        except StoreError as exc:
            if getattr(exc.__cause__, "errno", None) in _MISSING_TABLE:
                return None
            raise
        return (int(found[0][0]), str(found[0][1])) if found else None

    def now(self) -> float:
        return float(self._run.rows("now")[0][0])

    def change_signal(self) -> None:
        """Snowflake tells nobody of commits: waiting is polling here."""
        return

    def reopen(self, role: str = "") -> Store:
        other = SnowflakeStore(self._db.again(role))
        other.tables = self.tables
        return other

    def close(self) -> None:
        self._db.close()

    # -- steps --------------------------------------------------------------------------------------------------------

    def insert_steps(self, steps: Sequence[StepRow]) -> int:
        token = new_token()
        by_id = {s.step_id: s for s in reversed(steps)}  # of an id that comes twice the first one counts
        told = [(s.step_id, s.task_type, s.payload, s.priority, s.max_retries) for s in by_id.values()]
        new = sum(self._run.write("insert_steps", steps=text, token=token) for _, text in json_sets(told))
        return new if self._db.hybrid else new - self._undouble(list(by_id), token, again=new < len(by_id))

    def _undouble(self, step_ids: Sequence[str], token: str, *, again: bool) -> int:
        """Take back what another submit of the same ids wrote at the same moment; returns how many of its own.

        With `again` the ids were known before: maybe by a submit that never heard what became of it, and so has not
        looked for copies. Then those of others go too.
        """
        doubled = [row[0] for row in self._run.rows("doubled_steps", step_ids=json.dumps(step_ids))]
        if not doubled:
            return 0
        own = self._run.write("drop_doubles", step_ids=json.dumps(doubled), token=token)
        if again:
            self._run.write("drop_doubles", step_ids=json.dumps(doubled), token=None)
        return own

    def claim_steps(
        self,
        who: Identity,
        claim_token: str,
        limit: int,
        threshold_s: float,
        caps: Mapping[str, int] | None = None,
    ) -> list[ClaimedRow]:
        return self._claims.claim(who, claim_token, limit, threshold_s, caps or {})

    def settle_steps(self, outcomes: Sequence[Outcome], max_retries: int) -> set[tuple[str, str]]:
        # Two outcomes of one claim in a set would be an error of the whole statement; the first one stands.
        first = {(o.step_id, o.claim_token): o for o in reversed(outcomes)}
        told = [
            (o.step_id, o.claim_token, o.status.value, o.result if o.status is Status.COMPLETED else o.error, o.run_s,
             None if o.retry_delay_s is None else microseconds(o.retry_delay_s))
            for o in first.values()
        ]  # fmt: skip
        written = [
            self._run.write("settle_steps", outcomes=text, max_retries=max_retries) == count
            for count, text in json_sets(told)
        ]
        return set(first) if all(written) and len(first) == len(outcomes) else self._standing(outcomes)

    def _standing(self, outcomes: Sequence[Outcome]) -> set[tuple[str, str]]:
        found = self._run.rows("settled_already", step_ids=json.dumps([o.step_id for o in outcomes]))
        return rows.standing(outcomes, found)

    def release_steps(self, claims: Sequence[tuple[str, str]]) -> int:
        return sum(self._run.write("release_steps", claims=text) for _, text in json_sets(claims))

    def release_unknown(self, who: Identity, known_tokens: Collection[str], before_ts: float) -> int:
        if not self._held.may_be_unknown(who, known_tokens, before_ts):
            return 0
        bind = {"incarnation": who.incarnation, "before": timestamp(before_ts)}
        return self._run.write("release_unknown", **bind, known=json.dumps(sorted(known_tokens)))

    def held_claims(self, who: Identity) -> set[tuple[str, str]]:
        return {(step_id, token) for step_id, token in self._run.rows("held_claims", incarnation=who.incarnation)}

    def requeue_steps(self, step_ids: Sequence[str]) -> list[str]:
        return self._move("requeue_steps", step_ids)

    def cancel_steps(self, step_ids: Sequence[str], reason: str) -> list[str]:
        return self._move("cancel_steps", step_ids, reason=reason)

    def _move(self, name: str, step_ids: Sequence[str], **bind: Any) -> list[str]:
        token = new_token()
        moved = [self._run.write(name, step_ids=text, token=token, **bind) for _, text in json_sets(step_ids)]
        return [row[0] for row in self._run.rows("moved_under", token=token)] if any(moved) else []

    def get_steps(self, step_ids: Sequence[str]) -> list[StepRecord]:
        found = rows.steps(self._run.rows("get_steps", step_ids=json.dumps(list(step_ids))))
        return list({record.step_id: record for record in found}.values())

    def payloads_of(self, step_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        found = self._run.rows("payloads_of", step_ids=json.dumps(list(step_ids)))
        return {step_id: (payload, priority) for step_id, payload, priority in found}

    def find_steps(self, where: StepFilter, limit: int, after: PageKey | None = None) -> list[StepRecord]:
        return rows.steps(self._run.found("find_steps", conditions(where, after, DIALECT), limit))

    def find_ids(self, where: StepFilter, limit: int) -> list[str]:
        return [row[0] for row in self._run.found("find_ids", conditions(where, None, DIALECT), limit)]

    def created_behind(self, where: StepFilter, steps: int, after: PageKey | None = None) -> float | None:
        ((created, found),) = self._run.found("created_behind", conditions(where, after, DIALECT), steps)
        return created if found == steps else None

    def held_by_pod(self) -> list[HeldClaims]:
        return [HeldClaims(*row) for row in self._run.rows("held_by_pod")]

    def stats(self) -> QueueStats:
        return QueueStats(*self._run.rows("stats")[0])

    # -- pods and commands --------------------------------------------------------------------------------------------

    def register_pod(self, who: Identity, meta: Mapping[str, Any]) -> float:
        self._run.write("register_pod", **rows.identity(who), meta=rows.published(meta))
        return self.now()

    def beat(self, who: Identity, meta: Mapping[str, Any], threshold_s: float) -> Beat:
        bind = {"pod_id": who.pod_id, "incarnation": who.incarnation, "meta": rows.published(meta)}
        state = BeatState.ALIVE
        if not self._run.write("beat", **bind):
            state = BeatState.REVIVED if self._run.write("revive", **bind) else BeatState.SUPERSEDED
        view = self._run.rows("fleet_view", **rows.identity(who), threshold_us=microseconds(threshold_s))
        own = [row for row in view if row[0] == "own"]
        if own:
            held = {row[1]: row[6] for row in view if row[0] == "held"}
            self._held = Held(who.incarnation, own[0][7], held)
        if not own or state is BeatState.SUPERSEDED:
            return Beat(own[0][7] if own else self.now(), BeatState.SUPERSEDED if own else BeatState.MISSING)
        return told(who, state, own[0], view)

    def throttle_reports(self, threshold_s: float) -> dict[str, JSON]:
        found = self._run.rows("throttle_reports", threshold_us=microseconds(threshold_s))
        published = {pod_id: rows.mapping(meta).get("throttle_reports") for pod_id, meta in found}
        return {pod_id: told if isinstance(told, dict) else {} for pod_id, told in published.items()}

    def mark_down(self, who: Identity) -> None:
        self._run.write("mark_down", pod_id=who.pod_id, incarnation=who.incarnation)

    def idle_look(self) -> IdleLook:
        open_steps, *newest = self._run.glance("idle_look", cached=self._looked is not None)[0]
        found = IdleLook(open_steps > 0, *newest)
        # The same answer again: nothing was written, so the next one should come from the result cache.
        self._looked = found if self.tables == "standard" and found == (self._looked or found) else None
        return found

    def list_pods(self) -> list[PodRecord]:
        return [rows.pod(row) for row in self._run.rows("list_pods")]

    def insert_command(self, command_id: str, kind: str, target: str, args: Mapping[str, Any], issued_by: str) -> None:
        bind = {"command_id": command_id, "kind": kind, "target": target, "issued_by": issued_by}
        self._run.write("insert_command", args=json.dumps(dict(args)), **bind)

    def answer_command(self, command_id: str, pod_id: str, ok: bool, result: str) -> None:
        self._run.write("answer_command", command_id=command_id, pod_id=pod_id, ok=int(ok), result=result)

    def list_commands(self, limit: int, command_ids: Sequence[str] | None = None) -> list[CommandRecord]:
        wanted = None if command_ids is None else json.dumps(list(command_ids))
        found = self._run.rows("list_commands", limit=limit, command_ids=wanted)
        answers = [row[6:] for row in found if row[7] is not None]
        commands = {row[0]: rows.command(row[:6]) for row in found}
        return [CommandRecord(command, rows.answers(name, answers)) for name, command in commands.items()]

    # -- leader -------------------------------------------------------------------------------------------------------

    def recover(self, order: RecoveryOrder) -> Recovered:
        ran_before = self._run.count
        silence_us = _FOREVER_US if order.hold_off else microseconds(order.threshold_s)
        bind = {"incarnation": order.leader.incarnation, "threshold_us": microseconds(order.threshold_s)}
        look = self._run.rows("recovery_look", threshold_us=bind["threshold_us"], silence_us=silence_us)[0]
        now, leader, orphans, due, silent = look
        if leader != order.leader.incarnation:
            return Recovered(is_leader=False, now_ts=now)
        run = bind | {"run_id": order.run_id, "limit": order.limit}
        # Asked again, the run tells of what it did the first time too: that reply was lost.
        again, self._last_run = order.run_id == self._last_run, order.run_id
        moved, dead = 0, list[Verdict]()
        if orphans:
            moved += self._run.write("recover_orphans", **run, silence_us=silence_us, max_retries=order.max_retries)
        if due:
            moved += self._run.write("retry_failed", **run)
        if silent:
            dead = [Verdict(*row) for row in self._run.rows("silent_pods", silence_us=silence_us)]
            dead = dead if self._run.write("bury_dead_pods", **bind, silence_us=silence_us) else []
        found = self._run.rows("moved_in_run", run_id=order.run_id) if again else []
        if again:
            dead += rows.verdicts(self._run.rows("verdicts_of_run", run_id=order.run_id))
        if moved or dead or found:
            opened = {"run_id": order.run_id, "pod_id": order.leader.pod_id} | rows.verdicts_bind(dead)
            self._run.write("open_recovery_run", **opened)
        found = self._run.rows("moved_in_run", run_id=order.run_id) if moved else found
        statements = self._run.count - ran_before
        return Recovered(True, now, tuple(rows.decisions(order.run_id, found)), tuple(dead), statements)

    def save_recovery_run(self, run: RecoveryRun, decisions: Sequence[Decision]) -> None:
        finished = None if run.finished_ts is None else timestamp(run.finished_ts)
        times = {"started_ts": timestamp(run.started_ts), "finished_ts": finished}
        self._run.write("save_recovery_run", **rows.recovery_run_bind(run) | times)
        told = [(d.step_id, d.cause, d.action, d.owner, d.retry_count, d.reason) for d in decisions]
        for _, text in json_sets(told):
            self._run.write("save_decisions", run_id=run.run_id, decisions=text)

    def list_recovery_runs(self, limit: int, run_id: str | None = None) -> list[RecoveryRun]:
        return [rows.recovery_run(row) for row in self._run.rows("list_recovery_runs", limit=limit, run_id=run_id)]

    def find_decisions(self, where: DecisionFilter, limit: int) -> list[DecisionRecord]:
        return [
            rows.decision_record(row) for row in self._run.found("find_decisions", decision_conditions(where), limit)
        ]

    def take_sample(self, leader: Identity, interval_s: float, threshold_s: float) -> Sample | None:
        return snowflake_samples.take(self._run, leader, interval_s, threshold_s)

    def list_samples(self, since_ts: float, limit: int) -> list[Sample]:
        found = self._run.rows("list_samples", since=timestamp(since_ts), limit=limit)
        return [Sample(*row) for row in reversed(found)]

    def work_history(self, since_ts: float, width_s: float) -> list[WorkSpan]:
        return snowflake_history.work_history(self._db, self._snowpark, since_ts, width_s)

    def list_pod_samples(self, since_ts: float, every: int = 1) -> list[PodSample]:
        found = self._run.rows("list_pod_samples", since=timestamp(since_ts), every=every)
        return [pod for row in found for pod in rows.pod_samples(row)]

    def list_throttle_samples(self, since_ts: float, limit: int, name: str | None = None) -> list[ThrottleSample]:
        found = self._run.rows("list_throttle_samples", since=timestamp(since_ts), limit=limit, throttle=name)
        return [ThrottleSample(*row) for row in reversed(found)]

    def list_throttle_changes(self, limit: int, since_ts: float = 0.0, name: str | None = None) -> list[ThrottleChange]:
        found = self._run.rows("list_throttle_changes", since=timestamp(since_ts), limit=limit, throttle=name)
        return [ThrottleChange(*row) for row in found]

    def purge(self, completed_before: float, failed_before: float, limit: int) -> dict[str, int]:
        bind = {
            "completed_before": timestamp(completed_before), "failed_before": timestamp(failed_before), "limit": limit,
        }  # fmt: skip
        kinds = (
            "completed", "failed", "samples", "decisions", "runs", "commands", "answers", "pods", "throttles",
            "changes",
        )  # fmt: skip
        # Seldom is anything old enough, and one look costs less than ten writes that take locks.
        old = dict(self._run.rows("purge_look", **bind))
        return {kind: self._run.write(f"purge_{kind}", **bind) if old.get(kind) else 0 for kind in kinds}
