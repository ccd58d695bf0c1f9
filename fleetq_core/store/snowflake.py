"""The Snowflake store: a fleet on many machines, on standard or on hybrid tables.

Every method is made of single autocommit statements, and every one of these may be repeated: there is no transaction
across the network that a dead client could leave open.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
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
    Identity,
    Outcome,
    PageKey,
    PodRecord,
    QueueStats,
    RecoveryRun,
    Sample,
    Status,
    StepFilter,
    StepRecord,
    StepRow,
    ThrottleChange,
    ThrottleSample,
)

from . import rows, snowflake_schema
from . import snowflake_throttles as throttles
from .protocol import Recovered, RecoveryOrder, Store
from .snowflake_binds import DIALECT, json_sets
from .snowflake_connection import SnowflakeConnection, Statement, timestamp
from .statements import load_statements
from .step_filter import conditions

SQL = load_statements("snowflake.sql")
_MISSING_TABLE = (2003, 2043)
_FOREVER_US = 10**15  # 31 years: nobody has been silent for as long
_LOOKED_AT = 200  # steps that a claim within caps looks at beyond its limit
_SAMPLED_TIMES = 1000


class SnowflakeStore:
    """`Store` on Snowflake. Time is the database's; `connection` is its own and is closed with it."""

    def __init__(self, connection: SnowflakeConnection) -> None:
        self.tables = ""
        self._db = connection
        self._last_token = ""
        self._quiet = False  # whether the last claim found nothing

    # -- life cycle ---------------------------------------------------------------------------------------------------

    def create_schema(self, tables: snowflake_schema.Tables | None = None) -> None:
        """Create the tables if they are missing. Meant for an operator, once; pods only check."""
        if self._version() is None:
            for text in snowflake_schema.statements(tables or "standard"):
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
            raise SchemaMismatch(
                f"the tables on Snowflake have version {version}, this program knows {snowflake_schema.VERSION}: "
                "run the same FLEET-Q everywhere, or give this one a schema of its own in SNOWFLAKE_SCHEMA"
            )
        self.tables = tables
        if tables == "hybrid":
            self._db.use_hybrid()

    def _version(self) -> tuple[int, str] | None:
        try:
            found = self._rows("schema_version")
        except StoreError as exc:
            if getattr(exc.__cause__, "errno", None) in _MISSING_TABLE:
                return None
            raise
        return (int(found[0][0]), str(found[0][1])) if found else None

    def now(self) -> float:
        return float(self._rows("now")[0][0])

    def change_signal(self) -> None:
        """Snowflake tells nobody of commits: waiting is polling here."""
        return

    def reopen(self, role: str = "") -> Store:
        return SnowflakeStore(self._db.again(role))

    def close(self) -> None:
        self._db.close()

    def _rows(self, name: str, **bind: Any) -> list[tuple[Any, ...]]:
        return self._db.rows(Statement.of(name, SQL[name]), bind)

    def _write(self, name: str, **bind: Any) -> int:
        return self._db.write(Statement.of(name, SQL[name]), bind)

    # -- steps --------------------------------------------------------------------------------------------------------

    def insert_steps(self, steps: Sequence[StepRow]) -> int:
        token = new_token()
        by_id = {s.step_id: s for s in reversed(steps)}  # of an id that comes twice the first one counts
        told = [(s.step_id, s.task_type, s.payload, s.priority, s.max_retries) for s in by_id.values()]
        new = sum(self._write("insert_steps", steps=text, token=token) for _, text in json_sets(told))
        return new - self._undouble(list(by_id), token) if new and not self._db.hybrid else new

    def _undouble(self, step_ids: Sequence[str], token: str) -> int:
        """Take back what another submit of the same ids wrote at the same moment; returns how many."""
        doubled = [row[0] for row in self._rows("doubled_steps", step_ids=json.dumps(step_ids))]
        return self._write("drop_doubles", step_ids=json.dumps(doubled), token=token) if doubled else 0

    def claim_steps(
        self,
        who: Identity,
        claim_token: str,
        limit: int,
        threshold_s: float,
        caps: Mapping[str, int] | None = None,
    ) -> list[ClaimedRow]:
        repeated, self._last_token = claim_token == self._last_token, claim_token
        # An idle pod looks first: that takes no lock and, on standard tables, no warehouse. A busy one does not.
        if self._quiet and not repeated and not self._rows("any_pending")[0][0]:
            return []
        self._quiet = False
        bind = {"pod_id": who.pod_id, "incarnation": who.incarnation, "token": claim_token}
        self._write(
            "claim_steps",
            **bind,
            threshold_us=_us(threshold_s),
            caps=json.dumps(list((caps or {}).items())),
            look_limit=limit + (_LOOKED_AT if caps else 0),
            limit=limit,
        )
        # A step that a standard table holds twice is claimed once.
        claimed = {row[0]: ClaimedRow(*row) for row in self._rows("read_claim", **bind)}
        self._quiet = not claimed
        return sorted(claimed.values(), key=lambda r: (-r.priority, r.created_ts, r.step_id))

    def settle_steps(self, outcomes: Sequence[Outcome], max_retries: int) -> set[tuple[str, str]]:
        # Two outcomes of one claim in a set would be an error of the whole statement; the first one stands.
        first = {(o.step_id, o.claim_token): o for o in reversed(outcomes)}
        told = [
            (o.step_id, o.claim_token, o.status.value, o.result if o.status is Status.COMPLETED else o.error, o.run_s,
             None if o.retry_delay_s is None else _us(o.retry_delay_s))
            for o in first.values()
        ]  # fmt: skip
        written = [
            self._write("settle_steps", outcomes=text, max_retries=max_retries) == count
            for count, text in json_sets(told)
        ]
        return set(first) if all(written) and len(first) == len(outcomes) else self._standing(outcomes)

    def _standing(self, outcomes: Sequence[Outcome]) -> set[tuple[str, str]]:
        found = self._rows("settled_already", step_ids=json.dumps([o.step_id for o in outcomes]))
        return rows.standing(outcomes, found)

    def release_steps(self, claims: Sequence[tuple[str, str]]) -> int:
        return sum(self._write("release_steps", claims=text) for _, text in json_sets(claims))

    def release_unknown(self, who: Identity, known_tokens: Collection[str], before_ts: float) -> int:
        bind = {"incarnation": who.incarnation, "before": timestamp(before_ts)}
        return self._write("release_unknown", **bind, known=json.dumps(sorted(known_tokens)))

    def held_claims(self, who: Identity) -> set[tuple[str, str]]:
        return {(step_id, token) for step_id, token in self._rows("held_claims", incarnation=who.incarnation)}

    def requeue_steps(self, step_ids: Sequence[str]) -> list[str]:
        return self._move("requeue_steps", step_ids)

    def cancel_steps(self, step_ids: Sequence[str], reason: str) -> list[str]:
        return self._move("cancel_steps", step_ids, reason=reason)

    def _move(self, name: str, step_ids: Sequence[str], **bind: Any) -> list[str]:
        token = new_token()
        moved = [self._write(name, step_ids=text, token=token, **bind) for _, text in json_sets(step_ids)]
        return [row[0] for row in self._rows("moved_under", token=token)] if any(moved) else []

    def get_steps(self, step_ids: Sequence[str]) -> list[StepRecord]:
        found = rows.steps(self._rows("get_steps", step_ids=json.dumps(list(step_ids))))
        return list({record.step_id: record for record in found}.values())

    def payloads_of(self, step_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        found = self._rows("payloads_of", step_ids=json.dumps(list(step_ids)))
        return {step_id: (payload, priority) for step_id, payload, priority in found}

    def find_steps(self, where: StepFilter, limit: int, after: PageKey | None = None) -> list[StepRecord]:
        chosen, bind = conditions(where, after, DIALECT)
        statement = Statement.of("find_steps", SQL["find_steps"].replace("/*where*/", chosen))
        return rows.steps(self._db.rows(statement, bind | {"limit": limit}))

    def stats(self) -> QueueStats:
        return QueueStats(*self._rows("stats")[0])

    # -- pods and commands --------------------------------------------------------------------------------------------

    def register_pod(self, who: Identity, meta: Mapping[str, Any]) -> float:
        self._write("register_pod", **rows.identity(who), meta=rows.published(meta))
        return self.now()

    def beat(self, who: Identity, meta: Mapping[str, Any], threshold_s: float) -> Beat:
        bind = {"pod_id": who.pod_id, "incarnation": who.incarnation, "meta": rows.published(meta)}
        state = BeatState.ALIVE
        if not self._write("beat", **bind):
            state = BeatState.REVIVED if self._write("revive", **bind) else BeatState.SUPERSEDED
        view = self._rows("fleet_view", pod_id=who.pod_id, threshold_us=_us(threshold_s))
        own = [row for row in view if row[0] == "own"]
        if not own or state is BeatState.SUPERSEDED:
            return Beat(own[0][7] if own else self.now(), BeatState.SUPERSEDED if own else BeatState.MISSING)
        return _beat(who, state, own[0], view)

    def throttle_reports(self, threshold_s: float) -> dict[str, JSON]:
        found = self._rows("throttle_reports", threshold_us=_us(threshold_s))
        published = {pod_id: rows.mapping(meta).get("throttle_reports") for pod_id, meta in found}
        return {pod_id: told if isinstance(told, dict) else {} for pod_id, told in published.items()}

    def mark_down(self, who: Identity) -> None:
        self._write("mark_down", pod_id=who.pod_id, incarnation=who.incarnation)

    def list_pods(self) -> list[PodRecord]:
        return [rows.pod(row) for row in self._rows("list_pods")]

    def insert_command(self, command_id: str, kind: str, target: str, args: Mapping[str, Any], issued_by: str) -> None:
        bind = {"command_id": command_id, "kind": kind, "target": target, "issued_by": issued_by}
        self._write("insert_command", args=json.dumps(dict(args)), **bind)

    def answer_command(self, command_id: str, pod_id: str, ok: bool, result: str) -> None:
        self._write("answer_command", command_id=command_id, pod_id=pod_id, ok=int(ok), result=result)

    def list_commands(self, limit: int, command_ids: Sequence[str] | None = None) -> list[CommandRecord]:
        if command_ids is None:
            found = self._rows("list_commands", limit=limit)
        else:
            found = self._rows("get_commands", limit=limit, command_ids=json.dumps(list(command_ids)))
        answers = self._rows("answers_of", command_ids=json.dumps([row[0] for row in found])) if found else []
        return [CommandRecord(rows.command(row), rows.answers(row[0], answers)) for row in found]

    # -- leader -------------------------------------------------------------------------------------------------------

    def recover(self, order: RecoveryOrder) -> Recovered:
        silence_us = _FOREVER_US if order.hold_off else _us(order.threshold_s)
        bind = {"incarnation": order.leader.incarnation, "threshold_us": _us(order.threshold_s)}
        look = self._rows("recovery_look", threshold_us=bind["threshold_us"], silence_us=silence_us)[0]
        now, leader, orphans, due, silent = look
        if leader != order.leader.incarnation:
            return Recovered(is_leader=False, now_ts=now)
        run = bind | {"run_id": order.run_id, "limit": order.limit}
        moved, dead = 0, list[str]()
        if orphans:
            moved += self._write("recover_orphans", **run, silence_us=silence_us, max_retries=order.max_retries)
        if due:
            moved += self._write("retry_failed", **run)
        if silent:
            dead = [row[0] for row in self._rows("silent_pods", silence_us=silence_us)]
            dead = dead if self._write("bury_dead_pods", **bind, silence_us=silence_us) else []
        if moved or dead:
            self._write("open_recovery_run", run_id=order.run_id, pod_id=order.leader.pod_id)
        found = self._rows("moved_in_run", run_id=order.run_id) if moved else []
        return Recovered(True, now, tuple(_decision(order.run_id, *row) for row in found), tuple(dead))

    def save_recovery_run(self, run: RecoveryRun, decisions: Sequence[Decision]) -> None:
        finished = None if run.finished_ts is None else timestamp(run.finished_ts)
        times = {"started_ts": timestamp(run.started_ts), "finished_ts": finished}
        self._write("save_recovery_run", **rows.recovery_run_bind(run) | times)
        told = [(d.step_id, d.cause, d.action, d.owner, d.retry_count, d.reason) for d in decisions]
        for _, text in json_sets(told):
            self._write("save_decisions", run_id=run.run_id, decisions=text)

    def list_recovery_runs(self, limit: int) -> list[RecoveryRun]:
        return [rows.recovery_run(row) for row in self._rows("list_recovery_runs", limit=limit)]

    def list_decisions(self, run_id: str) -> list[Decision]:
        return [Decision(*row) for row in self._rows("list_decisions", run_id=run_id)]

    def take_sample(self, leader: Identity, interval_s: float, threshold_s: float) -> Sample | None:
        now, leads, last = self._rows("sample_look", threshold_us=_us(threshold_s))[0]
        if leads != leader.incarnation or (last is not None and now - last < interval_s / 2):
            return None
        since = now - interval_s if last is None else last
        counts = self._rows("sample_counts", since=timestamp(since))[0]
        times = self._rows("sample_times", since=timestamp(since), limit=_SAMPLED_TIMES)
        pods = [_lenient_pod(row) for row in self._rows("living_pods", threshold_us=_us(threshold_s))]
        running = [pod.meta.get("running_count") for pod in pods]
        sample = rows.sample(
            now, since, QueueStats(*counts[:8]),
            (*counts[8:], len(pods), sum(n for n in running if isinstance(n, int))),
            [(waited_us / 1e6, run_s) for waited_us, run_s in times],
        )  # fmt: skip
        sample = replace(sample, leader_pod_id=leader.pod_id)
        bucket = int(now // interval_s)
        taken = rows.as_bind(sample) | {"sampled_ts": timestamp(now)}
        changed = self._write("insert_sample", bucket=bucket, **taken)
        self._tell_throttles(bucket, now, leader, pods)
        return sample if changed else None

    def _tell_throttles(self, bucket: int, now: float, leader: Identity, pods: Sequence[PodRecord]) -> None:
        for _, text in json_sets(throttles.figures(pods)):
            self._write("insert_throttle_samples", figures=text, bucket=bucket, sampled_ts=timestamp(now))
        found = throttles.changes(pods)
        if found:
            known = self._rows("known_runs", told=json.dumps([change.key for change in found]))
            found = throttles.joined(found, known)
        for pod in pods:
            if pod.incarnation == leader.incarnation and pod.meta.get("throttle_plans"):
                found += throttles.plan_changes(pod, self._rows("known_plans"))
        for _, text in json_sets(change.row() for change in found):
            self._write("insert_throttle_changes", changes=text)

    def list_samples(self, since_ts: float, limit: int) -> list[Sample]:
        found = self._rows("list_samples", since=timestamp(since_ts), limit=limit)
        return [Sample(*row) for row in reversed(found)]

    def list_throttle_samples(self, since_ts: float, limit: int, name: str | None = None) -> list[ThrottleSample]:
        found = self._rows("list_throttle_samples", since=timestamp(since_ts), limit=limit, throttle=name)
        return [ThrottleSample(*row) for row in reversed(found)]

    def list_throttle_changes(self, limit: int, since_ts: float = 0.0, name: str | None = None) -> list[ThrottleChange]:
        found = self._rows("list_throttle_changes", since=timestamp(since_ts), limit=limit, throttle=name)
        return [ThrottleChange(*row) for row in found]

    def purge(self, completed_before: float, failed_before: float, limit: int) -> dict[str, int]:
        bind = {
            "completed_before": timestamp(completed_before), "failed_before": timestamp(failed_before), "limit": limit,
        }  # fmt: skip
        kinds = (
            "completed", "failed", "samples", "decisions", "runs", "commands", "answers", "pods", "throttles",
            "changes",
        )  # fmt: skip
        return {kind: self._write(f"purge_{kind}", **bind) for kind in kinds}


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _beat(who: Identity, state: BeatState, own: Sequence[Any], view: Sequence[Sequence[Any]]) -> Beat:
    """What the rows of `fleet_view` tell the pod whose row is `own`."""
    by_kind: dict[str, list[Sequence[Any]]] = {kind: [] for kind in ("own", "leader", "report", "state", "order")}
    for row in view:
        by_kind[row[0]].append(row)
    leader = by_kind["leader"][0] if by_kind["leader"] else None
    leads = leader is not None and leader[1] == who.incarnation
    # A pod obeys what was ordered in its own lifetime; an order to the leader goes to whoever leads.
    orders = [row for row in by_kind["order"] if (leads if row[3] == "leader" else row[6] >= own[6])]
    plans = rows.mapping(leader[3]).get("throttle_plans") if leader else None
    return Beat(
        now_ts=own[7],
        state=state,
        leader=leader[1] if leader else None,
        leader_pod_id=leader[2] if leader else None,
        paused=any(row[2] == "pause" for row in by_kind["state"]),
        commands=tuple(rows.command(row[1:7]) for row in sorted(orders, key=lambda row: (row[6], row[1]))),
        throttle_plans=plans if isinstance(plans, dict) else {},
        throttles_reported=leads and bool(by_kind["report"]),
    )


def _lenient_pod(row: Sequence[Any]) -> PodRecord:
    """A row of `list_pods` whose meta may be damaged."""
    pod_id, incarnation, status, birth_ts, last_heartbeat_ts, may_lead, meta = row
    return PodRecord(pod_id, incarnation, status, birth_ts, last_heartbeat_ts, bool(may_lead), rows.mapping(meta))


def _decision(run_id: str, step_id: str, retry_count: int, error: str | None, history: str | None) -> Decision:
    """What the run did to a step, by the step's own history: only orphans have an entry of the run in it."""
    entries = json.loads(history) if history else []
    lost = next((e for e in reversed(entries) if e.get("recovery_run_id") == run_id), None)
    owner = (lost or (entries[-1] if entries else {})).get("pod_id")
    if lost is None:
        return Decision(step_id, "failed", "requeued", owner, retry_count, error or "")
    action = "requeued" if retry_count >= lost["attempt"] else "terminal"
    return Decision(step_id, "orphan", action, owner, retry_count, error or "")
