"""The recovery cycle: give the steps of dead pods back, retry failed steps that are due, end those without retries.

All that matters happens in the store, in guarded statements, so a leader may die anywhere in here, and two pods that
both believe they lead do the work once.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fleetq_core.clock import Clock
from fleetq_core.config import Config
from fleetq_core.errors import NotLeader, StoreUnavailable
from fleetq_core.ids import new_id
from fleetq_core.loop import jittered
from fleetq_core.model import Decision, Identity, RecoveryRun
from fleetq_core.store import Store
from fleetq_core.store.protocol import Recovered, RecoveryOrder

from .dlq import LocalDlq, drop_leftovers

log = logging.getLogger(__name__)

CYCLE_LIMIT = 10_000  # steps that one cycle moves; the next one follows at once


class Recovery:
    """One per pod; it acts only while its pod leads. `holds_off()` says that silent pods must not be judged yet."""

    def __init__(
        self,
        store: Store,
        who: Identity,
        config: Config,
        clock: Clock,
        *,
        leads: Callable[[], bool],
        holds_off: Callable[[], bool],
    ) -> None:
        self._store, self._who, self._config, self._clock = store, who, config, clock
        self._leads, self._holds_off = leads, holds_off
        self._folder: Path = config.data_dir / "dlq" / who.pod_id
        self._unsaved: list[tuple[RecoveryRun, Sequence[Decision]]] = []
        self._run_id: str | None = None  # of a cycle that the store has not answered; asked again until it has
        self._turn = threading.Lock()  # the loop, a command and an HTTP request may all ask for a cycle
        self.moved = {cause: {"requeued": 0, "terminal": 0} for cause in ("failed", "orphan")}  # since the start
        drop_leftovers(self._folder)

    def run_once(self) -> float:
        """One cycle, if this pod leads; returns the seconds until the next."""
        with self._turn:
            self._save()
            if not self._leads():
                return self._config.recovery_interval
            run = self._cycle("cycle")
        if run is not None and run.total_orphans + run.retried >= CYCLE_LIMIT:
            return 0.0
        return jittered(self._config.recovery_interval)

    def run_now(self, trigger: str = "manual") -> RecoveryRun:
        """One cycle because a person asked; it is kept even if there was nothing to do. Raises NotLeader."""
        with self._turn:
            run = self._cycle(trigger)
        if run is None:
            raise NotLeader(f"pod {self._who.pod_id} does not lead the fleet, so it may not run a recovery")
        return run

    def _cycle(self, trigger: str) -> RecoveryRun | None:
        started = self._clock.monotonic()
        hold_off = self._holds_off()
        run_id = self._run_id = self._run_id or new_id("run")
        done = self._store.recover(
            RecoveryOrder(
                run_id,
                self._who,
                self._config.dead_pod_threshold,
                self._config.max_retries,
                hold_off,
                CYCLE_LIMIT,
            )
        )
        self._run_id = None
        if not done.is_leader:
            return None
        for decision in done.decisions:
            self.moved[decision.cause][decision.action] += 1
        run = self._summary(run_id, trigger, done, self._clock.monotonic() - started, hold_off)
        if done.decisions or done.dead_pods or trigger != "cycle":
            self._unsaved.append((run, done.decisions))
        with self._local_log(run_id, done.decisions):
            self._save()
        if done.decisions or done.dead_pods:
            log.info(
                "recovery %s: dead pods %s, %d orphans, %d failed steps due; %d resubmitted, %d ended for good",
                run_id, list(run.dead_pods), run.total_orphans, run.retried, run.resubmitted, run.terminal_failures,
            )  # fmt: skip
        return run

    def _summary(self, run_id: str, trigger: str, done: Recovered, duration_s: float, hold_off: bool) -> RecoveryRun:
        causes = Counter(decision.cause for decision in done.decisions)
        actions = Counter(decision.action for decision in done.decisions)
        return RecoveryRun(
            run_id=run_id,
            leader_pod_id=self._who.pod_id,
            trigger=trigger,
            started_ts=done.now_ts,
            finished_ts=done.now_ts + duration_s,
            duration_s=duration_s,
            dead_pods=done.dead_pods,
            total_orphans=causes["orphan"],
            resubmitted=actions["requeued"],
            terminal_failures=actions["terminal"],
            retried=causes["failed"],
            held_off=hold_off,
            verdicts=done.verdicts,
            statements=done.statements,
        )

    @contextmanager
    def _local_log(self, run_id: str, decisions: Sequence[Decision]) -> Iterator[None]:
        """The run's DLQ, there until the run is in the store. Its disk may fail: what was done stands without it."""
        with ExitStack() as stack:
            try:
                stack.enter_context(LocalDlq(self._folder, run_id)).add(decisions)
            except StoreUnavailable as exc:
                log.warning("%s; recovery %s goes on without it", exc, run_id)
            yield

    def _save(self) -> None:
        # A store that goes away between the recovery and its record must not lose the record.
        while self._unsaved:
            self._store.save_recovery_run(*self._unsaved[0])
            self._unsaved.pop(0)


def describe_run(run: RecoveryRun) -> str:
    """One line about a recovery run."""
    held = (
        "; silent pods were not judged, because this leader has not beaten for a whole threshold yet"
        if run.held_off
        else ""
    )
    return (
        f"{run.run_id}: {len(run.dead_pods)} dead pods, {run.total_orphans} orphans, {run.resubmitted} resubmitted, "
        f"{run.terminal_failures} terminal failures{held}"
    )
