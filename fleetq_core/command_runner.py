"""Carries out what operators have ordered this pod to do, and answers in the store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from .commands import ALL_PODS, CommandKind
from .errors import FleetQError, StoreError
from .leader.recovery import Recovery, describe_run
from .model import Command, Identity
from .store import Store
from .throttle import all_throttles, reset_throttle

log = logging.getLogger(__name__)


class CommandRunner:
    """One per pod. `running()` counts the steps that run, `drain()` makes the pod finish them and leave, and
    `reset_plans(name)` makes a leader forget what it knows of a throttle.

    A command whose answer does not reach the store is heard again at the next beat: each may be carried out twice.
    """

    def __init__(
        self,
        store: Store,
        who: Identity,
        recovery: Recovery,
        *,
        running: Callable[[], int],
        drain: Callable[[], None],
        reset_plans: Callable[[str], None],
    ) -> None:
        self._store, self._who, self._recovery = store, who, recovery
        self._running, self._drain, self._reset_plans = running, drain, reset_plans
        self._recovering: threading.Thread | None = None

    def run(self, commands: Iterable[Command]) -> None:
        """Carry the commands out. Recoveries take a while and go on aside, for the heart must go on beating."""
        for command in commands:
            if command.kind == CommandKind.RUN_RECOVERY:
                self._recover_aside(command)
            else:
                self._run(command)

    def _recover_aside(self, command: Command) -> None:
        if self._recovering is None or not self._recovering.is_alive():
            self._recovering = threading.Thread(
                target=self._run_aside, args=(command,), name="fleetq-manual-recovery", daemon=True
            )
            self._recovering.start()

    def _run_aside(self, command: Command) -> None:
        try:
            self._run(command)
        except StoreError as exc:
            log.warning("command %s: %s; the next beat hears it again", command.command_id, exc)

    def _run(self, command: Command) -> None:
        try:
            ok, result = True, self._result(command)
        except StoreError:
            raise  # no answer: the store is away, so it would not hear one
        except FleetQError as exc:
            ok, result = False, str(exc)
        log.info("command %s %s by %s: %s", command.command_id, command.kind, command.issued_by, result)
        self._store.answer_command(command.command_id, self._who.pod_id, ok, result)

    def _result(self, command: Command) -> str:
        match command.kind:
            case CommandKind.RUN_RECOVERY:
                return describe_run(self._recovery.run_now())
            case CommandKind.PAUSE:
                return f"paused; {self._running()} steps are still running"
            case CommandKind.RESUME:
                return "resumed"
            case CommandKind.DRAIN:
                self._drain()
                return f"draining; {self._running()} steps are still running"
            case CommandKind.RESET_THROTTLE:
                return self._reset_throttle(str(command.args.get("name")), whole_fleet=command.target == ALL_PODS)
            case _:
                raise FleetQError(f"this pod does not know the command {command.kind!r}")

    def _reset_throttle(self, name: str, *, whole_fleet: bool) -> str:
        if whole_fleet:
            self._reset_plans(name)  # one pod alone does not start the fleet's limit anew
            if name not in all_throttles():
                return f"this pod has no throttle {name}, so there is nothing to reset"
        reset_throttle(name)
        return f"throttle {name} reset"
