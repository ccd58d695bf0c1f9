"""A fleet in one thread on a virtual clock: the real pod with its loops, but another thread of time.

Whoever waits inside a call (a slow statement, a frozen pod) runs the rest of the world meanwhile, nested on the stack.
So code is interrupted in the middle of its turn and goes on later, as threads and processes are, yet from a seed.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import sqlite3
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fleetq_core.pod as pod_module
from fleetq_core.backoff import full_jitter
from fleetq_core.config import Config
from fleetq_core.errors import PodSuperseded, StoreError, StoreUnavailable, TerminalError, Throttled
from fleetq_core.model import Outcome, Step
from fleetq_core.pod import Pod
from fleetq_core.queue import Queue
from fleetq_core.store.sqlite import SqliteStore
from fleetq_core.tasks import TaskRegistry
from fleetq_core.worker.executor import RunStats
from fleetq_core.worker.gates import Gates, deferral_of
from tests.simulation.checks import MOVED, Model
from tests.support.clock import FakeClock
from tests.support.stores import WRITES

MAX_DEPTH = 5
LATE = {"claim_steps", "settle_steps", "release_steps", "beat", "recover", "release_unknown", "insert_steps"}
TABLES = ("step_tracker", "pod_health", "command_log", "command_answer", "recovery_run", "recovery_decision", "sample")

TASKS = TaskRegistry()
for name in ("work", "terminal", "poison"):
    TASKS.task(name)(print)
TASKS.task("flaky", throttle="api")(print)


class Killed(BaseException):
    """Unwinds the code of a pod that is dead."""


class World:
    """Time, the shared store, the pods and the dice."""

    def __init__(self, base: SqliteStore, clock: FakeClock, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.base, self.clock, self.folder = base, clock, folder
        self.seen: Counter[str] = Counter()
        self.config = Config(
            store=f"sqlite:///{folder}/none.db", data_dir=folder, pod_id="client",
            max_parallelism=self.rng.choice((2, 3, 5)), stop_grace=8.0,
            rest_after=10.0 * (seed % 2), idle_interval=20.0,
        )  # fmt: skip
        self.model = Model(clock.now, self.config.dead_pod_threshold)
        self.latency_s = self.rng.choice((0.01, 0.05, 0.5))
        self.faults = True
        self.pods: list[SimPod] = []
        self.away: dict[str, float] = {}
        self._events: list[tuple[float, int, SimPod | None, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._depth = 0

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def at(self, delay: float, pod: SimPod | None, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._sequence), pod, action))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let everything happen for so long, or until something is true."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            if until is not None and until():
                return True
            when, _, pod, action = heapq.heappop(self._events)
            self.clock.advance(max(0.0, when - self.now))
            if pod is not None and (pod.dead or pod.frozen):
                pod.deferred.append(action)
                continue
            with contextlib.suppress(Killed):
                action()
        self.clock.advance(max(0.0, end - self.now))
        return until is not None and until()

    def wait(self, pod: SimPod | None, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """The rest of the world goes on while this code stands still."""
        self._depth += 1
        try:
            done = self.run(seconds, until)
        finally:
            self._depth -= 1
        if pod is not None and pod.dead:
            raise Killed
        return done

    # -- faults -------------------------------------------------------------------------------------------------------

    def freeze(self, pod: SimPod, seconds: float) -> None:
        self.seen["pod frozen"] += 1
        pod.frozen += 1
        self.at(seconds, None, partial(self._thaw, pod))

    def _thaw(self, pod: SimPod) -> None:
        pod.frozen -= 1
        if not pod.frozen:
            self.rng.shuffle(pod.deferred)
            for action in pod.deferred:
                self.at(0.0, pod, action)
            pod.deferred.clear()

    def kill(self, pod: SimPod) -> None:
        if pod.dead:
            return
        self.seen["pod killed"] += 1
        self.seen["pod killed holding work"] += bool(pod.began and sum(pod._executor.load()))
        self.seen["leader killed"] += pod.leads
        self.bury(pod)
        self.at(self.rng.uniform(0.5, 40.0), None, partial(self.start, self._next_id(pod)))

    def bury(self, pod: SimPod) -> None:
        """The process is gone: what the kernel would close is closed."""
        pod.dead = True
        self.pods.remove(pod)
        self.seen["stale completion refused"] += pod.counters.stale_refused
        self.seen["claim released as unknown"] += pod.counters.unknown_released
        if hasattr(pod, "_settler"):
            pod._settler.close()

    def _next_id(self, pod: SimPod) -> str:
        return pod.who.pod_id if self.rng.random() < 0.6 else f"pod-{next(self._sequence)}"

    def start(self, pod_id: str) -> None:
        """A process starts; a supervisor starts it again if it cannot."""
        pod = SimPod(self, pod_id)
        self.pods.append(pod)
        try:
            pod.start()
            pod.began = True
        except PodSuperseded:  # a twin that started meanwhile
            self.bury(pod)
        except StoreError:
            self.bury(pod)
            self.at(self.rng.uniform(1.0, 10.0), None, partial(self.start, pod_id))

    def stop(self, pod: SimPod) -> None:
        """SIGTERM, or what the pod does by itself at the end."""
        pod.request_stop()
        if pod.busy or not pod.began:
            self.at(0.3, pod, partial(self.stop, pod))  # the real one waits for its threads
            return
        if pod.state in ("stopping", "stopped"):
            return
        pod.busy.add("stop")
        pod.stop()
        self.seen["graceful stop"] += 1
        superseded = isinstance(pod.failure, PodSuperseded)
        self.bury(pod)
        if not superseded:
            self.at(self.rng.uniform(0.5, 20.0), None, partial(self.start, self._next_id(pod)))

    # -- the store as one pod sees it ---------------------------------------------------------------------------------

    def commit(self, name: str, args: tuple[Any, ...], *, late: bool = False) -> Any:
        self.clock.advance(self.rng.uniform(0.05, 1.0) * self.latency_s)
        self.model.before(name, args, late=late)
        answer = getattr(self.base, name)(*args)
        self.model.after(name, args, answer)
        return answer

    def land_late(self, name: str, args: tuple[Any, ...]) -> None:
        self.seen["request landed late"] += 1
        self.commit(name, args, late=True)

    def is_away(self, pod: SimPod | None) -> bool:
        until = max(self.away.get("*", 0.0), self.away.get(pod.who.pod_id if pod else "client", 0.0))
        return self.now < until

    def disturb(self, pod: SimPod | None, rate: float) -> None:
        """Perhaps something happens to the pod in the middle of its call."""
        if pod is None or self._depth >= MAX_DEPTH or self.rng.random() > rate:
            return
        dice = self.rng.random()
        if dice < 0.15:
            self.kill(pod)
            raise Killed
        if dice < 0.5:
            seconds = self.rng.uniform(3.0, 90.0)
            self.freeze(pod, seconds)
            self.wait(pod, seconds)
        else:
            self.seen["slow statement"] += 1
            self.wait(pod, self.rng.choice((0.5, 5.0, 30.0, 70.0)))


class FaultStore:
    """The shared store behind a bad line. `pod` is None for a client's program."""

    def __init__(self, world: World, pod: SimPod | None) -> None:
        self._world, self._pod = world, pod
        self._lost_claims: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        call = partial(self._call, name)
        self.__dict__[name] = call
        return call

    def change_signal(self) -> None:
        return None

    def now(self) -> float:
        return self._world.clock.now()

    def reopen(self, role: str = "") -> FaultStore:
        return FaultStore(self._world, self._pod)

    def close(self) -> None:
        pass

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        world, pod = self._world, self._pod
        if pod is not None and pod.dead:
            raise Killed
        if not world.faults:
            return self._done(name, args, world.commit(name, args))
        if world.is_away(pod):
            raise StoreUnavailable("the store is away")
        world.disturb(pod, 0.004)
        dice = world.rng.random()
        if dice < 0.015:
            world.seen["request lost"] += 1
            if dice < 0.006 and name in LATE:
                world.at(world.rng.uniform(0.5, 40.0), None, partial(world.land_late, name, args))
            raise StoreUnavailable("the request was lost")
        answer = world.commit(name, args)
        if dice > 0.98 and name in WRITES:
            world.seen["reply lost"] += 1
            if name == "claim_steps" and answer:
                self._lost_claims.add(args[1])
            raise StoreUnavailable("the reply was lost")
        world.disturb(pod, 0.004)
        return self._done(name, args, answer)

    def _done(self, name: str, args: tuple[Any, ...], answer: Any) -> Any:
        if name == "claim_steps":
            self._world.model.heard.add(args[1])
        if name == "claim_steps" and answer and args[1] in self._lost_claims:
            self._lost_claims.discard(args[1])
            self._world.seen["claim found again after a lost reply"] += 1
        if name == "recover" and args[0].hold_off and answer.is_leader:
            self._world.seen["hold-off used"] += 1
        return answer


class SimLoop:
    """What Loop does, with an event where that has a thread."""

    def __init__(self, pod: SimPod, name: str, turn: Callable[[], float], max_backoff_s: float = 10.0) -> None:
        self._pod, self.name, self._turn, self._max_backoff_s = pod, name, turn, max_backoff_s
        self._ticket = self._away = 0
        self._started = self._stopping = self._poked = False

    def start(self) -> None:
        self._started = True
        self._after(0.0)

    def poke(self) -> None:
        if self.name in self._pod.busy:
            self._poked = True
        elif self._started and not self._stopping:
            self._after(0.0)

    def stop(self, timeout_s: float | None = None) -> bool:
        self._stopping = True
        return self.name not in self._pod.busy

    def _after(self, delay: float) -> None:
        self._ticket += 1
        self._pod.world.at(delay, self._pod, partial(self._fire, self._ticket))

    def _fire(self, ticket: int) -> None:
        if self._stopping or ticket != self._ticket:
            return
        if self.name in self._pod.busy:
            self._poked = True
            return
        self._pod.busy.add(self.name)
        self._poked = False
        try:
            delay = self._turn()
            self._away = 0
        except StoreUnavailable:
            delay = full_jitter(self._away, 0.1, self._max_backoff_s)
            self._away += 1
        except PodSuperseded as exc:
            self._pod._on_loop_death(self.name, exc)
            return
        except Exception as exc:
            self._pod.world.model.wrong(f"loop {self.name} of {self._pod.who.pod_id}: {type(exc).__name__}: {exc}")
            return
        finally:
            self._pod.busy.discard(self.name)
        if not self._stopping:
            self._after(0.0 if self._poked else delay)


class SimThrottle:
    """A throttle whose downstream is moody: it is shut, or lets one or many in, by turns of some seconds."""

    name = "api"

    def __init__(self, world: World) -> None:
        self._world = world

    def _mood(self) -> tuple[int, float]:
        turn, into = divmod(self._world.now, 7.0)
        return random.Random(turn).choice((0, 0, 1, 2, 50)), 7.0 - into

    def slots(self) -> int:
        found = self._mood()[0] if self._world.faults else 50
        self._world.seen["type shut out of a claim" if found == 0 else "claim within a cap"] += 1
        return found

    def opens_in_s(self) -> float | None:
        found, left_s = self._mood()
        return left_s if found == 0 and self._world.faults else None


class SimExecutor:
    """The executor's interface; a step begins where the real one begins it, and takes virtual time."""

    def __init__(
        self, pod: SimPod, queue: Queue, tasks: Any, clock: Any, *, capacity: int, may_start: Callable[[], bool],
        on_outcome: Callable[[Outcome], None], on_room: Callable[[], None], on_deadline: Callable[[], None],
        gates: Gates, on_shut: Callable[[], None],
    ) -> None:  # fmt: skip
        self._pod, self._world, self._queue = pod, pod.world, queue
        self.capacity, self.low_water, self.stats = capacity, 0, RunStats()
        self._may_start, self._on_outcome, self._on_room = may_start, on_outcome, on_room
        self._tasks, self._gates, self._on_shut = tasks, gates, on_shut
        self._ready: deque[Step] = deque()
        self._shut_out: list[Step] = []
        self._offered_at = 0.0
        self._runs: dict[str, tuple[Step, float]] = {}

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self._ready.clear()

    def expire(self) -> float:
        return 3600.0

    def offer(self, steps: Any) -> None:
        self._ready.extend(steps)
        self._offered_at = self._world.now
        self.wake()

    def wake(self) -> None:
        self._world.at(0.0, self._pod, self._pump)

    def room(self, ahead: int) -> int:
        return self.capacity - len(self._runs) + ahead - len(self._ready)

    def load(self) -> tuple[int, int]:
        return len(self._runs), len(self._ready)

    def held_by_task(self) -> Counter[str]:
        return Counter(s.task_type for s in (*(step for step, _ in self._runs.values()), *self._ready))

    def take_shut_out(self) -> list[Step]:
        steps, self._shut_out = self._shut_out, []
        return steps

    def running(self) -> list[tuple[Step, float, bool]]:
        return [(step, self._world.now - since, False) for step, since in self._runs.values()]

    def expected_run_s(self) -> float | None:
        mean = self.stats.mean_run_s
        if mean is None:
            return None
        so_far = sum(seconds for _, seconds, _ in self.running()) / max(1, len(self._runs))
        return max(mean, so_far)

    def take_back(self, older_than_s: float = 0.0) -> list[Step]:
        if self._world.now - self._offered_at < older_than_s:
            return []
        steps = [*self._ready, *self._shut_out]
        self._ready.clear()
        self._shut_out.clear()
        return steps

    def drop_unless(self, held: set[tuple[str, str]]) -> list[Step]:
        waiting = [*self._ready, *self._shut_out]
        lost = [step for step in waiting if (step.step_id, step.claim_token) not in held]
        self._shut_out = [step for step in self._shut_out if (step.step_id, step.claim_token) in held]
        self._ready = deque(step for step in self._ready if (step.step_id, step.claim_token) in held)
        return lost

    def wait_idle(self, timeout_s: float) -> bool:
        return not self._runs or self._world.wait(self._pod, timeout_s, lambda: not self._runs or self._pod.dead)

    def give_up_all(self) -> list[Step]:
        steps = [step for step, _ in self._runs.values()]
        self._runs.clear()
        return steps

    def _pump(self) -> None:
        while self._ready and len(self._runs) < self.capacity:
            if not self._may_start():
                self._world.seen["start refused by self-fencing"] += 1
                self._world.at(1.0, self._pod, self._pump)
                return
            self._begin(self._ready.popleft())
        if not self._ready:
            self._on_room()

    def _begin(self, step: Step) -> None:
        if len(self._ready) == self.low_water:
            self._on_room()
        if self._gates.is_shut(self._tasks.get(step.task_type)):
            self._world.seen["step shut out by its throttle"] += 1
            self._shut_out.append(step)
            self._on_shut()
            return
        row = self._world.model.pods.get(step.pod_id)
        superseded = row is None or row.incarnation != self._pod.who.incarnation
        self._world.model.started(step.step_id, step.claim_token, superseded=superseded)
        key = f"{step.step_id}/{step.claim_token}"
        self._runs[key] = (step, self._world.now)
        self._world.at(step.payload["seconds"], self._pod, partial(self._finish, key))

    def _finish(self, key: str) -> None:
        if key not in self._runs:
            return
        step, since = self._runs[key]
        if step.payload["task_type"] == "poison":
            self._world.kill(self._pod)
            return
        del self._runs[key]
        run_s = self._world.now - since
        mean = self.stats.mean_run_s
        self.stats.mean_run_s = run_s if mean is None else mean + 0.05 * (run_s - mean)
        task = self._tasks.get(step.task_type)
        if step.payload["task_type"] == "terminal":
            self._on_outcome(self._queue.failed(step, TerminalError("never"), run_s))
        elif step.deferrals < step.payload["defers"]:
            self._world.seen["step handed back"] += 1
            asked = deferral_of(Throttled("later", self._world.rng.choice((None, 0.0, 0.5, 20.0))), task)
            self._on_outcome(self._queue.deferred(step, asked.reason, run_s, asked.delay_s))
        elif step.retry_count < step.payload["fails"]:
            self._on_outcome(self._queue.failed(step, "not yet", run_s))
        else:
            self._world.model.finished_well.add((step.step_id, step.claim_token))
            self._on_outcome(self._queue.completed(step, {"by": step.pod_id}, run_s))
        self._pump()


class SimPod(Pod):
    """The real pod; only its threads are replaced by events."""

    def __init__(self, world: World, pod_id: str) -> None:
        self.world = world
        self.busy: set[str] = set()
        self.deferred: list[Callable[[], None]] = []
        self.frozen = 0
        self.dead = self.began = False
        config = world.config.model_copy(update={"pod_id": pod_id})
        queue = Queue(FaultStore(world, self), config)
        super().__init__(queue, config, tasks=TASKS, clock=world.clock)

    def _build(self) -> None:
        real, pod_module.Executor = pod_module.Executor, partial(SimExecutor, self)  # type: ignore[misc,assignment]
        try:
            super()._build()
        finally:
            pod_module.Executor = real  # type: ignore[misc]
        self._executor._gates._throttles = lambda: {"api": SimThrottle(self.world)}
        # Charts and retention move no step; without them a history takes half the time.
        self._loops = tuple(loop for loop in self._loops if loop.name not in ("sample", "retention", "watch"))
        self._settler._linger_s = 0.0
        clear = self._settler.on_clear

        def cleared() -> None:
            self.world.seen["outbox replayed"] += 1
            clear()

        self._settler.on_clear = cleared
        self._command_runner._recover_aside = self._recover_aside  # type: ignore[method-assign]

    def _loop(self, name: str, turn: Callable[[], float], **options: Any) -> Any:
        return SimLoop(self, name, turn, **options)

    def _on_loop_death(self, name: str, error: BaseException) -> None:
        self.failure = error
        self.world.seen["pod superseded"] += isinstance(error, PodSuperseded)
        self.world.at(0.0, self, partial(self.world.stop, self))

    def _within(self, act: Callable[[], None], seconds: float) -> bool:
        act()
        return True

    def _lie_down(self) -> None:
        super()._lie_down()
        self.world.seen["pod lay down to rest"] += 1

    def _on_wake(self) -> None:
        super()._on_wake()
        self.world.seen["resting pod woke up"] += 1

    def _drain(self) -> None:
        self._draining = True
        self.world.at(0.0, self, partial(self.world.stop, self))

    def _recover_aside(self, command: Any) -> None:
        if "recovery" in self.busy:
            return  # the next beat hears it again
        self.busy.add("recovery")
        try:
            self._command_runner._run_aside(command)
        finally:
            self.busy.discard("recovery")
            self._recovery_loop.poke()  # its turn may have come meanwhile

    def _on_beat(self, beat: Any, lapsed: bool) -> None:
        super()._on_beat(beat, lapsed)
        if sum(pod.leads for pod in self.world.pods) > 1:
            self.world.seen["two pods believing they lead"] += 1


def watch_moves(base: SqliteStore, moved: Callable[..., None]) -> None:
    """Have the database report every move of a step."""
    db: sqlite3.Connection = base._db._db
    db.create_function("step_moved", 12, moved)
    db.execute("DROP TRIGGER IF EXISTS step_moved")
    db.execute(MOVED)


def empty(base: SqliteStore) -> None:
    """A clean store for the next history, without the cost of a new file."""
    with base._db.write() as db:
        for table in TABLES:
            db.execute(f"DELETE FROM {table}")
