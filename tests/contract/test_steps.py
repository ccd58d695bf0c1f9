"""The contract of the queue's rows: submit, claim, settle, release, requeue, cancel, find."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from fleetq_core.model import Identity, Outcome, PageKey, Status, StepFilter, StepRow
from tests.support.clock import FakeClock
from tests.support.stores import LossyStore

ME = Identity("pod-a", "inc-a")
OTHER = Identity("pod-b", "inc-b")
THRESHOLD = 60.0


def row(step_id: str, priority: int = 0, task_type: str = "echo") -> StepRow:
    return StepRow(step_id, task_type, f'{{"task_type":"{task_type}","id":"{step_id}"}}', priority, None)


def completed(step_id: str, token: str, result: str | None = None) -> Outcome:
    return Outcome(step_id, token, Status.COMPLETED, 0.5, result)


def failed(step_id: str, token: str, delay: float | None = 0.0, error: str = "boom") -> Outcome:
    return Outcome(step_id, token, Status.FAILED, 0.5, error=error, retry_delay_s=delay)


def deferred(step_id: str, token: str, delay: float | None = 5.0, reason: str = "refused") -> Outcome:
    return Outcome(step_id, token, Status.PENDING, 0.5, error=reason, retry_delay_s=delay)


def get(store: Any, step_id: str) -> Any:
    return store.get_steps([step_id])[0]


@pytest.fixture
def s(any_store: Any) -> Any:
    any_store.register_pod(ME, {})
    any_store.register_pod(OTHER, {})
    return any_store


def test_submitting_an_id_again_changes_nothing(s: Any) -> None:
    s.insert_steps([row("a"), row("b")])
    s.claim_steps(ME, "t1", 1, THRESHOLD)
    assert s.insert_steps([row("a", priority=9)]) == 0
    assert (get(s, "a").status, get(s, "a").priority) == (Status.CLAIMED, 0)


def test_insert_counts_only_what_is_new(store: Any) -> None:
    assert store.insert_steps([row("a"), row("b")]) == 2
    assert store.insert_steps([row("b"), row("c")]) == 1


def test_claims_go_by_priority_then_age_then_id(s: Any, clock: FakeClock) -> None:
    s.insert_steps([row("b-old"), row("a-old")])
    clock.advance(1)
    s.insert_steps([row("high", priority=5), row("new")])
    assert [c.step_id for c in s.claim_steps(ME, "t1", 10, THRESHOLD)] == ["high", "a-old", "b-old", "new"]


def test_a_claim_of_one_takes_the_best(s: Any, clock: FakeClock) -> None:
    """Names that sort against priority and age: what is taken, not how it is listed."""
    s.insert_steps([row("y-old"), row("x-old")])
    clock.advance(1)
    s.insert_steps([row("a-new"), row("z-high", priority=5)])
    taken = [s.claim_steps(ME, f"t{n}", 1, THRESHOLD)[0].step_id for n in range(4)]
    assert taken == ["z-high", "x-old", "y-old", "a-new"]


def test_a_claim_takes_no_more_than_its_limit(s: Any) -> None:
    s.insert_steps([row(f"s{n}") for n in range(5)])
    assert len(s.claim_steps(ME, "t1", 3, THRESHOLD)) == 3
    assert s.stats().by_status() == {"pending": 2, "claimed": 3, "completed": 0, "failed": 0}


def test_the_same_token_returns_the_same_claim(s: Any) -> None:
    s.insert_steps([row(f"s{n}") for n in range(5)])
    first = s.claim_steps(ME, "t1", 2, THRESHOLD)
    assert s.claim_steps(ME, "t1", 2, THRESHOLD) == first
    assert s.stats().claimed == 2


def test_no_step_is_claimed_twice(s: Any) -> None:
    s.insert_steps([row(f"s{n}") for n in range(4)])
    mine = {c.step_id for c in s.claim_steps(ME, "t1", 3, THRESHOLD)}
    theirs = {c.step_id for c in s.claim_steps(OTHER, "t2", 3, THRESHOLD)}
    assert len(mine | theirs) == 4
    assert not mine & theirs


def test_only_a_living_registered_incarnation_claims(s: Any, clock: FakeClock) -> None:
    s.insert_steps([row("a")])
    assert s.claim_steps(Identity("pod-a", "someone-else"), "t1", 1, THRESHOLD) == []
    assert s.claim_steps(Identity("unknown", "x"), "t2", 1, THRESHOLD) == []
    clock.advance(THRESHOLD + 1)
    assert s.claim_steps(ME, "t3", 1, THRESHOLD) == []
    assert get(s, "a").status is Status.PENDING


def test_a_pod_marked_down_does_not_claim(s: Any) -> None:
    s.insert_steps([row("a")])
    s.mark_down(ME)
    assert s.claim_steps(ME, "t1", 1, THRESHOLD) == []
    assert get(s, "a").status is Status.PENDING


def test_complete_writes_the_result_once(s: Any) -> None:
    s.insert_steps([row("a")])
    s.claim_steps(ME, "t1", 1, THRESHOLD)
    assert s.settle_steps([completed("a", "t1", '{"n":1}')], 3) == {("a", "t1")}
    assert s.settle_steps([completed("a", "t1", '{"n":2}')], 3) == {("a", "t1")}
    record = get(s, "a")
    assert (record.status, record.result, record.run_s, record.claimed_by) == (Status.COMPLETED, {"n": 1}, 0.5, "pod-a")


@pytest.mark.parametrize("outcome", [completed("a", "stale"), failed("a", "stale"), deferred("a", "stale")])
def test_a_stale_token_settles_nothing(s: Any, outcome: Outcome) -> None:
    s.insert_steps([row("a")])
    s.claim_steps(ME, "t1", 1, THRESHOLD)
    assert s.settle_steps([outcome], 3) == set()
    record = get(s, "a")
    assert (record.status, record.claim_token, record.result, record.error) == (Status.CLAIMED, "t1", None, None)
    assert record.deferrals == 0


OUTCOMES = {"completed": completed("a", "t1", "1"), "failed": failed("a", "t1", 0.0), "deferred": deferred("a", "t1")}


@pytest.mark.parametrize(("first", "late"), [*itertools.permutations(OUTCOMES, 2)])
def test_the_first_outcome_stands(s: Any, first: str, late: str) -> None:
    s.insert_steps([row("a")])
    s.claim_steps(ME, "t1", 1, THRESHOLD)
    s.settle_steps([OUTCOMES[first]], 3)
    before = get(s, "a")
    assert s.settle_steps([OUTCOMES[late]], 3) == set()
    assert get(s, "a") == before


def test_a_released_step_cannot_be_completed_under_its_old_token(s: Any) -> None:
    s.insert_steps([row("a")])
    s.claim_steps(ME, "t1", 1, THRESHOLD)
    s.release_steps([("a", "t1")])
    assert s.settle_steps([completed("a", "t1")], 3) == set()
    assert (get(s, "a").status, get(s, "a").retry_count) == (Status.PENDING, 0)


def test_release_needs_the_token_and_the_status(s: Any) -> None:
    s.insert_steps([row("a"), row("b")])
    s.claim_steps(ME, "t1", 2, THRESHOLD)
    s.settle_steps([completed("b", "t1")], 3)
    s.release_steps([("a", "wrong"), ("b", "t1")])
    assert (get(s, "a").status, get(s, "b").status) == (Status.CLAIMED, Status.COMPLETED)


def test_one_set_holds_good_and_refused_outcomes(s: Any) -> None:
    s.insert_steps([row("a"), row("b"), row("c")])
    s.claim_steps(ME, "t1", 3, THRESHOLD)
    landed = s.settle_steps([completed("a", "t1"), completed("b", "old"), failed("c", "t1")], 3)
    assert landed == {("a", "t1"), ("c", "t1")}


def test_a_failure_waits_for_its_delay(s: Any, clock: FakeClock) -> None:
    s.insert_steps([row("a")])
    s.claim_steps(ME, "t1", 1, THRESHOLD)
    s.settle_steps([failed("a", "t1", 7.0)], 3)
    record = get(s, "a")
    assert (record.status, record.error, record.retry_ts) == (Status.FAILED, "boom", clock.now() + 7.0)
    assert not record.is_dead_letter
    assert [(h["outcome"], h["pod_id"], h["attempt"]) for h in record.history] == [("failed", "pod-a", 1)]


@pytest.mark.parametrize(("delay", "max_retries"), [(None, 3), (5.0, 0)])
def test_a_failure_without_retry_is_a_dead_letter(s: Any, delay: float | None, max_retries: int) -> None:
    s.insert_steps([row("a")])
    s.claim_steps(ME, "t1", 1, THRESHOLD)
    s.settle_steps([failed("a", "t1", delay)], max_retries)
    assert get(s, "a").is_dead_letter
    assert [r.step_id for r in s.find_steps(StepFilter(dead_letters=True), 10)] == ["a"]


def test_requeue_revives_only_failed_steps(s: Any) -> None:
    s.insert_steps([row(x) for x in "abcd"])
    s.claim_steps(ME, "t1", 3, THRESHOLD)
    s.settle_steps([failed("a", "t1", None), completed("b", "t1")], 3)
    s.requeue_steps(["a", "b", "c", "d", "unknown"])
    assert [get(s, x).status.value for x in "abcd"] == ["pending", "completed", "claimed", "pending"]
    assert (get(s, "a").retry_count, get(s, "a").claimed_by) == (0, None)


def test_requeue_names_what_moved(store: Any) -> None:
    store.register_pod(ME, {})
    store.insert_steps([row("a"), row("b")])
    store.claim_steps(ME, "t1", 1, THRESHOLD)
    store.settle_steps([failed("a", "t1", None)], 3)
    assert store.requeue_steps(["a", "b"]) == ["a"]
    assert store.cancel_steps(["a", "b", "c"], "no") == ["a", "b"]


def test_cancel_ends_only_pending_steps(s: Any) -> None:
    s.insert_steps([row("a"), row("b")])
    s.claim_steps(ME, "t1", 1, THRESHOLD)
    s.cancel_steps(["a", "b"], "cancelled by ann")
    assert get(s, "a").status is Status.CLAIMED
    assert (get(s, "b").is_dead_letter, get(s, "b").error) == (True, "cancelled by ann")


def test_unknown_claims_are_released_known_and_newer_ones_stay(s: Any, clock: FakeClock) -> None:
    s.insert_steps([row(x) for x in "abcd"])
    for step_id, token in zip("ab", ("lost", "known"), strict=True):
        assert s.claim_steps(ME, token, 1, THRESHOLD)[0].step_id == step_id
    s.claim_steps(OTHER, "theirs", 1, THRESHOLD)
    clock.advance(10)
    cutoff = clock.now()
    s.claim_steps(ME, "too-new", 1, THRESHOLD)
    s.release_unknown(ME, {"known"}, cutoff)
    assert [get(s, x).status.value for x in "abcd"] == ["pending", "claimed", "claimed", "claimed"]
    assert get(s, "a").retry_count == 0
    assert s.held_claims(ME) == {("b", "known"), ("d", "too-new")}


def test_pages_continue_where_the_last_ended(s: Any, clock: FakeClock) -> None:
    for n in range(7):
        s.insert_steps([row(f"s{n}")])
        clock.advance(1 if n % 2 else 0)  # some share a created_ts
    seen: list[str] = []
    after = None
    while page := s.find_steps(StepFilter(), 3, after):
        seen += [r.step_id for r in page]
        after = PageKey(page[-1].created_ts, page[-1].step_id)
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 7


def test_filters(s: Any, clock: FakeClock) -> None:
    s.insert_steps([row("a", task_type="resize"), row("b"), row("c_%")])
    s.claim_steps(ME, "t1", 1, THRESHOLD)
    clock.advance(100)
    s.insert_steps([row("late")])

    def find(**where: Any) -> list[str]:
        return sorted(r.step_id for r in s.find_steps(StepFilter(**where), 10))

    assert find(status=Status.PENDING) == ["b", "c_%", "late"]
    assert find(status=Status.CLAIMED) == find(claimed_by="pod-a") == find(task_type="resize") == ["a"]
    assert find(text="_%") == ["c_%"]
    assert find(text="' OR 1=1 --") == []
    assert find(created_from=clock.now() - 1) == ["late"]
    assert find(created_until=clock.now() - 1) == ["a", "b", "c_%"]
    assert s.find_ids(StepFilter(status=Status.PENDING), 2) == ["late", "c_%"]
    assert s.find_ids(StepFilter(dead_letters=True), 10) == []


def test_how_far_back_so_many_steps_go(s: Any, clock: FakeClock) -> None:
    born = []
    for n in range(5):
        born.append(clock.now())
        s.insert_steps([row(f"s{n}")])
        clock.advance(1)
    s.claim_steps(ME, "t1", 1, THRESHOLD)  # s0
    assert s.created_behind(StepFilter(), 2) == pytest.approx(born[3], abs=1e-6)
    assert s.created_behind(StepFilter(), 5) == pytest.approx(born[0], abs=1e-6)
    assert s.created_behind(StepFilter(), 6) is None
    assert s.created_behind(StepFilter(status=Status.PENDING), 5) is None
    assert s.created_behind(StepFilter(), 2, PageKey(born[3], "")) == pytest.approx(born[1], abs=1e-6)
    within = StepFilter(created_from=s.created_behind(StepFilter(), 2))  # the slice holds the step that it ends with
    assert s.find_ids(within, 9) == ["s4", "s3"]


def test_stats_count_dead_letters_and_the_oldest(s: Any, clock: FakeClock) -> None:
    born = clock.now()
    s.insert_steps([row(x) for x in "abc"])
    s.claim_steps(ME, "t1", 2, THRESHOLD)
    s.settle_steps([failed("a", "t1", None), failed("b", "t1", 5.0)], 3)
    stats = s.stats()
    assert (stats.pending, stats.failed, stats.dead_letters, stats.oldest_pending_ts) == (1, 2, 1, born)
    assert stats.retry_due == 0
    clock.advance(5)
    assert s.stats().retry_due == 1


def test_purge_deletes_old_finished_steps_and_nothing_else(s: Any, clock: FakeClock) -> None:
    s.insert_steps([row(x) for x in "abcde"])
    s.claim_steps(ME, "t1", 4, THRESHOLD)
    s.settle_steps([completed("a", "t1"), failed("b", "t1", None), failed("c", "t1", 9e6)], 3)
    clock.advance(100)
    s.purge(completed_before=clock.now(), failed_before=clock.now() - 1000, limit=100)
    assert sorted(r.step_id for r in s.get_steps(list("abcde"))) == ["b", "c", "d", "e"]
    s.purge(completed_before=clock.now(), failed_before=clock.now(), limit=100)
    assert sorted(r.step_id for r in s.get_steps(list("abcde"))) == ["c", "d", "e"]


def test_the_lossy_wrapper_really_repeats(store: Any) -> None:
    lossy = LossyStore(store)
    assert lossy.insert_steps([row("a")]) == 0  # the repeat found the row of the first try
    assert store.stats().pending == 1
