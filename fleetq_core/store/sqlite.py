"""The embedded store: one SQLite file in WAL mode, shared by many processes of one machine."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fleetq_core.clock import Clock
from fleetq_core.errors import SchemaMismatch
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
    living,
)

from . import rows, sqlite_schema
from .protocol import ChangeSignal, Recovered, RecoveryOrder, Store
from .sqlite_connection import SqliteConnection
from .sqlite_signal import change_signal
from .statements import load_statements
from .step_filter import Dialect, conditions, decision_conditions

SQL = load_statements("sqlite.sql")
_STATUS_INDEX = {
    Status.PENDING: "INDEXED BY step_pending_newest",
    Status.CLAIMED: "INDEXED BY step_claimed",
    Status.COMPLETED: "INDEXED BY step_completed_newest",
    Status.FAILED: "INDEXED BY step_failed_newest",
}
_DIALECT = Dialect(
    contains="{} LIKE :text ESCAPE '\\'",
    before="(created_ts, step_id) < (:after_ts, :after_id)",
    text=lambda text: "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%",
    moment=float,
)


def _claim_sql(*, capped: bool) -> str:
    """The claim; its guards are written once, and only the choice of the best steps differs."""
    if not capped:
        return SQL["claim_steps"]
    before, _, after = SQL["claim_steps"].split("/*best*/")
    return before + SQL["claim_within"] + after


class SqliteStore:
    """`Store` on one SQLite file. `clock` plays the database's clock; it is read while the write lock is held."""

    def __init__(self, path: Path, clock: Clock, busy_timeout_s: float = 10.0, synchronous: str = "FULL") -> None:
        self._path, self._clock = path, clock
        self._busy_timeout_s, self._synchronous = busy_timeout_s, synchronous
        self._db = SqliteConnection(path, busy_timeout_s, synchronous)
        self._last_run = ""

    # -- life cycle ---------------------------------------------------------------------------------------------------

    def create_schema(self) -> None:
        if self._schema_version() == len(sqlite_schema.migrations()):
            return
        with self._db.write() as db:
            sqlite_schema.migrate(db, self._path)

    def check_schema(self) -> None:
        """Raise SchemaMismatch unless the tables are there, in the version that this program knows."""
        found, known = self._schema_version(), len(sqlite_schema.migrations())
        if found != known:
            self.close()
            raise SchemaMismatch(
                f"{self._path} has schema version {found}, this program knows {known}: "
                "let pods of the same version open it first"
            )

    def _schema_version(self) -> int:
        with self._db.read() as db:
            return int(self._db.retry_busy(lambda: db.execute("PRAGMA user_version").fetchone())[0])

    def now(self) -> float:
        return self._clock.now()

    def change_signal(self) -> ChangeSignal:
        return change_signal(self._data_version, self._path.with_name(self._path.name + "-wal"))

    def _data_version(self) -> int:
        with self._db.read() as db:
            return int(db.execute("PRAGMA data_version").fetchone()[0])

    def reopen(self, role: str = "") -> Store:
        return SqliteStore(self._path, self._clock, self._busy_timeout_s, self._synchronous)

    def close(self) -> None:
        self._db.close()

    def _rows(self, name: str, **bind: Any) -> list[Any]:
        with self._db.read() as db:
            return self._db.retry_busy(lambda: db.execute(SQL[name], bind).fetchall())

    def _write(self, name: str, **bind: Any) -> tuple[int, list[Any]]:
        """Run one guarded write in its own transaction; returns (rows changed, rows returned)."""
        with self._db.write() as db:
            cursor = db.execute(SQL[name], {"now": self._clock.now(), **bind})
            found = cursor.fetchall()
            return cursor.rowcount, found

    # -- steps --------------------------------------------------------------------------------------------------------

    def insert_steps(self, steps: Sequence[StepRow]) -> int:
        with self._db.write() as db:
            now = self._clock.now()
            cursor = db.executemany(
                SQL["insert_steps"],
                [(s.step_id, s.task_type, s.payload, s.priority, s.max_retries, now, now) for s in steps],
            )
            return cursor.rowcount

    def claim_steps(
        self,
        who: Identity,
        claim_token: str,
        limit: int,
        threshold_s: float,
        caps: Mapping[str, int] | None = None,
    ) -> list[ClaimedRow]:
        bind = {"pod_id": who.pod_id, "incarnation": who.incarnation, "token": claim_token}
        capped = json.dumps(list((caps or {}).items()))
        claimed: list[Any] = []
        # A look costs microseconds, the write lock costs a commit.
        if self._rows("any_claimable", caps=capped, now=self._clock.now())[0][0]:
            limits = {"limit": limit, "threshold": threshold_s} | ({"caps": capped} if caps else {})
            claimed = self._claim(_claim_sql(capped=bool(caps)), bind | limits)
        if not claimed:
            claimed = self._rows("read_claim", **bind)
        # RETURNING promises no order.
        return sorted((ClaimedRow(*row) for row in claimed), key=lambda r: (-r.priority, r.created_ts, r.step_id))

    def _claim(self, sql: str, bind: Mapping[str, Any]) -> list[Any]:
        with self._db.write() as db:
            now = self._clock.now()
            db.execute(SQL["promote_due"], {"now": now})
            return db.execute(sql, {**bind, "now": now}).fetchall()

    def settle_steps(self, outcomes: Sequence[Outcome], max_retries: int) -> set[tuple[str, str]]:
        done = [(o.step_id, o.claim_token, o.result, o.run_s) for o in outcomes if o.status is Status.COMPLETED]
        failed = [
            (o.step_id, o.claim_token, o.error, o.run_s, o.retry_delay_s) for o in outcomes if o.status is Status.FAILED
        ]
        deferred = [
            (o.step_id, o.claim_token, o.error, o.retry_delay_s) for o in outcomes if o.status is Status.PENDING
        ]
        landed = 0
        with self._db.write() as db:
            now = self._clock.now()
            if done:
                landed += db.execute(SQL["settle_completed"], {"outcomes": json.dumps(done), "now": now}).rowcount
            if failed:
                bind = {"outcomes": json.dumps(failed), "now": now, "max_retries": max_retries}
                landed += db.execute(SQL["settle_failed"], bind).rowcount
            if deferred:
                landed += db.execute(SQL["settle_deferred"], {"outcomes": json.dumps(deferred), "now": now}).rowcount
        if landed == len(outcomes):
            return {(o.step_id, o.claim_token) for o in outcomes}
        return self._standing(outcomes)

    def _standing(self, outcomes: Sequence[Outcome]) -> set[tuple[str, str]]:
        found = self._rows("settled_already", step_ids=json.dumps([o.step_id for o in outcomes]))
        return rows.standing(outcomes, found)

    def release_steps(self, claims: Sequence[tuple[str, str]]) -> int:
        return self._write("release_steps", claims=json.dumps(claims))[0]

    def release_unknown(self, who: Identity, known_tokens: Collection[str], before_ts: float) -> int:
        bind = {"incarnation": who.incarnation, "before": before_ts, "known": json.dumps(sorted(known_tokens))}
        return self._write("release_unknown", **bind)[0]

    def held_claims(self, who: Identity) -> set[tuple[str, str]]:
        return {(step_id, token) for step_id, token in self._rows("held_claims", incarnation=who.incarnation)}

    def requeue_steps(self, step_ids: Sequence[str]) -> list[str]:
        return sorted(row[0] for row in self._write("requeue_steps", step_ids=json.dumps(list(step_ids)))[1])

    def cancel_steps(self, step_ids: Sequence[str], reason: str) -> list[str]:
        bind = {"step_ids": json.dumps(list(step_ids)), "reason": reason}
        return sorted(row[0] for row in self._write("cancel_steps", **bind)[1])

    def get_steps(self, step_ids: Sequence[str]) -> list[StepRecord]:
        return rows.steps(self._rows("get_steps", step_ids=json.dumps(list(step_ids))))

    def payloads_of(self, step_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        found = self._rows("payloads_of", step_ids=json.dumps(list(step_ids)))
        return {step_id: (payload, priority) for step_id, payload, priority in found}

    def find_steps(self, where: StepFilter, limit: int, after: PageKey | None = None) -> list[StepRecord]:
        return rows.steps(self._found("find_steps", where, limit, after))

    def find_ids(self, where: StepFilter, limit: int) -> list[str]:
        return [row[0] for row in self._found("find_ids", where, limit, None)]

    def created_behind(self, where: StepFilter, steps: int, after: PageKey | None = None) -> float | None:
        ((created, found),) = self._found("created_behind", where, steps, after)
        return created if found == steps else None

    def _found(self, name: str, where: StepFilter, limit: int, after: PageKey | None) -> list[Any]:
        chosen, bind = conditions(where, after, _DIALECT)
        status = Status.FAILED if where.dead_letters else where.status
        index = _STATUS_INDEX.get(status, "") if status else ""
        sql = SQL[name].replace("/*index*/", index).replace("/*where*/", chosen)
        with self._db.read() as db:
            return db.execute(sql, {**bind, "limit": limit}).fetchall()

    def held_by_pod(self) -> list[HeldClaims]:
        return [HeldClaims(*row) for row in self._rows("held_by_pod")]

    def stats(self) -> QueueStats:
        now = self._clock.now()
        return QueueStats(now, *self._rows("stats", now=now)[0])

    # -- pods and commands --------------------------------------------------------------------------------------------

    def register_pod(self, who: Identity, meta: Mapping[str, Any]) -> float:
        with self._db.write() as db:
            now = self._clock.now()
            db.execute(SQL["register_pod"], {**rows.identity(who), "meta": rows.published(meta), "now": now})
            return now

    def beat(self, who: Identity, meta: Mapping[str, Any], threshold_s: float) -> Beat:
        bind = rows.identity(who)
        with self._db.write() as db:
            now = self._clock.now()
            row = db.execute(SQL["read_pod"], bind).fetchone()
            changed = db.execute(SQL["beat"], {**bind, "meta": rows.published(meta), "now": now}).rowcount
        if not changed:
            return Beat(now, BeatState.MISSING if row is None else BeatState.SUPERSEDED)
        leader = self._rows("leader", now=now, threshold=threshold_s)
        leads = bool(leader) and leader[0][0] == who.incarnation
        plans = self._rows("throttle_plans", leader=leader[0][0]) if leader else []
        reported = leads and bool(self._rows("throttle_reports", now=now, threshold=threshold_s))
        pause = self._rows("pause_state", pod_id=who.pod_id)
        orders = self._rows("open_commands", pod_id=who.pod_id, now=now, birth=row[2], leads=leads)
        return Beat(
            now_ts=now,
            state=BeatState.REVIVED if row[1] == "down" else BeatState.ALIVE,
            leader=leader[0][0] if leader else None,
            leader_pod_id=leader[0][1] if leader else None,
            paused=bool(pause) and pause[0][0] == "pause",
            commands=tuple(rows.command(order) for order in orders),
            throttle_plans=rows.mapping(plans[0][0]) if plans else {},
            throttles_reported=reported,
        )

    def throttle_reports(self, threshold_s: float) -> dict[str, JSON]:
        found = self._rows("throttle_reports", now=self._clock.now(), threshold=threshold_s)
        return {pod_id: rows.mapping(reports) for pod_id, reports in found}

    def mark_down(self, who: Identity) -> None:
        self._write("mark_down", pod_id=who.pod_id, incarnation=who.incarnation)

    def idle_look(self) -> IdleLook:
        open_steps, *newest = self._rows("idle_look")[0]
        return IdleLook(bool(open_steps), *newest)

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
        answers = self._rows("answers_of", command_ids=json.dumps([row[0] for row in found]))
        return [CommandRecord(rows.command(row), rows.answers(row[0], answers)) for row in found]

    # -- leader -------------------------------------------------------------------------------------------------------

    def recover(self, order: RecoveryOrder) -> Recovered:
        who = rows.identity(order.leader)
        again, self._last_run = order.run_id == self._last_run, order.run_id
        with self._db.write() as db:
            now = self._clock.now()
            bind = {
                **who,
                "now": now,
                "run_id": order.run_id,
                "threshold": order.threshold_s,
                "max_retries": order.max_retries,
                "alive_after": 0.0 if order.hold_off else now - order.threshold_s,
                "limit": order.limit,
            }
            leader = db.execute(SQL["leader"], bind).fetchone()
            found = db.execute(SQL["recover_orphans"], bind).fetchall()
            found += db.execute(SQL["retry_failed"], bind).fetchall()
            moved = [Decision(*row) for row in found]
            dead = [Verdict(*row) for row in sorted(db.execute(SQL["bury_dead_pods"], bind).fetchall())]
            if again:
                dead += rows.verdicts(db.execute(SQL["verdicts_of_run"], bind).fetchall())
                moved = rows.decisions(order.run_id, db.execute(SQL["moved_in_run"], bind).fetchall())
            if moved or dead:
                # In the same transaction: a leader that dies right after this leaves an unfinished run to be seen.
                db.execute(SQL["open_recovery_run"], bind | rows.verdicts_bind(dead))
            statements = 4 + 2 * again + bool(moved or dead)
        return Recovered(
            is_leader=leader is not None and leader[0] == order.leader.incarnation,
            now_ts=now,
            decisions=tuple(moved),
            verdicts=tuple(dead),
            statements=statements,
        )

    def save_recovery_run(self, run: RecoveryRun, decisions: Sequence[Decision]) -> None:
        with self._db.write() as db:
            db.execute(SQL["save_recovery_run"], rows.recovery_run_bind(run))
            db.executemany(
                SQL["save_decision"],
                [(run.run_id, d.step_id, d.cause, d.action, d.owner, d.retry_count, d.reason) for d in decisions],
            )

    def list_recovery_runs(self, limit: int, run_id: str | None = None) -> list[RecoveryRun]:
        return [rows.recovery_run(row) for row in self._rows("list_recovery_runs", limit=limit, run_id=run_id)]

    def find_decisions(self, where: DecisionFilter, limit: int) -> list[DecisionRecord]:
        chosen, bind = decision_conditions(where)
        with self._db.read() as db:
            found = db.execute(SQL["find_decisions"].replace("/*where*/", chosen), {**bind, "limit": limit}).fetchall()
        return [rows.decision_record(row) for row in found]

    def take_sample(self, leader: Identity, interval_s: float, threshold_s: float) -> Sample | None:
        now = self._clock.now()
        found = self._rows("leader", now=now, threshold=threshold_s)
        last = self._rows("last_sample")[0][0]
        if not found or found[0][0] != leader.incarnation or (last is not None and now - last < interval_s / 2):
            return None
        since = now - interval_s if last is None else last
        deltas = self._rows("sample_deltas", now=now, since=since, threshold=threshold_s)[0]
        times = self._rows("sample_times", since=since)
        sample = rows.sample(now, since, self.stats(), deltas, times)
        sample = replace(sample, leader_pod_id=found[0][1])
        bind = {"bucket": int(now // interval_s), "now": now, "threshold": threshold_s, **rows.identity(leader)}
        pods = living(map(rows.lenient_pod, self._rows("list_pods")), now, threshold_s)
        with self._db.write() as db:
            taken = rows.as_bind(sample) | {"pods": rows.seen_pods(pods, now)}
            changed = db.execute(SQL["insert_sample"], bind | taken).rowcount
            db.execute(SQL["insert_throttle_samples"], bind)
            db.execute(SQL["insert_throttle_changes"], bind)
            db.execute(SQL["insert_throttle_plans"], bind)
        return sample if changed else None

    def list_samples(self, since_ts: float, limit: int) -> list[Sample]:
        return [Sample(*row) for row in reversed(self._rows("list_samples", since=since_ts, limit=limit))]

    def work_history(self, since_ts: float, width_s: float) -> list[WorkSpan]:
        return [WorkSpan(*row) for row in self._rows("work_history", since=since_ts, width=float(width_s))]

    def list_pod_samples(self, since_ts: float, every: int = 1) -> list[PodSample]:
        found = self._rows("list_pod_samples", since=since_ts, every=every)
        return [pod for row in found for pod in rows.pod_samples(row)]

    def list_throttle_samples(self, since_ts: float, limit: int, name: str | None = None) -> list[ThrottleSample]:
        found = self._rows("list_throttle_samples", since=since_ts, limit=limit, throttle=name)
        return [ThrottleSample(*row) for row in reversed(found)]

    def list_throttle_changes(self, limit: int, since_ts: float = 0.0, name: str | None = None) -> list[ThrottleChange]:
        found = self._rows("list_throttle_changes", since=since_ts, limit=limit, throttle=name)
        return [ThrottleChange(*row) for row in found]

    def purge(self, completed_before: float, failed_before: float, limit: int) -> dict[str, int]:
        bind = {"completed_before": completed_before, "failed_before": failed_before, "limit": limit}
        kinds = (
            "completed", "failed", "samples", "decisions", "runs", "commands", "answers", "pods", "throttles",
            "changes",
        )  # fmt: skip
        # A transaction each: a pod that waits to claim gets its turn in between.
        return {kind: self._write(f"purge_{kind}", **bind)[0] for kind in kinds}
