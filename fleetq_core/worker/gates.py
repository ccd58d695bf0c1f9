"""What the throttles that tasks name mean for the loops: how many steps to claim, what not to start, when to look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fleetq_core.errors import TerminalError, Throttled
from fleetq_core.model import Step
from fleetq_core.tasks import Task, TaskRegistry
from fleetq_core.throttle import AdaptiveThrottle, ThrottleTimeout, all_throttles, is_throttle_error
from fleetq_core.throttle.judge import wait_s

# Slots that refused calls still hold come free after about a round trip to the downstream, which is not known here.
HELD_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Deferral:
    """A handler handed its step back; `delay_s` is None where it did not say for how long."""

    reason: str
    delay_s: float | None


def deferral_of(error: BaseException, task: Task) -> Deferral | None:
    """What an uncaught exception asks for, if it is no failure.

    That is Throttled, a ThrottleTimeout, and a refusal by the downstream in a task that names its throttle.
    """
    if isinstance(error, Throttled):
        return Deferral(str(error), error.retry_after_s)
    if isinstance(error, ThrottleTimeout):
        return Deferral(str(error), None)
    judged = task.throttle is not None and isinstance(error, Exception) and not isinstance(error, TerminalError)
    if judged and is_throttle_error(error):
        return Deferral(f"{type(error).__name__}: {error}", wait_s(error))
    return None


class Gates:
    """The throttles of a pod's tasks. A throttle that nobody has made yet holds nothing back."""

    def __init__(
        self, tasks: TaskRegistry, throttles: Callable[[], Mapping[str, AdaptiveThrottle]] = all_throttles
    ) -> None:
        self._tasks, self._throttles = tasks, throttles

    def caps(self, held: Callable[[], Mapping[str, int]]) -> dict[str, int]:
        """How many steps more to claim at most of each task type with a throttle.

        `held()` counts the steps that run or are buffered, by type. Types that share a throttle are given all of its
        rest each: `surplus` says what of a claim was too much.
        """
        known = self._known()
        if not known:
            return {}
        rest = self._rest(known, held())
        return {name: rest[throttle.name] for name, throttle in known.items()}

    def ask_for(self, slots: int) -> None:
        """Tell the throttles how many more steps this pod would run at once: shares of a fleet's limit go by want."""
        for throttle in self._known().values():
            throttle.backlog = slots

    def surplus(self, steps: Iterable[Step], caps: Mapping[str, int]) -> list[Step]:
        """The steps of a claim, given best first, for which a throttle shared by several types has no slot left."""
        left: dict[str, int] = {}
        over = []
        for step in steps:
            task = self._task(step)
            if task is None or task.throttle is None or task.name not in caps:
                continue
            left[task.throttle] = left.get(task.throttle, caps[task.name]) - 1
            if left[task.throttle] < 0:
                over.append(step)
        return over

    def is_shut(self, task: Task) -> bool:
        """Whether the task's throttle lets no call at all be under way now."""
        throttle = self._throttles().get(task.throttle) if task.throttle is not None else None
        return throttle is not None and throttle.slots() == 0

    def opens_in_s(self) -> float | None:
        """Seconds until it is worth while to look at what a shut throttle holds back; None if nothing is shut."""
        waits = []
        for throttle in {id(found): found for found in self._known().values()}.values():
            asked_s = throttle.opens_in_s()
            if asked_s is not None:
                waits.append(asked_s)
            elif throttle.slots() == 0:
                waits.append(HELD_LOOK_S)
        return min(waits, default=None)

    def _known(self) -> dict[str, AdaptiveThrottle]:
        """Task types to their throttles."""
        named = {task.name: task.throttle for task in self._tasks.all() if task.throttle is not None}
        if not named:
            return {}
        throttles = self._throttles()
        return {name: throttles[throttle] for name, throttle in named.items() if throttle in throttles}

    def _rest(self, known: Mapping[str, AdaptiveThrottle], held: Mapping[str, int]) -> dict[str, int]:
        rest = {throttle.name: throttle.slots() for throttle in known.values()}
        for name, throttle in known.items():
            rest[throttle.name] -= held.get(name, 0)
        return {name: max(0, slots) for name, slots in rest.items()}

    def _task(self, step: Step) -> Task | None:
        return self._tasks.find(step.task_type)
