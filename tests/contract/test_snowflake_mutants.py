"""Each guard in Snowflake's SQL: take it out, and a test of the contract goes red."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest

from fleetq_core.store.snowflake import SnowflakeStore
from fleetq_core.store.snowflake_statements import SQL
from tests.contract import test_deferral as deferral
from tests.contract import test_fleet as fleet
from tests.contract import test_hybrid_claims as hybrid
from tests.contract import test_steps as steps
from tests.contract import test_throttle_history as history
from tests.support import emulator
from tests.support.clock import FakeClock

ALIVE = " AND last_heartbeat_ts > DATEADD(microsecond, -:threshold_us, SYSDATE())"
MINE = " AND step_tracker.status = 'claimed'"

# what it is: (block, what is taken out, what is put there, the test that must see it)
MUTANTS: dict[str, tuple[str, str, str, Callable[..., None]]] = {
    "submit: only new ids": ("insert_steps", "WHEN NOT MATCHED", "WHEN MATCHED THEN UPDATE SET priority = submitted.new_priority WHEN NOT MATCHED", steps.test_submitting_an_id_again_changes_nothing),
    "claim: status": ("claim_steps", "status = 'pending'", "status <> 'completed'", steps.test_no_step_is_claimed_twice),
    "claim: due": ("claim_steps", "due_ts <= SYSDATE()", "due_ts IS NOT NULL", partial(deferral.test_a_deferred_step_is_not_claimed_before_it_is_due, caps=None)),
    "claim: due steps are found": ("claim_steps", " OR s.due_ts <= SYSDATE()", "", deferral.test_a_step_that_is_due_again_keeps_its_place),
    "claim: incarnation": ("claim_steps", " AND incarnation = :incarnation AND status = 'up'", " AND status = 'up'", steps.test_only_a_living_registered_incarnation_claims),
    "claim: pod is up": ("claim_steps", " AND status = 'up'", "", steps.test_a_pod_marked_down_does_not_claim),
    "claim: pod is alive": ("claim_steps", ALIVE, "", steps.test_only_a_living_registered_incarnation_claims),
    "claim: one token, one claim": ("claim_steps", " AND mine.n = :held", "", steps.test_the_same_token_returns_the_same_claim),
    "claim: order": ("claim_steps", "priority DESC, ", "priority, ", steps.test_a_claim_of_one_takes_the_best),
    "claim: cap": ("claim_steps", "placed.place <= placed.most", "1 = 1", deferral.test_a_cap_bounds_its_type_and_no_other),
    "claim: shut types": ("claim_steps", " AND (c.most IS NULL OR c.most > 0)", "", deferral.test_a_type_at_cap_0_hides_nothing),
    "settle: token": ("settle_steps", " AND step_tracker.claim_token = told.told_token", "", partial(steps.test_a_stale_token_settles_nothing, outcome=steps.completed("a", "stale"))),
    "settle: status": ("settle_steps", MINE, "", partial(steps.test_the_first_outcome_stands, first="completed", late="failed")),
    "settle: deferral told from a retry": ("settled_already", "WHEN incarnation IS NULL THEN 'retried' ", "", deferral.test_a_failure_that_was_retried_is_no_deferral),
    "release: token": ("release_steps", " AND step_tracker.claim_token = held.held_token", "", steps.test_release_needs_the_token_and_the_status),
    "release: status": ("release_steps", MINE, "", steps.test_release_needs_the_token_and_the_status),
    "reconcile: owner": ("release_unknown", " AND incarnation = :incarnation", "", steps.test_unknown_claims_are_released_known_and_newer_ones_stay),
    "reconcile: age": ("release_unknown", " AND claimed_ts < :before", "", steps.test_unknown_claims_are_released_known_and_newer_ones_stay),
    "requeue: status": ("requeue_steps", "WHERE status = 'failed' AND", "WHERE", steps.test_requeue_revives_only_failed_steps),
    "cancel: status": ("cancel_steps", "WHERE status = 'pending' AND", "WHERE", steps.test_cancel_ends_only_pending_steps),
    "beat: incarnation": ("revive", " AND incarnation = :incarnation", "", fleet.test_a_superseded_pod_can_neither_beat_nor_go_down_for_its_successor),
    "mark down: incarnation": ("mark_down", " AND incarnation = :incarnation", "", fleet.test_a_superseded_pod_can_neither_beat_nor_go_down_for_its_successor),
    "birth is kept": ("register_pod", "THEN pod_health.birth_ts ELSE SYSDATE()", "THEN SYSDATE() ELSE SYSDATE()", fleet.test_registering_twice_keeps_the_birth),
    "recover: token is cleared": ("recover_orphans", "claim_token = NULL, ", "", fleet.test_a_silent_pods_steps_are_requeued_with_a_retry),
    "recover: deaths count": ("recover_orphans", "THEN retry_count + 1", "THEN retry_count", fleet.test_a_silent_pods_steps_are_requeued_with_a_retry),
    "retry: due": ("retry_failed", "retry_ts <= SYSDATE()", "retry_ts IS NOT NULL", fleet.test_a_due_failure_is_retried_an_undue_one_waits),
    "command: answered once": ("answer_command", "WHEN NOT MATCHED", "WHEN MATCHED THEN UPDATE SET ok = given.new_ok, result = given.new_result WHEN NOT MATCHED", fleet.test_a_command_reaches_its_target_until_answered),
    "run: kept as it was": ("save_recovery_run", " AND recovery_run.finished_ts IS NULL", "", fleet.test_a_run_is_kept_with_its_decisions),
    "throttle change: only grows": ("insert_throttle_changes", "told.new_times > throttle_change.times", "1 = 0", history.test_a_change_is_told_once_with_the_databases_time_and_grows),
    "recover: a run asked for again": ("moved_in_run", "recovery_run_id = :run_id", "1 = 0", fleet.test_a_run_that_is_asked_for_again_tells_of_all_that_it_did),
    "recover: a run tells of its own": ("moved_in_run", "recovery_run_id = :run_id", "1 = 1", fleet.test_a_run_that_is_asked_for_again_tells_of_all_that_it_did),
    "sample: only the living": ("sample_look", " AND p.last_heartbeat_ts > DATEADD(microsecond, -:threshold_us, SYSDATE())", "", fleet.test_a_sample_counts_only_the_living),
    "sample: since the last": ("sample_look", "t.created_ts > s.since_ts", "t.created_ts IS NOT NULL", fleet.test_a_sample_counts_since_the_last_one),
    "purge: looks before": ("purge_look", "'samples', COUNT(*)", "'samples', 0", fleet.test_purge_takes_each_kind_that_is_old),
}  # fmt: skip
# The same on hybrid tables, where a claim is a choice and a write.
ON_HYBRID: dict[str, tuple[str, str, str, Callable[..., None]]] = {
    "choose: status": ("best_steps", "s.status = 'pending'", "s.status <> 'completed'", hybrid.test_the_next_claim_does_not_look_at_what_is_claimed),
    "choose: due steps are found": ("best_steps", " OR s.due_ts <= SYSDATE()", "", deferral.test_a_step_that_is_due_again_keeps_its_place),
    "choose: order": ("best_steps", "priority DESC, ", "priority, ", steps.test_a_claim_of_one_takes_the_best),
    "choose: cap": ("best_steps", "placed.place <= placed.most", "1 = 1", deferral.test_a_claim_within_caps_takes_the_best),
    "choose: shut types": ("best_steps", " AND (c.most IS NULL OR c.most > 0)", "", deferral.test_a_type_at_cap_0_hides_nothing),
    "write: what was chosen": ("claim_chosen", "FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:ids))) AS f", "FROM (SELECT :ids AS all_ids, step_id AS value FROM step_tracker) AS f", hybrid.test_the_write_takes_what_was_chosen_and_nothing_else),
    "write: status": ("claim_chosen", "WHERE status = 'pending' AND (due_ts", "WHERE (due_ts", hybrid.test_the_write_passes_over_what_another_has_claimed),
    "write: due": ("claim_chosen", " AND (due_ts IS NULL OR due_ts <= SYSDATE())", "", hybrid.test_the_write_passes_over_what_was_handed_back_for_a_while),
    "write: steps that are due again": ("claim_chosen", " OR due_ts <= SYSDATE()", "", hybrid.test_the_write_takes_what_is_due_again),
    "write: incarnation": ("claim_chosen", " AND incarnation = :incarnation AND status = 'up'", " AND status = 'up'", partial(hybrid.test_a_pod_that_has_died_meanwhile_writes_nothing, how="restarted")),
    "write: pod is up": ("claim_chosen", " AND status = 'up'", "", partial(hybrid.test_a_pod_that_has_died_meanwhile_writes_nothing, how="down")),
    "write: pod is alive": ("claim_chosen", ALIVE, "", partial(hybrid.test_a_pod_that_has_died_meanwhile_writes_nothing, how="silent")),
    "write: one token, one claim": ("claim_chosen", " AND mine.n = :held", "", hybrid.test_a_token_that_holds_more_than_the_claim_knows_of_writes_nothing),
}  # fmt: skip


def prepare(store: Any, clock: FakeClock, module: Any) -> Any:
    """What the fixture `s` of the module does."""
    at_once = module in (steps, deferral, hybrid)
    for who in (steps.ME, steps.OTHER) if at_once else (fleet.A, fleet.B):
        store.register_pod(who, {})
        clock.advance(0 if at_once else 1)
    if module is fleet:
        store.insert_steps([steps.row(f"s{n}") for n in range(4)])
        store.claim_steps(fleet.B, "t-b", 3, fleet.THRESHOLD)
    return store


def red_without(mutant: tuple[str, str, str, Callable[..., None]], shared: SnowflakeStore, patch: Any) -> None:
    """The test passes with the statement as it is, and fails with the guard taken out."""
    block, old, new, check = mutant
    test: Any = check.func if isinstance(check, partial) else check
    wanted = {"clock", "s", "store"} & set(test.__code__.co_varnames[: test.__code__.co_argcount])
    lines = [line for line in SQL[block].splitlines() if not line.lstrip().startswith("--")]
    flat = " ".join(" ".join(lines).split())
    assert old in flat, "the mutant does not fit"
    for text in (flat, flat.replace(old, new)):
        patch.setitem(SQL, block, text)
        clock = FakeClock()
        store: Any = emulator.fresh(shared, clock)
        if "s" in wanted:
            prepare(store, clock, sys.modules[test.__module__])
        given = {name: clock if name == "clock" else store for name in wanted}
        with pytest.raises(AssertionError) if text != flat else nullcontext():
            check(**given)


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_guard_taken_out_turns_the_contract_red(
    name: str, snowflake_store: SnowflakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    red_without(MUTANTS[name], snowflake_store, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_HYBRID)
def test_a_guard_of_the_hybrid_claim_taken_out_turns_the_contract_red(
    name: str, hybrid_store: SnowflakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    red_without(ON_HYBRID[name], hybrid_store, monkeypatch)
