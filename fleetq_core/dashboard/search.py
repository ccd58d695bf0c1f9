"""One page of the steps that match some filters, however many there are in the store.

The newest steps, and those of a status, have an index. What only a look at each step can tell (a text, a pod, a task
type) is sought in slices, the newest steps first: a page waits for one slice at most, says how far it looked, and goes
on when its viewer asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fleetq_core.model import PageKey, StepFilter, StepRecord
from fleetq_core.runtime import Runtime

from . import snapshot
from .snapshot import Answer

SLICE = 25_000  # steps: either store looks through so many within a small part of a second
_SLICE_TTL_S = 30.0  # a slice may grow by the steps that arrive meanwhile


@dataclass(frozen=True, slots=True)
class Page:
    """The steps of a page, newest first; `older` is where the next one begins, None behind the last.

    `looked_to`, if it is set, is when the last step was created that was looked at: no match is among those.
    """

    steps: list[StepRecord]
    older: PageKey | None = None
    looked_to: float | None = None


def page(runtime: Runtime, where: StepFilter, after: PageKey | None, size: int) -> Answer[Page]:
    """Up to `size` steps that match, behind `after`; shared by all viewers who ask the same."""
    looked_to = _end_of_slice(runtime, where, after)
    within = where if looked_to is None else replace(where, created_from=looked_to)
    answer = snapshot.shared(
        runtime, f"steps:{within}:{after}", lambda: runtime.queue.find_steps(within, limit=size + 1, after=after)
    )
    found = answer.value
    if found is None:
        return Answer(None, answer.problem)
    if len(found) > size:
        last = found[size - 1]
        return Answer(Page(found[:size], PageKey(last.created_ts, last.step_id)), answer.problem)
    return Answer(Page(found, None if looked_to is None else _behind(looked_to), looked_to), answer.problem)


def further(runtime: Runtime, where: StepFilter, after: PageKey, looked: Callable[[float], None]) -> PageKey:
    """Where the page begins that holds the next match behind `after`, or the last slice where there is none.

    `looked` is told after each slice how far back that was. Raises StoreError.
    """
    store = runtime.queue.store
    while True:
        looked_to = store.created_behind(_indexed(where), SLICE, after)
        if looked_to is None or _is_before(where, looked_to):
            return after
        looked(looked_to)
        if store.find_ids(replace(where, created_from=looked_to, created_until=_until(where, after)), 1):
            return after
        after = _behind(looked_to)


def _end_of_slice(runtime: Runtime, where: StepFilter, after: PageKey | None) -> float | None:
    indexed = _indexed(where)
    if indexed == where:
        return None
    read = runtime.queue.store.created_behind
    answer = snapshot.shared(
        runtime, f"slice:{indexed}:{after}", lambda: (read(indexed, SLICE, after),), ttl_s=_SLICE_TTL_S
    )
    looked_to = answer.value[0] if answer.value else None
    return None if looked_to is None or _is_before(where, looked_to) else looked_to


def _indexed(where: StepFilter) -> StepFilter:
    """The part of the filters that needs no look at each step."""
    return replace(where, text=None, claimed_by=None, task_type=None)


def _is_before(where: StepFilter, looked_to: float) -> bool:
    """Whether all that the filters want lies within the slice."""
    return where.created_from is not None and looked_to <= where.created_from


def _behind(looked_to: float) -> PageKey:
    """Behind every step of that moment: no id sorts before the empty one."""
    return PageKey(looked_to, "")


def _until(where: StepFilter, after: PageKey) -> float:
    return after.created_ts if where.created_until is None else min(where.created_until, after.created_ts)
