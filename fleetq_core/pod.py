"""A pod: puts the loops together, carries out commands, and stops in the order that loses nothing."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from .clock import Clock, SystemClock
from .command_runner import CommandRunner
from .config import Config
from .cost import idle_credits_a_day
from .errors import FleetQError, StoreError
from .exchange import Exchange
from .heartbeat import Heartbeat
from .ids import new_token
from .leader.housekeeping import Retention, Sampler
from .leader.planner import Planner
from .leader.recovery import Recovery
from .life import EVERY_S, STUCK_S, LifeSign
from .loop import Loop, Outage
from .model import Beat, Identity
from .queue import Queue
from .rest import Rest
from .roles import check_runs_pod
from .signals import on_stop
from .store import Store
from .store.metered import KINDS, meter_of, metered
from .store.tally import StoreMeter
from .tasks import TaskRegistry, default_registry, load_handlers
from .throttle import all_throttles
from .throttle.wake import on_wake
from .version import VERSION
from .worker.claimer import Claimer
from .worker.counters import Counters
from .worker.executor import Executor
from .worker.gates import Gates
from .worker.lease import Lease
from .worker.ledger import ClaimLedger
from .worker.outbox import check_writable
from .worker.settler import Settler

log = logging.getLogger(__name__)

LINGER_S = 0.002  # how long the first outcome of a set waits for company
JOIN_S = 5.0  # how long a stopping pod waits for a loop that is inside a statement
FAREWELL_S = 10.0  # and for a statement of its own
HURRY_S = 0.5  # for each of them once one has hung: a dead network must not hold up the stop
PUBLISHED_RUNS = 50
PUBLISHED_THROTTLES = 50  # those used last
WATCH_PAUSE_S = 0.005
WATCH_IDLE_S = 3600.0


class Pod:
    """One per process. `queue` is what `connect()` returns; the pod opens connections of its own beside it."""

    def __init__(
        self,
        queue: Queue,
        config: Config | None = None,
        *,
        tasks: TaskRegistry | None = None,
        clock: Clock | None = None,
        store_opener: Callable[[], Store] | None = None,
    ) -> None:
        self.config = config or queue.config
        self.who = Identity(self.config.pod_id, new_token())
        self.tasks = tasks or default_registry
        self.counters = Counters()
        self.leader_pod_id: str | None = None
        self.failure: BaseException | None = None
        self._clock = clock or SystemClock()
        self._submitters = queue
        self._open = store_opener
        self.meter = meter_of(queue.store) or StoreMeter(KINDS, self.config.warehouse_auto_suspend)
        self._stores: list[Store] = []
        self._leads = self._paused = self._draining = False
        self._state = "new"
        self._stop_lock = threading.Lock()
        self._hurried = False
        self._outage = Outage()
        self._stop_requested = threading.Event()
        self._stopped = threading.Event()

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Register and start all loops. Raises ConfigError for bad task modules, StoreError without a store."""
        check_runs_pod(self.config.role)
        load_handlers(self.config.handlers)
        check_writable(self.config.data_dir)
        for line in self.config.warnings():
            log.warning("%s", line)
        self._build()
        if self.config.store == "snowflake":
            log.info(
                "idle, a fleet with these settings costs about %.1f credits a day", idle_credits_a_day(self.config)
            )
        # Before the row is taken over, while the claims of this pod's last process still stand.
        self._settler.replay()
        self._heartbeat.register()
        self._heartbeat.run_once()
        self._state = "running"
        self._executor.start()
        for loop in self._loops:
            loop.start()
        self._submitters.on_submit = self._claim_loop.poke
        on_wake.add(self._beat_loop.poke)
        log.info(
            "pod %s is up: %d of %d slots, store %s, tasks %s",
            self.who.pod_id, self.config.capacity, self.config.max_parallelism, self.config.store,
            ", ".join(task.name for task in self.tasks.all()),
        )  # fmt: skip

    def run(self, until: Callable[[], bool] | None = None) -> int:
        """Start, work until SIGTERM, SIGINT, a drain order or `until()`, stop; returns the exit code."""
        on_stop(self.request_stop)
        try:
            self.start()
        except FleetQError as exc:
            log.error("%s", exc)
            return 1
        life = LifeSign(self.config.data_dir, self.who.pod_id)
        try:
            life.give(self._stuck())
            while not self._stop_requested.wait(0.5 if until else EVERY_S):
                life.give(self._stuck())
                if until and until():
                    break
        finally:
            self.stop()
            life.end()
        return 1 if self.failure else 0

    def _stuck(self) -> list[str]:
        # The watch loop waits inside its turn.
        return [loop.name for loop in self._loops if loop is not self._watch_loop and loop.turn_s() > STUCK_S]

    def request_stop(self) -> None:
        """Claim nothing more, from this moment on; `stop()` does the rest."""
        self._draining = True
        self._stop_requested.set()

    def stop(self, grace_s: float | None = None) -> None:
        """Stop without losing anything; running steps have `grace_s` (default: stop_grace) to finish. Idempotent."""
        self.request_stop()
        with self._stop_lock:
            if self._state in ("new", "stopped"):
                return
            self._state = "stopping"
            log.info("pod %s is stopping", self.who.pod_id)
            self._submitters.on_submit = None
            on_wake.discard(self._beat_loop.poke)
            if self._signal is not None:
                self._signal.interrupt()
            self._end(self._watch_loop)
            self._end(self._claim_loop)
            self._guarded(lambda: self._claimer.release(self._executor.take_back()))
            if not self._executor.wait_idle(self.config.stop_grace if grace_s is None else grace_s):
                steps = self._executor.give_up_all()
                log.warning("%d steps did not finish within the grace; giving them back", len(steps))
                self._guarded(lambda: self._claimer.release(steps))
            self._end(self._deadline_loop)
            self._executor.stop()
            self._end(self._settle_loop)
            self._guarded(self._settler.flush)
            if self._hurried:
                self._settler.salvage()
            for loop in (self._recovery_loop, self._sample_loop, self._purge_loop):
                self._end(loop)
            # The heartbeat outlives the work, and its last word is that this pod is gone: leadership moves at once.
            self._end(self._beat_loop)
            self._guarded(lambda: self._beat_store.mark_down(self.who))
            self._settler.close()
            if self._signal is not None:
                self._signal.close()
            self._guarded(self._close_stores)
            self._state = "stopped"
            self._stopped.set()
            log.info("pod %s is down", self.who.pod_id)

    def wait_stopped(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of `stop()`."""
        return self._stopped.wait(timeout_s)

    def _end(self, loop: Loop) -> None:
        if not loop.stop(HURRY_S if self._hurried else JOIN_S):
            self._hurried = True

    def _guarded(self, action: Callable[[], object]) -> None:
        def act() -> None:
            try:
                action()
            except StoreError as exc:
                # Claims that stay behind are orphans once this pod counts as dead; the leader finds them.
                log.warning("while stopping: %s", exc)

        if not self._within(act, HURRY_S if self._hurried else FAREWELL_S):
            log.warning("while stopping: the store does not answer; going on without it")
            self._hurried = True

    def _within(self, act: Callable[[], None], seconds: float) -> bool:
        """Do it on a thread of its own: on a dead network it may hang for longer than anybody waits for this pod."""
        acting = threading.Thread(target=act, name="fleetq-farewell", daemon=True)
        acting.start()
        acting.join(seconds)
        return not acting.is_alive()

    def _close_stores(self) -> None:
        for store in self._stores:
            store.close()

    def _build(self) -> None:
        config, clock = self.config, self._clock
        claim_store, settle_store, beat_store, lead_store = map(self._opened, ("claim", "settle", "beat", "lead"))
        self._beat_store = beat_store
        claim_queue = Queue(claim_store, config, self.who)
        settle_queue = Queue(settle_store, config, self.who)
        self.lease = Lease(clock, config.dead_pod_threshold, config.lease_margin_s, config.heartbeat_interval)
        self._ledger = ClaimLedger()
        self._settler = Settler(settle_queue, self._ledger, self.counters, config.data_dir / "outbox", LINGER_S)
        gates = Gates(self.tasks)
        self._executor = Executor(
            claim_queue, self.tasks, clock,
            capacity=config.capacity, may_start=self.lease.is_valid, on_outcome=self._settler.add,
            on_room=self._on_room, on_deadline=lambda: self._deadline_loop.poke(),
            gates=gates, on_shut=lambda: self._claim_loop.poke(),
        )  # fmt: skip
        self._claimer = Claimer(
            claim_queue, self._executor, self._ledger, self.counters, config, clock, self._may_claim, gates
        )
        planner = Planner(clock, config.throttle_exchange)
        exchange = Exchange(
            beat_store, self.who, planner, lambda: self._leads, config.throttle_exchange, config.dead_pod_threshold
        )
        self._heartbeat = Heartbeat(
            beat_store, self.who, config, clock, self.lease, self._ledger, self.counters, exchange=exchange,
            meta=self.meta, drop_unless=self._executor.drop_unless, on_beat=self._on_beat,
        )  # fmt: skip
        self.recovery = Recovery(
            lead_store, self.who, config, clock, leads=lambda: self._leads, holds_off=self.lease.holds_off
        )
        self._command_runner = CommandRunner(
            beat_store, self.who, self.recovery, running=lambda: self._executor.load()[0], drain=self._drain,
            reset_plans=planner.reset,
        )  # fmt: skip
        sampler = Sampler(lead_store, self.who, config, lambda: self._leads)
        retention = Retention(lead_store, config, lambda: self._leads)
        self._rest = Rest(
            claim_store, clock, config.rest_after,
            is_free=self._is_free, worked=lambda: self.counters.claimed, lie_down=self._lie_down,
            wake_up=self._on_wake, pause_s=self._claimer.widened_s,
        )  # fmt: skip
        self._claim_loop = self._loop("claim", lambda: self._rest.claiming(self._claimer.run_once))
        self._signal = claim_store.change_signal()
        self._watch_loop = self._loop("watch", self._watch)
        self._settle_loop = self._loop("settle", self._settler.run_once)
        self._deadline_loop = self._loop("deadline", self._executor.expire)
        self._beat_loop = self._loop("heartbeat", self._beat_turn, max_backoff_s=config.heartbeat_interval)
        self._recovery_loop = self._loop("recovery", self.recovery.run_once)
        self._sample_loop = self._loop("sample", sampler.run_once)
        self._purge_loop = self._loop("retention", retention.run_once)
        self._loops = (
            self._beat_loop, self._settle_loop, self._deadline_loop, self._claim_loop,
            self._recovery_loop, self._sample_loop, self._purge_loop, self._watch_loop,
        )  # fmt: skip
        self._settler.poke = self._settle_loop.poke
        self._settler.on_clear = self._claim_loop.poke
        self._settler.on_deferred = self._on_deferred

    def _opened(self, role: str) -> Store:
        store = self._open() if self._open else self._submitters.store.reopen(role)
        if meter_of(store) is None:
            store = metered(store, self.meter)
        self._stores.append(store)
        return store

    def _loop(self, name: str, turn: Callable[[], float], **options: Any) -> Loop:
        return Loop(name, turn, on_death=self._on_loop_death, outage=self._outage, **options)

    def _on_loop_death(self, name: str, error: BaseException) -> None:
        self.failure = error
        log.critical("pod %s stops: its %s loop died: %s", self.who.pod_id, name, error)
        self.request_stop()
        # A thread of its own: the loop that died cannot wait for itself, and a dashboard's pod has nobody in run().
        threading.Thread(target=self.stop, name="fleetq-stop", daemon=True).start()

    # -- what the loops ask -------------------------------------------------------------------------------------------

    def _may_claim(self) -> bool:
        return not (self._paused or self._draining) and self.lease.is_valid() and self._settler.is_clear

    def _is_free(self) -> bool:
        return self._executor.load() == (0, 0) and not self._ledger.tokens() and self._settler.is_clear

    def _beat_turn(self) -> float:
        return self._rest.beating(self._heartbeat.run_once)

    def _lie_down(self) -> None:
        self._leads = False
        self._heartbeat.lie_down()

    def _on_wake(self) -> None:
        self._beat_loop.poke()

    def _watch(self) -> float:
        """Look at the queue as soon as another process has committed; the pause bounds what a busy fleet costs."""
        if self._signal is None:
            return WATCH_IDLE_S
        if self._signal.wait(WATCH_IDLE_S):
            self._claim_loop.poke()
        return WATCH_PAUSE_S

    def _on_room(self) -> None:
        if self._claimer.hungry:
            self._claim_loop.poke()

    def _on_deferred(self, delays: Sequence[float]) -> None:
        self._claimer.expect(delays)
        self._claim_loop.poke()  # it may wait for longer than that

    def _on_beat(self, beat: Beat, lapsed: bool) -> None:
        led, self._leads = self._leads, beat.leader == self.who.incarnation
        self.leader_pod_id = beat.leader_pod_id
        if self._leads and not led:
            log.info("pod %s leads the fleet", self.who.pod_id)
            self._recovery_loop.poke()
            self._sample_loop.poke()
        if beat.paused != self._paused:
            self._paused = beat.paused
            log.info("pod %s is %s", self.who.pod_id, "paused" if beat.paused else "resumed")
            self._claim_loop.poke()
        if lapsed:
            self._claim_loop.poke()
            self._executor.wake()
        self._command_runner.run(beat.commands)

    def poke(self) -> None:
        """Beat now, so that commands are heard at once; a pod that rests looks."""
        (self._claim_loop if self._rest.resting else self._beat_loop).poke()

    def _drain(self) -> None:
        """Claim nothing more, finish what runs however long it takes, then stop the pod."""
        self._draining = True
        threading.Thread(target=self._finish_drain, name="fleetq-drain", daemon=True).start()

    def _finish_drain(self) -> None:
        while not self._executor.wait_idle(3600.0):
            log.info("still draining")
        self._stop_requested.set()
        self.stop()

    # -- what the pod shows -------------------------------------------------------------------------------------------

    @property
    def store_hangs(self) -> bool:
        """Whether the store has not answered while the pod stopped: threads of it may still wait for it."""
        return self._hurried

    @property
    def leads(self) -> bool:
        """Whether this pod was the leader at its last beat."""
        return self._leads

    @property
    def state(self) -> str:
        """new, running, resting, paused, draining, stopping or stopped."""
        if self._state == "running":
            if self._rest.resting:
                return "resting"
            return "draining" if self._draining else "paused" if self._paused else "running"
        return self._state

    def _throttles(self) -> dict[str, Any]:
        """What is published of the throttles; names may come from payloads, so there may be many."""
        recent = sorted(all_throttles().items(), key=lambda item: item[1].idle_s())[:PUBLISHED_THROTTLES]
        return {name: throttle.publication() for name, throttle in sorted(recent)}

    def meta(self) -> dict[str, Any]:
        """What the pod publishes with its heartbeat."""
        running = self._executor.running()
        counters = self.counters
        stats = self._executor.stats
        return {
            "state": self.state,
            "version": VERSION,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "heartbeat_s": self.config.heartbeat_interval,
            "clock_offset_s": self._heartbeat.clock_offset_s,
            "capacity": self.config.capacity,
            "max_parallelism": self.config.max_parallelism,
            "running_count": len(running),
            "buffered": self._executor.load()[1],
            "stuck": stats.stuck,
            "running": [
                {"step_id": step.step_id, "task_type": step.task_type, "seconds": round(seconds, 3), "timed_out": late}
                for step, seconds, late in running[:PUBLISHED_RUNS]
            ],
            "claims": counters.claims,
            "empty_claims": counters.empty_claims,
            "claimed": counters.claimed,
            "completed": counters.completed,
            "failed": counters.failed,
            "deferred": counters.deferred,
            "timed_out": stats.timed_out,
            "released": counters.released,
            "stale_refused": counters.stale_refused,
            "unknown_released": counters.unknown_released,
            "store_errors": counters.store_errors,
            "outbox": self._settler.waiting,
            "last_errors": counters.last_errors,
            "store": self.meter.publication(),
            "tasks": [task.name for task in self.tasks.all()],
            "task_throttles": {task.name: task.throttle for task in self.tasks.all() if task.throttle},
            "exchanges": counters.exchanges,
            "recovered": self.recovery.moved,
            "throttles": self._throttles(),
        }
