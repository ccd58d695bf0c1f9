"""The contract of steps that are handed back, and of claims within caps."""

from __future__ import annotations

from typing import Any

import pytest

from fleetq_core.model import Identity, StepFilter, StepRow
from fleetq_core.store.protocol import RecoveryOrder
from tests.contract.test_steps import ME, OTHER, THRESHOLD, completed, deferred, failed, get, row
from tests.support.clock import FakeClock


@pytest.fixture
def s(any_store: Any) -> Any:
    any_store.register_pod(ME, {})
    any_store.register_pod(OTHER, {})
    return any_store


def claim(store: Any, token: str, limit: int = 10, caps: dict[str, int] | None = None, who: Identity = ME) -> list[str]:
    return [c.step_id for c in store.claim_steps(who, token, limit, THRESHOLD, caps)]


def recover(store: Any, who: Identity = ME) -> Any:
    return store.recover(RecoveryOrder("run-1", who, THRESHOLD, 3, False))


def defer(store: Any, step_id: str, delay: float | None, token: str = "t1") -> None:
    store.insert_steps([row(step_id)])
    assert step_id in claim(store, token)
    assert store.settle_steps([deferred(step_id, token, delay)], 3) == {(step_id, token)}


# -- handing back -----------------------------------------------------------------------------------------------------


def test_a_deferred_step_waits_and_has_used_no_retry(s: Any, clock: FakeClock) -> None:
    defer(s, "a", 5.0)
    record = get(s, "a")
    assert (record.status.value, record.retry_count, record.deferrals, record.error) == ("pending", 0, 1, "refused")
    assert (record.due_ts, record.claimed_by, record.claimed_ts) == (clock.now() + 5.0, None, None)
    assert record.history == []
    assert s.held_claims(ME) == set()


@pytest.mark.parametrize("caps", [None, {"other": 3}])
def test_a_deferred_step_is_not_claimed_before_it_is_due(s: Any, clock: FakeClock, caps: Any) -> None:
    defer(s, "a", 5.0)
    s.insert_steps([row("b")])
    clock.advance(4.9)
    assert claim(s, "t2", caps=caps) == ["b"]
    assert claim(s, "t3", caps=caps) == []
    clock.advance(0.1)
    (again,) = s.claim_steps(ME, "t4", 10, THRESHOLD, caps)
    assert (again.step_id, again.deferrals, again.retry_count) == ("a", 1, 0)
    assert get(s, "a").due_ts is None


@pytest.mark.parametrize("delay", [0.0, None])
def test_a_step_deferred_for_no_time_may_be_claimed_at_once(s: Any, delay: float | None) -> None:
    defer(s, "a", delay)
    assert get(s, "a").due_ts is None
    assert claim(s, "t2") == ["a"]


def test_a_step_that_is_due_again_keeps_its_place(s: Any, clock: FakeClock) -> None:
    defer(s, "z-first", 5.0)
    clock.advance(1)
    s.insert_steps([row("a-later")])
    clock.advance(5)
    assert claim(s, "t2", 1) == ["z-first"]


def test_the_same_claim_is_read_again_with_its_deferrals(s: Any) -> None:
    defer(s, "a", 0.0)
    first = s.claim_steps(ME, "t2", 1, THRESHOLD)
    assert s.claim_steps(ME, "t2", 1, THRESHOLD) == first
    assert first[0].deferrals == 1


def test_deferrals_do_not_use_retries_up(s: Any) -> None:
    s.insert_steps([row("a")])
    for n in range(10):
        claim(s, f"t{n}")
        s.settle_steps([deferred("a", f"t{n}", 0.0)], 0)
    record = get(s, "a")
    assert (record.status.value, record.retry_count, record.deferrals, record.history) == ("pending", 0, 10, [])


def test_a_deferral_whose_reply_was_lost_counts_as_written(s: Any, clock: FakeClock) -> None:
    defer(s, "a", 5.0)
    before = get(s, "a")
    assert s.settle_steps([deferred("a", "t1")], 3) == {("a", "t1")}
    clock.advance(6)
    assert claim(s, "t2", 0) == []  # makes it claimable, and takes nothing
    assert s.settle_steps([deferred("a", "t1")], 3) == {("a", "t1")}
    assert (get(s, "a").deferrals, before.due_ts) == (1, clock.now() - 1)


def test_the_next_claim_is_safe_from_the_last_ones_deferral(s: Any) -> None:
    defer(s, "a", 0.0)
    claim(s, "t2", who=OTHER)
    assert s.settle_steps([deferred("a", "t1")], 3) == set()
    assert (get(s, "a").status.value, get(s, "a").claim_token, get(s, "a").deferrals) == ("claimed", "t2", 1)


@pytest.mark.parametrize("done", [completed("a", "t1"), failed("a", "t1", None)])
def test_a_finished_step_cannot_be_deferred(s: Any, done: Any) -> None:
    s.insert_steps([row("a")])
    claim(s, "t1")
    s.settle_steps([done], 3)
    before = get(s, "a")
    assert s.settle_steps([deferred("a", "t1")], 3) == set()
    assert get(s, "a") == before


def test_a_step_taken_from_a_dead_pod_cannot_be_deferred_by_it(s: Any, clock: FakeClock) -> None:
    s.insert_steps([row("a")])
    claim(s, "t1")
    clock.advance(THRESHOLD + 1)
    s.beat(OTHER, {}, THRESHOLD)
    recover(s, OTHER)
    assert s.settle_steps([deferred("a", "t1")], 3) == set()
    assert (get(s, "a").deferrals, get(s, "a").retry_count, get(s, "a").due_ts) == (0, 1, None)


def test_a_failure_that_was_retried_is_no_deferral(s: Any) -> None:
    s.insert_steps([row("a")])
    claim(s, "t1")
    s.settle_steps([failed("a", "t1", 0.0)], 3)
    recover(s)
    assert get(s, "a").status.value == "pending"
    assert s.settle_steps([deferred("a", "t1")], 3) == set()


def test_one_set_holds_all_three_outcomes(s: Any) -> None:
    s.insert_steps([row(x) for x in "abc"])
    claim(s, "t1")
    pairs = {(x, "t1") for x in "abc"}
    assert s.settle_steps([completed("a", "t1"), failed("b", "t1"), deferred("c", "t1")], 3) == pairs
    assert [get(s, x).status.value for x in "abc"] == ["completed", "failed", "pending"]


def test_only_a_waiting_step_has_a_due_time(s: Any, clock: FakeClock) -> None:
    for n, x in enumerate("abcde"):
        defer(s, x, 5.0, f"t{n}")
    s.cancel_steps(["a"], "no")
    clock.advance(6)
    claim(s, "u")
    s.settle_steps([completed("b", "u"), failed("c", "u", None)], 3)
    s.release_steps([("d", "u")])
    assert [get(s, x).due_ts for x in "abcde"] == [None] * 5
    assert [get(s, x).deferrals for x in "abcde"] == [1] * 5
    s.requeue_steps(["a"])
    assert (get(s, "a").due_ts, get(s, "a").deferrals) == (None, 0)
    assert claim(s, "v") == ["a", "d"]


def test_stats_tell_waiting_steps_from_those_that_may_be_claimed(s: Any, clock: FakeClock) -> None:
    defer(s, "a", 5.0)
    assert (s.stats().pending, s.stats().deferred, s.stats().oldest_pending_ts) == (1, 1, None)
    born = clock.now()
    clock.advance(1)
    s.insert_steps([row("b")])
    assert (s.stats().pending, s.stats().deferred, s.stats().oldest_pending_ts) == (2, 1, born + 1)
    clock.advance(4)
    assert (s.stats().pending, s.stats().deferred, s.stats().oldest_pending_ts) == (2, 0, born)


def test_deferred_steps_are_found_among_the_pending(s: Any) -> None:
    defer(s, "a", 5.0)
    assert [r.step_id for r in s.find_steps(StepFilter(status=get(s, "a").status), 10)] == ["a"]
    assert s.find_steps(StepFilter(claimed_by="pod-a"), 10) == []


# -- caps -------------------------------------------------------------------------------------------------------------


def test_a_cap_bounds_its_type_and_no_other(s: Any) -> None:
    s.insert_steps([row(f"x{n}", task_type="x") for n in range(4)])
    s.insert_steps([row(f"y{n}", task_type="y") for n in range(4)])
    s.insert_steps([row(f"z{n}", task_type="z") for n in range(4)])
    assert claim(s, "t1", 20, {"x": 1, "y": 2}) == ["x0", "y0", "y1", "z0", "z1", "z2", "z3"]


def test_a_type_at_cap_0_hides_nothing(s: Any) -> None:
    s.insert_steps([row(f"x{n:03}", 5, "x") for n in range(300)])
    s.insert_steps([row("y", task_type="y")])
    assert claim(s, "t1", 1, {"x": 0}) == ["y"]
    assert claim(s, "t2", 5, {"x": 0}) == []
    assert claim(s, "t3", 5, {"x": 0, "y": 9}) == []


def test_after_a_cap_is_reached_the_next_claim_finds_what_it_hid(s: Any) -> None:
    s.insert_steps([row(f"x{n:03}", 5, "x") for n in range(300)])
    s.insert_steps([row("y", task_type="y")])
    assert claim(s, "t1", 4, {"x": 2}) == ["x000", "x001"]
    assert claim(s, "t2", 2, {"x": 0}) == ["y"]


def test_a_claim_within_caps_takes_the_best(s: Any, clock: FakeClock) -> None:
    s.insert_steps([row("x-old", task_type="x"), row("y-old", task_type="y")])
    clock.advance(1)
    s.insert_steps([row("a-x", task_type="x"), row("b-x", 5, "x"), row("c-y", task_type="y")])
    assert claim(s, "t1", 2, {"x": 1, "y": 5}) == ["b-x", "y-old"]
    assert claim(s, "t2", 1, {"x": 1, "y": 5}) == ["x-old"]


def test_a_claim_within_caps_takes_no_more_than_its_limit(s: Any) -> None:
    s.insert_steps([row(f"x{n}", task_type="x") for n in range(9)])
    assert claim(s, "t1", 3, {"x": 5}) == ["x0", "x1", "x2"]
    assert s.stats().claimed == 3


def test_a_repeated_claim_is_not_cut_by_newer_caps(s: Any) -> None:
    s.insert_steps([row(f"x{n}", task_type="x") for n in range(9)])
    assert claim(s, "t1", 3, {"x": 2}) == ["x0", "x1"]
    assert claim(s, "t1", 3, {"x": 0}) == claim(s, "t1", 3, {"x": 9}) == ["x0", "x1"]


def test_caps_do_not_let_the_dead_claim(s: Any, clock: FakeClock) -> None:
    s.insert_steps([row("x", task_type="x")])
    assert claim(s, "t1", 1, {"x": 1}, Identity("pod-a", "someone-else")) == []
    clock.advance(THRESHOLD + 1)
    assert claim(s, "t2", 1, {"x": 1}) == []
    assert get(s, "x").status.value == "pending"


@pytest.mark.parametrize("name", ['a "quoted" name', "größe", "$.x[0]", "'; --", "0"])
def test_any_task_name_may_have_a_cap(s: Any, name: str) -> None:
    s.insert_steps([row("a"), row("b")])
    with_name = [StepRow(f"c{n}", name, "{}", 0, None) for n in range(3)]
    s.insert_steps(with_name)
    assert claim(s, "t1", 10, {name: 1}) == ["a", "b", "c0"]
