"""Each guard of the queue has a test that goes red without it: take it out, run the contract, expect a failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEADS = (
    " AND (SELECT incarnation FROM pod_health WHERE status = 'up' AND may_lead = 1 "
    "AND last_heartbeat_ts > :now - :threshold ORDER BY birth_ts, pod_id LIMIT 1) = :incarnation"
)
ALIVE = (
    " AND NOT EXISTS (SELECT 1 FROM pod_health alive WHERE alive.pod_id = o.claimed_by AND "
    "alive.incarnation = o.incarnation AND alive.status = 'up' AND alive.last_heartbeat_ts > :alive_after)"
)
NONE = "nothing taken out"
MUTANTS = {
    "idempotent submit": ("insert_steps", "ON CONFLICT (step_id) DO NOTHING", "ON CONFLICT DO UPDATE SET priority = excluded.priority"),
    "claim: status": ("claim_steps", "WHERE status = 'pending' AND rowid IN (/*best*/ SELECT rowid FROM step_tracker WHERE status = 'pending'", "WHERE status <> 'completed' AND rowid IN (/*best*/ SELECT rowid FROM step_tracker WHERE status <> 'completed'"),
    "claim: incarnation": ("claim_steps", " AND incarnation = :incarnation AND status = 'up'", " AND status = 'up'"),
    "claim: pod is up": ("claim_steps", "AND status = 'up' AND last", "AND last"),
    "claim: pod is alive": ("claim_steps", " AND last_heartbeat_ts > :now - :threshold", ""),
    "claim: one token, one claim": ("claim_steps", "AND NOT EXISTS (SELECT 1 FROM step_tracker WHERE status = 'claimed' AND incarnation = :incarnation AND claim_token = :token)", ""),
    "claim: order": ("claim_steps", "ORDER BY priority DESC, created_ts, step_id", "ORDER BY step_id"),
    "claim: due": ("claim_steps", " AND due_ts IS NULL", ""),
    "claim: due steps are found": ("promote_due", "due_ts <= :now", "due_ts < 0"),
    "claim: due steps only": ("promote_due", "due_ts <= :now", "due_ts IS NOT NULL"),
    "claim: looks for due steps": ("any_claimable", "due_ts <= :now", "due_ts < 0"),
    "claim within: due": ("claim_within", " AND due_ts IS NULL", ""),
    "claim within: cap": ("claim_within", "place <= c.value ->> 1", "1"),
    "claim within: a cap for each type": ("claim_within", "PARTITION BY task_type ", ""),
    "claim within: types without a cap": ("claim_within", "c.key IS NULL OR ", ""),
    "claim within: shut types": ("claim_within", "AND task_type NOT IN (SELECT value ->> 0 FROM json_each(:caps) WHERE value ->> 1 = 0)", ""),
    "claim within: order": ("claim_within", "ORDER BY priority DESC, created_ts, step_id", "ORDER BY step_id"),
    "claim within: limit": ("claim_within", "->> 1 ORDER BY priority DESC, created_ts, step_id LIMIT :limit", "->> 1"),
    "complete: token": ("settle_completed", " AND s.claim_token = o.value ->> 1", ""),
    "complete: status": ("settle_completed", " AND s.status = 'claimed'", ""),
    "fail: token": ("settle_failed", " AND s.claim_token = o.value ->> 1", ""),
    "fail: status": ("settle_failed", " AND s.status = 'claimed'", ""),
    "defer: token": ("settle_deferred", " AND s.claim_token = o.value ->> 1", ""),
    "defer: status": ("settle_deferred", " AND s.status = 'claimed'", ""),
    "defer: counts": ("settle_deferred", "deferrals = s.deferrals + 1, ", ""),
    "defer: waits": ("settle_deferred", "due_ts = CASE WHEN o.value ->> 3 > 0 THEN :now + (o.value ->> 3) END,", ""),
    "defer: told from a retry": ("settled_already", "WHEN incarnation IS NULL THEN 'retried' ", ""),
    "retry: told from a deferral": ("settled_already", "ELSE 'deferred' END", "ELSE 'retried' END"),
    "release: token": ("release_steps", " AND s.claim_token = c.value ->> 1", ""),
    "release: status": ("release_steps", " AND s.status = 'claimed'", ""),
    "reconcile: known tokens": ("release_unknown", " AND claim_token NOT IN (SELECT value FROM json_each(:known))", ""),
    "reconcile: age": ("release_unknown", " AND claimed_ts < :before", ""),
    "reconcile: owner": ("release_unknown", " AND incarnation = :incarnation", ""),
    "requeue: status": ("requeue_steps", "WHERE status = 'failed' AND", "WHERE"),
    "cancel: status": ("cancel_steps", "WHERE status = 'pending' AND", "WHERE"),
    "requeue: deferrals anew": ("requeue_steps", "deferrals = 0, ", ""),
    "cancel: due time": ("cancel_steps", "due_ts = NULL, ", ""),
    "beat: incarnation": ("beat", " AND incarnation = :incarnation", ""),
    "mark down: incarnation": ("mark_down", " AND incarnation = :incarnation", ""),
    "recover: leadership": ("recover_orphans", LEADS, ""),
    "recover: status": ("recover_orphans", "status = 'claimed'", "status <> 'completed'"),
    "recover: liveness": ("recover_orphans", ALIVE, ""),
    "recover: token is cleared": ("recover_orphans", "claim_token = NULL, ", ""),
    "recover: deaths count": ("recover_orphans", "retry_count = retry_count + (retry_count < COALESCE(max_retries, :max_retries)),", ""),
    "retry: leadership": ("retry_failed", LEADS, ""),
    "retry: due": ("retry_failed", "retry_ts <= :now", "retry_ts IS NOT NULL"),
    "bury: leadership": ("bury_dead_pods", LEADS, ""),
    "leader: may lead": ("leader", " AND may_lead = 1", ""),
    "leader: alive": ("leader", " AND last_heartbeat_ts > :now - :threshold", ""),
    "throttle reports: pod is up": ("throttle_reports", "status = 'up' AND ", ""),
    "throttle reports: pod is alive": ("throttle_reports", " AND last_heartbeat_ts > :now - :threshold", ""),
    "throttle plans: the leader's": ("throttle_plans", "WHERE incarnation = :leader", "WHERE :leader <> '' AND json_extract(meta, '$.throttle_plans') IS NOT NULL"),
    "command: answered once": ("answer_command", "ON CONFLICT (command_id, pod_id) DO NOTHING", "ON CONFLICT DO UPDATE SET ok = excluded.ok, result = excluded.result"),
    "run: kept as it was": ("save_recovery_run", " WHERE recovery_run.finished_ts IS NULL", ""),
    "throttle sample: once": ("insert_throttle_samples", "DO NOTHING", "DO UPDATE SET max_calls = excluded.max_calls"),
    "throttle sample: the living": ("insert_throttle_samples", " AND p.last_heartbeat_ts > :now - :threshold", ""),
    "throttle change: only grows": ("insert_throttle_changes", " WHERE excluded.times > throttle_change.times", ""),
    "throttle change: the living": ("insert_throttle_changes", " AND p.last_heartbeat_ts > :now - :threshold", ""),
    "throttle change: one run": ("insert_throttle_changes", "COALESCE(known.n, told.n)", "told.n"),
    "throttle plan: the leader's": ("insert_throttle_plans", "p.incarnation = :incarnation AND ", ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """What the first test of the contract said that failed, for each mutant."""
    target = tmp_path_factory.mktemp("mutants") / "verdicts.json"
    mutants = MUTANTS | {NONE: ("claim_steps", "status = 'pending'", "status = 'pending'")}
    environment = os.environ | {"MUTANTS": json.dumps(mutants), "VERDICTS": str(target), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.mutant", "-p", "no:cacheprovider",
               "tests/contract", "-k", "plain or not lossy", "-m", "not slow"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert target.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, str | None] = json.loads(target.read_text())
    return found


# One run for all of them: its time is that of the first test here.
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_every_guard_in_place_the_contract_is_green(verdicts: dict[str, str | None]) -> None:
    assert verdicts[NONE] is None


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_guard_taken_out_turns_the_contract_red(verdicts: dict[str, str | None], name: str) -> None:
    said = verdicts[name]
    assert said is not None, "no test of the contract misses this guard"
    assert "AssertionError" in said or "assert " in said, said
