"""Claims on hybrid tables, which choose first and write then: what another does in between, and replies that are lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fleetq_core.errors import StoreUnavailable
from fleetq_core.model import Identity, Status
from fleetq_core.store import snowflake_claims
from fleetq_core.store.snowflake import SnowflakeStore
from tests.contract.test_steps import ME, OTHER, THRESHOLD, deferred, get, row
from tests.support import emulator
from tests.support.clock import FakeClock

pytestmark = [pytest.mark.slow, pytest.mark.account]


@pytest.fixture
def s(hybrid_store: SnowflakeStore, clock: FakeClock) -> Any:
    store = emulator.fresh(hybrid_store, clock)
    for who in (ME, OTHER):
        store.register_pod(who, {})
    return store


def claim(store: Any, token: str, limit: int, caps: dict[str, int] | None = None, who: Identity = ME) -> list[str]:
    return [c.step_id for c in store.claim_steps(who, token, limit, THRESHOLD, caps)]


def rival(store: Any, token: str, limit: int) -> list[str]:
    """Another pod's claim, from a connection of its own as far as the store object goes."""
    other = SnowflakeStore(store._db)
    return claim(other, token, limit, who=OTHER)


def after_choosing(store: Any, *acts: Callable[[], object]) -> list[str]:
    """Have something happen each time the store has chosen steps to claim; returns what it reads to claim."""
    waiting, names, read = list(acts), list[str](), store._run.rows

    def rows(name: str, **bind: Any) -> Any:
        found = read(name, **bind)
        if name != "any_pending":
            names.append(name)
        if name == "best_steps" and waiting:
            waiting.pop(0)()
        return found

    store._run.rows = rows
    return names


def losing(store: Any, name: str) -> None:
    """Have the reply of the next statement of that name lost: it is done, and nobody hears of it."""
    execute = store._db._execute

    def once(purpose: str, *rest: Any) -> Any:
        answer = execute(purpose, *rest)
        if purpose == name:
            del store._db._execute
            raise StoreUnavailable(f"the reply of {name} was lost")
        return answer

    store._db._execute = once


def test_a_claim_that_meets_nobody_takes_the_best_in_three_statements(s: Any, clock: FakeClock) -> None:
    s.insert_steps([row(f"z{n}") for n in range(9)])
    clock.advance(1)
    s.insert_steps([row("a-new"), row("b-high", 5)])
    names = after_choosing(s)
    assert claim(s, "t1", 3) == ["b-high", "z0", "z1"]
    assert names == ["best_steps", "read_claim"]


def test_the_next_claim_does_not_look_at_what_is_claimed(s: Any) -> None:
    s.insert_steps([row(f"s{n}") for n in range(9)])
    claim(s, "t1", 3)
    names = after_choosing(s)
    assert claim(s, "t2", 3) == ["s3", "s4", "s5"]
    assert names == ["best_steps", "read_claim"]


def test_what_another_took_in_between_stays_its_own_and_is_made_up_for(s: Any) -> None:
    s.insert_steps([row(f"s{n:02}") for n in range(20)])
    theirs: list[str] = []
    after_choosing(s, lambda: theirs.extend(rival(s, "r", 3)))
    mine = claim(s, "t1", 5)
    assert theirs == ["s00", "s01", "s02"]
    assert len(mine) == 5
    assert {"s03", "s04"} < set(mine)
    assert not set(mine) & set(theirs)
    assert {get(s, x).claim_token for x in theirs} == {"r"}


def test_a_claim_that_lost_everything_looks_among_more(s: Any) -> None:
    s.insert_steps([row(f"s{n:02}") for n in range(40)])
    after_choosing(s, lambda: rival(s, "r", 5))
    assert len(claim(s, "t1", 5)) == 5
    assert s._claims._window > 1


def test_a_claim_ends_when_there_is_nothing_left_to_choose(s: Any) -> None:
    s.insert_steps([row(f"s{n}") for n in range(9)])
    names = after_choosing(s, lambda: rival(s, "r", 99))
    assert claim(s, "t1", 5) == []
    assert names.count("best_steps") == 2


def test_a_claim_looks_a_few_times_and_no_more(s: Any) -> None:
    def flood(n: int) -> None:
        rival(s, f"r{n}", 999)
        s.insert_steps([row(f"f{n}-{k:02}") for k in range(9)])

    flood(0)
    names = after_choosing(s, *[lambda n=n: flood(n) for n in range(1, 20)])
    assert claim(s, "t1", 5) == []
    assert names.count("best_steps") == snowflake_claims._LOOKS


def test_caps_hold_over_all_looks_of_a_claim(s: Any) -> None:
    s.insert_steps([row(f"x{n:02}", task_type="x") for n in range(30)])
    s.insert_steps([row(f"y{n:02}", task_type="y") for n in range(30)])
    after_choosing(s, lambda: rival(s, "r", 2))
    mine = claim(s, "t1", 10, {"x": 4, "y": 3})
    assert sorted(x[0] for x in mine) == ["x"] * 4 + ["y"] * 3


def test_who_has_met_nobody_for_a_while_takes_the_best_again(s: Any) -> None:
    s.insert_steps([row(f"s{n:03}") for n in range(200)])
    after_choosing(s, lambda: rival(s, "r", 1))
    claim(s, "t", 1)
    assert s._claims._window > 1
    for n in range(20):
        claim(s, f"t{n}", 1)
    best = s._run.rows("best_steps", **bind("u"), caps="[]", look_limit=1, limit=1)[0][0]
    assert claim(s, "u", 1) == [best]


def test_a_lost_reply_of_the_write_is_the_same_claim_when_asked_again(s: Any) -> None:
    s.insert_steps([row(f"s{n}") for n in range(9)])
    losing(s, "claim_chosen")
    with pytest.raises(StoreUnavailable):
        claim(s, "t1", 3)
    assert claim(s, "t1", 3) == ["s0", "s1", "s2"]
    assert s.stats().claimed == 3


def test_a_lost_reply_of_the_read_is_the_same_claim_when_asked_again(s: Any) -> None:
    """Also when it was the second look's: what the first one won counts."""
    s.insert_steps([row(f"s{n}") for n in range(9)])
    after_choosing(s, lambda: rival(s, "r", 1), lambda: losing(s, "read_claim"))
    with pytest.raises(StoreUnavailable):
        claim(s, "t1", 3)
    assert len(claim(s, "t1", 3)) == 3
    assert s.stats().claimed == 4


def test_a_claim_that_was_cut_short_does_not_grow_when_asked_again(s: Any) -> None:
    s.insert_steps([row(f"s{n}") for n in range(9)])

    def one_is_gone_and_the_next_reply_too() -> None:
        rival(s, "r", 1)
        losing(s, "best_steps")

    after_choosing(s, one_is_gone_and_the_next_reply_too)
    with pytest.raises(StoreUnavailable):
        claim(s, "t1", 3)
    assert claim(s, "t1", 3) == ["s1", "s2"]
    assert s.stats().claimed == 3


def test_a_token_that_has_claimed_takes_no_more_whoever_asks(s: Any) -> None:
    s.insert_steps([row(f"s{n}") for n in range(9)])
    first = claim(s, "t1", 3)
    assert claim(SnowflakeStore(s._db), "t1", 3) == first
    assert s.stats().claimed == 3


# -- each guard of the write, for a choice that was right when it was made ----------------------------------------------


def bind(token: str, held: int = 0) -> dict[str, Any]:
    who = {"pod_id": ME.pod_id, "incarnation": ME.incarnation}
    return who | {"token": token, "threshold_us": int(THRESHOLD * 1e6), "held": held}


def write(store: Any, token: str = "t1", held: int = 0) -> int:
    return store._run.write("claim_chosen", **bind(token, held), ids='["a", "b"]')


def test_the_write_takes_what_was_chosen_and_nothing_else(s: Any) -> None:
    s.insert_steps([row(x) for x in "abc"])
    assert write(s) == 2
    assert [get(s, x).status for x in "abc"] == [Status.CLAIMED, Status.CLAIMED, Status.PENDING]


def test_the_write_passes_over_what_another_has_claimed(s: Any) -> None:
    s.insert_steps([row(x) for x in "ab"])
    rival(s, "r", 1)
    assert write(s) == 1
    assert (get(s, "a").claim_token, get(s, "b").claim_token) == ("r", "t1")


def test_the_write_passes_over_what_was_handed_back_for_a_while(s: Any) -> None:
    s.insert_steps([row(x) for x in "ab"])
    rival(s, "r", 1)
    s.settle_steps([deferred("a", "r", 5.0)], 3)
    assert write(s) == 1
    assert get(s, "a").status is Status.PENDING


def test_the_write_takes_what_is_due_again(s: Any, clock: FakeClock) -> None:
    s.insert_steps([row("a")])
    rival(s, "r", 1)
    s.settle_steps([deferred("a", "r", 5.0)], 3)
    clock.advance(6)
    assert write(s) == 1


@pytest.mark.parametrize("how", ["down", "silent", "restarted"])
def test_a_pod_that_has_died_meanwhile_writes_nothing(s: Any, clock: FakeClock, how: str) -> None:
    s.insert_steps([row(x) for x in "ab"])
    if how == "down":
        s.mark_down(ME)
    elif how == "silent":
        clock.advance(THRESHOLD + 1)
    else:
        s.register_pod(Identity(ME.pod_id, "inc-a2"), {})
    assert write(s) == 0
    assert s.stats().claimed == 0


def test_a_token_that_holds_more_than_the_claim_knows_of_writes_nothing(s: Any) -> None:
    s.insert_steps([row(x) for x in "abc"])
    assert claim(s, "t1", 1) == ["a"]
    assert write(s) == 0
    assert write(s, held=1) == 1
    assert s.stats().claimed == 2
