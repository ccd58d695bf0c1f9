"""Runs handlers: sync ones on a pool of threads, async ones on one event loop; both count against the capacity."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fleetq_core.clock import Clock
from fleetq_core.errors import InvalidPayload, StepTimeout
from fleetq_core.model import Outcome, Step
from fleetq_core.queue import Queue
from fleetq_core.tasks import Task, TaskRegistry

from .event_loop import EventLoop
from .gates import Gates, deferral_of

log = logging.getLogger(__name__)

HICCUP_S = 0.1


@dataclass(eq=False, slots=True)
class Run:
    """One attempt that is running. `given_up`: its outcome was decided without it, its own will be dropped."""

    step: Step
    task: Task
    started: float
    given_up: bool = False
    coroutine: asyncio.Task[None] | None = None


@dataclass(slots=True)
class RunStats:
    """What the claim loop needs to know of the work."""

    mean_run_s: float | None = None
    ended: int = 0
    timed_out: int = 0
    stuck: int = 0


class Executor:
    """A buffer of claimed steps and at most `capacity` of them running.

    `may_start()` is asked before each start: a pod whose lease has run out must not begin work that others may have.
    `on_outcome(outcome)` receives every outcome; `on_room()` is called when the buffer runs low, and `on_shut()` when
    steps were put aside because their throttle has shut since they were claimed: `take_shut_out`.
    """

    def __init__(
        self,
        queue: Queue,
        tasks: TaskRegistry,
        clock: Clock,
        *,
        capacity: int,
        may_start: Callable[[], bool],
        on_outcome: Callable[[Outcome], None],
        on_room: Callable[[], None],
        on_deadline: Callable[[], None],
        gates: Gates | None = None,
        on_shut: Callable[[], None] = lambda: None,
    ) -> None:
        self.capacity = capacity
        self.low_water = 0
        self.stats = RunStats()
        self._queue, self._tasks, self._clock = queue, tasks, clock
        self._may_start, self._on_outcome, self._on_room = may_start, on_outcome, on_room
        self._on_deadline = on_deadline
        self._gates, self._on_shut = gates or Gates(tasks), on_shut
        self._cond = threading.Condition()
        self._ready: deque[Step] = deque()
        self._shut_out: list[Step] = []
        self._offered_at = 0.0
        self._running: set[Run] = set()
        self._deadlines: list[tuple[float, int, Run]] = []
        self._sequence = itertools.count()
        self._idle_threads = 0
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"fleetq-step-{n}", daemon=True) for n in range(capacity)
        ]
        self._event_loop = EventLoop()

    def start(self) -> None:
        """Start the threads; the event loop starts with the first async step."""
        for thread in self._threads:
            thread.start()

    # -- what the claim loop uses -------------------------------------------------------------------------------------

    def offer(self, steps: Iterable[Step]) -> None:
        """Add claimed steps to the buffer."""
        with self._cond:
            before = len(self._ready)
            self._ready.extend(steps)
            self._offered_at = self._clock.monotonic()
            self._cond.notify(min(self._idle_threads, len(self._ready) - before))

    def room(self, ahead: int) -> int:
        """How many more steps to claim so that all slots are busy and `ahead` more are waiting."""
        with self._cond:
            return self.capacity - len(self._running) + ahead - len(self._ready)

    def load(self) -> tuple[int, int]:
        """(running, buffered)."""
        with self._cond:
            return len(self._running), len(self._ready)

    def held_by_task(self) -> Counter[str]:
        """How many steps of each task type run or are buffered."""
        with self._cond:
            return Counter(run.task.name for run in self._running) + Counter(step.task_type for step in self._ready)

    def running(self) -> list[tuple[Step, float, bool]]:
        """(step, seconds so far, given up) of each running attempt, longest first."""
        with self._cond:
            runs = list(self._running)
        now = self._clock.monotonic()
        return sorted(((r.step, now - r.started, r.given_up) for r in runs), key=lambda item: -item[1])

    def expected_run_s(self) -> float | None:
        """How long a step takes: the mean of those that ended, or longer if those that run now take much longer."""
        mean = self.stats.mean_run_s
        if mean is None:
            return None
        now = self._clock.monotonic()
        with self._cond:
            so_far = sum(now - run.started for run in self._running) / max(1, len(self._running))
        # Any handler looks late while another thread has kept the interpreter to itself for a moment.
        return so_far if so_far > max(2 * mean, mean + HICCUP_S) else mean

    def take_back(self, older_than_s: float = 0.0) -> list[Step]:
        """Take steps that have not started out of the buffer: all, if nothing was added for `older_than_s`."""
        with self._cond:
            if self._clock.monotonic() - self._offered_at < older_than_s:
                return []
            steps = [*self._ready, *self._shut_out]
            self._ready.clear()
            self._shut_out.clear()
            return steps

    def take_shut_out(self) -> list[Step]:
        """Take the steps that were put aside because their throttle has shut."""
        with self._cond:
            steps, self._shut_out = self._shut_out, []
            return steps

    def drop_unless(self, held: set[tuple[str, str]]) -> list[Step]:
        """After a lapsed lease: drop buffered steps that the store no longer counts as ours; returns them."""
        with self._cond:
            waiting = [*self._ready, *self._shut_out]
            lost = [step for step in waiting if (step.step_id, step.claim_token) not in held]
            self._ready = deque(step for step in self._ready if (step.step_id, step.claim_token) in held)
            self._shut_out = [step for step in self._shut_out if (step.step_id, step.claim_token) in held]
            return lost

    def wake(self) -> None:
        """Something that `may_start` depends on has changed."""
        with self._cond:
            self._cond.notify_all()

    # -- stopping -----------------------------------------------------------------------------------------------------

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing runs any more; False when time is up. Attempts that were given up do not count."""
        with self._cond:
            return self._cond.wait_for(lambda: all(run.given_up for run in self._running), timeout_s)

    def give_up_all(self) -> list[Step]:
        """Stop waiting for what still runs; its outcomes will be dropped. Returns the steps, to be released."""
        with self._cond:
            runs = [run for run in self._running if not run.given_up]
            for run in runs:
                run.given_up = True
        self._cancel(runs)
        return [run.step for run in runs]

    def stop(self) -> None:
        """End the threads that are free. A handler that never returns keeps its (daemon) thread."""
        with self._cond:
            self._stopping = True
            self._cond.notify_all()
        self._event_loop.stop()

    # -- running ------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        finished: Run | None = None
        outcome: Outcome | None = None
        while True:
            run = self._next(finished, outcome)
            if run is None:
                return
            if run.task.is_async:
                self._start_async(run)
                finished = outcome = None
            else:
                outcome = self._run_sync(run)
                finished = run

    def _next(self, finished: Run | None, outcome: Outcome | None) -> Run | None:
        """Hand in a finished run and take the next step, under one lock: this is the hot path."""
        with self._cond:
            if finished is not None and outcome is not None:
                self._finish(finished, outcome)
            while not self._stopping:
                if self._can_start():
                    run = self._begin(self._ready.popleft())
                    if run is not None:
                        return run
                    continue
                if not self._ready:
                    self._on_room()
                self._idle_threads += 1
                # The lease comes back with a beat, which wakes us; the time limit only covers a lost wake-up.
                self._cond.wait(1.0 if self._ready else None)
                self._idle_threads -= 1
            return None

    def _can_start(self) -> bool:
        return bool(self._ready) and len(self._running) < self.capacity and self._may_start()

    def _begin(self, step: Step) -> Run | None:
        if len(self._ready) == self.low_water:
            self._on_room()
        try:
            task = self._tasks.get(step.task_type)
        except Exception as exc:
            self._on_outcome(self._queue.failed(step, exc, 0.0))
            return None
        if task.throttle is not None and self._gates.is_shut(task):
            # It would hold a slot while it waits for the throttle; another pod's throttle may be open.
            self._shut_out.append(step)
            self._on_shut()
            return None
        run = Run(step, task, self._clock.monotonic())
        self._running.add(run)
        if task.timeout_s is not None:
            self._watch(run, run.started + task.timeout_s)
        return run

    def _watch(self, run: Run, deadline: float) -> None:
        if len(self._deadlines) > 2 * self.capacity + 100:
            self._deadlines = [item for item in self._deadlines if item[2] in self._running]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (deadline, next(self._sequence), run))
        if self._deadlines[0][2] is run:
            self._on_deadline()

    def _finish(self, run: Run, outcome: Outcome) -> None:
        self._running.discard(run)
        stats = self.stats
        stats.ended += 1
        if run.given_up:
            stats.stuck = max(0, stats.stuck - 1)
            log.warning("step %s: its handler returned after its time was up; the result is dropped", run.step.step_id)
        else:
            mean = stats.mean_run_s
            weight = max(1 / stats.ended, 0.3 / self.capacity)  # all slots together may have had one bad moment
            stats.mean_run_s = outcome.run_s if mean is None else mean + weight * (outcome.run_s - mean)
            self._on_outcome(outcome)
        if not self._ready or self._stopping:
            self._cond.notify_all()

    def _run_sync(self, run: Run) -> Outcome:
        try:
            result = run.task.handler(run.step)
        except BaseException as exc:  # SystemExit in a handler fails the step, not the pod
            return self._failed(run, exc)
        return self._completed(run, result)

    def _completed(self, run: Run, result: Any) -> Outcome:
        run_s = self._clock.monotonic() - run.started
        try:
            return self._queue.completed(run.step, result, run_s)
        except InvalidPayload as exc:
            return self._queue.failed(run.step, exc, run_s)

    def _failed(self, run: Run, exc: BaseException) -> Outcome:
        deferral = deferral_of(exc, run.task)
        if deferral is not None:
            log.debug("step %s is handed back: %s", run.step.step_id, deferral.reason)
            run_s = self._clock.monotonic() - run.started
            return self._queue.deferred(run.step, deferral.reason, run_s, deferral.delay_s)
        log.info("step %s failed: %s: %s", run.step.step_id, type(exc).__name__, exc)
        return self._queue.failed(run.step, exc, self._clock.monotonic() - run.started)

    # -- async handlers -----------------------------------------------------------------------------------------------

    def _start_async(self, run: Run) -> None:
        def keep(task: asyncio.Task[None]) -> None:
            run.coroutine = task

        self._event_loop.spawn(run.step.step_id, lambda: self._run_async(run), keep)

    async def _run_async(self, run: Run) -> None:
        try:
            outcome = self._completed(run, await run.task.handler(run.step))
        except BaseException as exc:
            outcome = self._failed(run, exc)
        following = self._next_async(run, outcome)
        if following is not None:
            following.coroutine = asyncio.create_task(self._run_async(following), name=following.step.step_id)

    def _next_async(self, finished: Run, outcome: Outcome) -> Run | None:
        """Hand in a finished run and take the next step if it is async too: that spares two changes of threads."""
        with self._cond:
            self._finish(finished, outcome)
            while not self._stopping and self._can_start():
                task = self._tasks.find(self._ready[0].task_type)
                if task is None or not task.is_async:
                    break
                run = self._begin(self._ready.popleft())
                if run is not None:
                    return run
            self._cond.notify()
            return None

    def _cancel(self, runs: Iterable[Run]) -> None:
        for run in runs:
            if run.coroutine is not None:
                self._event_loop.cancel(run.coroutine)

    # -- time limits --------------------------------------------------------------------------------------------------

    def expire(self) -> float:
        """Fail the attempts whose time limit has passed; returns the seconds until the next one is due.

        A thread cannot be stopped from outside: its slot stays taken, and is reported as stuck, until it returns.
        """
        now = self._clock.monotonic()
        late = []
        with self._cond:
            while self._deadlines and self._deadlines[0][0] <= now:
                run = heapq.heappop(self._deadlines)[2]
                if run in self._running and not run.given_up:
                    run.given_up = True
                    self.stats.timed_out += 1
                    self.stats.stuck += 1
                    late.append(run)
                    error = StepTimeout(f"task {run.task.name!r} ran past its limit of {run.task.timeout_s:g} s")
                    self._on_outcome(self._queue.failed(run.step, error, now - run.started))
            self._cond.notify_all()
            due = self._deadlines[0][0] - now if self._deadlines else 3600.0
        self._cancel(late)
        return max(0.0, due)
