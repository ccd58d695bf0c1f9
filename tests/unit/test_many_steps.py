"""Acts on many steps: sets, progress, the true count, one record, and what an error in the middle leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetq_core import many_steps
from fleetq_core.config import Config
from fleetq_core.connect import connect
from fleetq_core.errors import StoreUnavailable
from fleetq_core.many_steps import Progress
from fleetq_core.model import CommandRecord, NewStep, Outcome, Status, StepFilter
from fleetq_core.queue import Queue


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = connect(Config(store=f"sqlite:///{tmp_path}/fleetq.db", data_dir=tmp_path, sqlite_synchronous="NORMAL"))
    yield queue
    queue.close()


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_steps, "SET", 4)


def dead(queue: Queue, count: int) -> list[str]:
    """So many dead letters."""
    ids = queue.submit_steps([NewStep({"task_type": "t", "n": n}, n, f"dead-{n}", 1) for n in range(count)])
    claimed = queue.claim_steps(count)
    queue.settle([Outcome(s.step_id, s.claim_token, Status.FAILED, 0.1, error="no") for s in claimed])
    return ids


def record(queue: Queue) -> CommandRecord:
    (found,) = queue.store.list_commands(5)
    return found


def test_requeue_goes_in_sets_and_tells_the_true_count(queue: Queue) -> None:
    ids = dead(queue, 9)
    queue.store.requeue_steps(ids[:2])  # somebody was faster
    told = list(many_steps.requeue(queue, ids, by="ann", what="All failed steps."))
    assert told == [Progress(4, 2), Progress(8, 6), Progress(9, 7)]
    assert queue.stats().by_status()["pending"] == 9
    command = record(queue).command
    assert (command.kind, command.issued_by) == ("requeue_steps", "ann")
    assert (command.args["count"], command.args["filter"]) == (9, "All failed steps.")
    assert [answer.result for answer in record(queue).answers] == ["7 of 9 steps moved"]


def test_cancel_says_who_it_was(queue: Queue) -> None:
    ids = queue.submit_steps([NewStep({"task_type": "t"}) for _ in range(5)])
    assert list(many_steps.cancel(queue, ids, by="ann"))[-1] == Progress(5, 5)
    step = queue.get_step(ids[0])
    assert step is not None
    assert step.error == "cancelled by ann"


def test_replay_copies_what_has_ended_and_nothing_else(queue: Queue) -> None:
    ids = dead(queue, 3)
    waits = queue.submit_step({"task_type": "t"})
    copies = {step_id: f"copy-{n}" for n, step_id in enumerate([*ids, waits, "gone"])}
    assert list(many_steps.replay(queue, copies, by="ann"))[-1] == Progress(5, 3)
    old, new = queue.get_step(ids[2]), queue.get_step("copy-2")
    assert old is not None
    assert new is not None
    assert (old.status, new.status) == (Status.FAILED, Status.PENDING)
    assert (new.payload, new.priority, new.max_retries) == (old.payload, old.priority, old.max_retries)
    assert queue.get_step("copy-3") is None


def test_a_repeated_replay_doubles_nothing(queue: Queue) -> None:
    copies = {step_id: f"copy-{step_id}" for step_id in dead(queue, 6)}
    for _ in range(2):
        assert list(many_steps.replay(queue, copies, by="ann"))[-1] == Progress(6, 6)
    assert len(queue.find_steps(StepFilter(status=Status.PENDING))) == 6


def test_an_error_in_the_middle_is_on_record_and_a_repeat_does_the_rest(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = dead(queue, 9)
    real: Callable[..., list[str]] = queue.store.requeue_steps
    calls = []

    def failing(step_ids: list[str]) -> list[str]:
        calls.append(step_ids)
        if len(calls) == 2:
            raise StoreUnavailable("the disk is away")
        return real(step_ids)

    with monkeypatch.context() as patched:
        patched.setattr(queue.store, "requeue_steps", failing)
        progress = many_steps.requeue(queue, ids, by="ann")
        assert next(progress) == Progress(4, 4)
        with pytest.raises(StoreUnavailable):
            next(progress)
    (answer,) = record(queue).answers
    assert (answer.ok, answer.result) == (False, "4 of 9 steps moved, then StoreUnavailable: the disk is away")
    assert list(many_steps.requeue(queue, ids, by="ann"))[-1] == Progress(9, 5)


def test_who_leaves_in_the_middle_is_on_record(queue: Queue) -> None:
    progress = many_steps.requeue(queue, dead(queue, 9), by="ann")
    next(progress)
    progress.close()  # type: ignore[attr-defined]  # a generator, for which Iterator is enough elsewhere
    (answer,) = record(queue).answers
    assert answer.result == "4 of 9 steps moved, then it was broken off"


def test_a_record_that_cannot_be_ended_hides_no_error(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = dead(queue, 2)

    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(queue.store, "requeue_steps", away)
    monkeypatch.setattr(queue.store, "answer_command", away)
    with pytest.raises(StoreUnavailable, match="away"):
        list(many_steps.requeue(queue, ids, by="ann"))
    assert record(queue).answers == ()


def test_submitting_is_on_record(queue: Queue) -> None:
    steps = [NewStep({"task_type": "t"}, step_id=f"s{n}") for n in range(3)]
    for new in (3, 0):
        assert sum(done.new for done in many_steps.submit(queue, steps, by="ann")) == new
    told = [found.answers[0].result for found in queue.store.list_commands(5)]
    assert sorted(told) == ["0 of 3 steps moved", "3 of 3 steps moved"]
