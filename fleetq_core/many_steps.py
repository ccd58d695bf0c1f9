"""What a person does to many steps: in sets, with the progress of each, and as one record with what came of it.

The record is begun before the first set and ended after the last: what was cut off shows as an order without an answer.
Everything may be repeated: a step that has moved already does not move again, and a copy keeps the id made for it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .errors import FleetQError
from .model import NewStep, Submitted
from .queue import Queue

SET = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """How many steps have been asked to move so far, and how many of them did."""

    asked: int = 0
    moved: int = 0


def requeue(queue: Queue, step_ids: Sequence[str], *, by: str, what: str = "") -> Iterator[Progress]:
    """Give failed steps a fresh set of retries."""

    def move(ids: Sequence[str]) -> int:
        return len(queue.store.requeue_steps(ids))

    for progress in _in_sets(queue, "requeue_steps", step_ids, move, by, what):
        queue.notify()
        yield progress


def cancel(queue: Queue, step_ids: Sequence[str], *, by: str, what: str = "") -> Iterator[Progress]:
    """Fail pending steps for good."""

    def move(ids: Sequence[str]) -> int:
        return len(queue.store.cancel_steps(ids, f"cancelled by {by}"))

    return _in_sets(queue, "cancel_steps", step_ids, move, by, what)


def replay(queue: Queue, copies: Mapping[str, str], *, by: str, what: str = "") -> Iterator[Progress]:
    """Submit copies of steps that have ended, under the ids that `copies` gives them; the steps stay as they are."""

    def move(ids: Sequence[str]) -> int:
        ended = [step for step in queue.store.get_steps(ids) if step.is_final]
        steps = [NewStep(step.payload, step.priority, copies[step.step_id], step.max_retries) for step in ended]
        return sum(len(done.step_ids) - len(done.conflicts) for done in queue.submit_sets(steps))

    return _in_sets(queue, "replay_steps", list(copies), move, by, what)


def submit(queue: Queue, steps: Sequence[NewStep], *, by: str) -> Iterator[Submitted]:
    """`submit_sets`, on record."""
    ids = [step.step_id or "" for step in steps]
    with _Record(queue, "submit_steps", ids, by, "") as record:
        for done in queue.submit_sets(steps):
            record.progress = Progress(record.progress.asked + len(done.step_ids), record.progress.moved + done.new)
            yield done


def _in_sets(
    queue: Queue, kind: str, step_ids: Sequence[str], move: Callable[[Sequence[str]], int], by: str, what: str
) -> Iterator[Progress]:
    with _Record(queue, kind, step_ids, by, what) as record:
        for ids in _sets(step_ids):
            record.progress = Progress(record.progress.asked + len(ids), record.progress.moved + move(ids))
            yield record.progress


def _sets(step_ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(step_ids)
    while ids := list(itertools.islice(rest, SET)):
        yield ids


class _Record:
    """The record of an act. An error ends it with how far it came, if the store can still be told."""

    def __init__(self, queue: Queue, kind: str, step_ids: Sequence[str], by: str, what: str) -> None:
        self.progress = Progress()
        self._queue, self._count = queue, len(step_ids)
        self._id = queue.begin_act(kind, step_ids, by=by, **({"filter": what} if what else {}))

    def __enter__(self) -> _Record:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        told = f"{self.progress.moved} of {self._count} steps moved"
        if error is None:
            self._queue.end_act(self._id, told)
            return
        why = "it was broken off" if isinstance(error, GeneratorExit) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(FleetQError):  # the first error says more; the record then stays without an answer
            self._queue.end_act(self._id, f"{told}, then {why}"[:1000], ok=False)
