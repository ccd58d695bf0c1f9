"""Rest: a pod with nothing to do falls silent, so that the warehouse of an idle fleet may sleep.

Heartbeats keep a Snowflake warehouse awake all day, whether or not there is work. With FLEET_Q_REST_AFTER a pod that
has found nothing for so long, in a queue where nothing is open, beats a last time and marks itself down. A pod that is
down owns nothing, leads nobody and is judged by nobody, so its silence means nothing. From then on it only looks, in
one statement whose text never changes, which Snowflake answers from the result cache while nothing is written. An open
step or a new command makes it beat again; only after that beat may it claim, as after any silence.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from .clock import Clock
from .store import Store

log = logging.getLogger(__name__)

AT_REST_S = 3600.0  # a loop that has nothing to do until somebody pokes it
LYING_DOWN_S = 0.2


class Rest:
    """One per pod. It stands between the claim and the heartbeat loop and their work.

    `is_free()`: the pod holds no step and owes no outcome. `worked()`: a number that grows whenever it had work.
    `lie_down()` beats a last time and marks the pod down, `wake_up()` makes it beat at once, and `pause_s()` says how
    long to wait after a look that found nothing.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        after_s: float,
        *,
        is_free: Callable[[], bool],
        worked: Callable[[], int],
        lie_down: Callable[[], None],
        wake_up: Callable[[], None],
        pause_s: Callable[[], float],
    ) -> None:
        self.resting = False
        self._store, self._clock, self._after_s = store, clock, after_s
        self._is_free, self._worked = is_free, worked
        self._lie_down, self._wake_up, self._pause_s = lie_down, wake_up, pause_s
        self._turn = threading.Lock()  # a pod never claims and lies down at the same moment
        self._free_since: float | None = None
        self._work_seen = 0
        self._newest_command: float | None = None

    def claiming(self, claim: Callable[[], float]) -> float:
        """A turn of the claim loop: claim, or while resting just look."""
        if not self._turn.acquire(blocking=False):
            return LYING_DOWN_S
        try:
            if self.resting:
                return self._look()
            pause = claim()
            self._note()
            return pause
        finally:
            self._turn.release()

    def beating(self, beat: Callable[[], float]) -> float:
        """A turn of the heartbeat loop: beat, then perhaps lie down. While resting there is none."""
        if self.resting:
            return AT_REST_S
        pause = beat()
        if self._is_due() and self._turn.acquire(blocking=False):
            try:
                self._try_to_rest()
            finally:
                self._turn.release()
        return AT_REST_S if self.resting else pause

    def _note(self) -> None:
        worked, seen = self._worked(), self._work_seen
        self._work_seen = worked
        if worked != seen or not self._is_free():
            self._free_since = None
        elif self._free_since is None:
            self._free_since = self._clock.monotonic()

    def _is_due(self) -> bool:
        since = self._free_since
        return self._after_s > 0 and since is not None and self._clock.monotonic() - since >= self._after_s

    def _try_to_rest(self) -> None:
        found = self._store.idle_look()
        if found.open_steps or not self._is_free():
            self._free_since = None  # others work: somebody has to be there should they die
            return
        self.resting = True  # before the last beat, which publishes it
        try:
            self._lie_down()
        except BaseException:
            self.resting = False
            raise
        self._newest_command = found.newest_command_ts
        log.info("nothing to do for %.0f s: this pod rests, and looks only now and then", self._after_s)

    def _look(self) -> float:
        found = self._store.idle_look()
        if not found.open_steps and found.newest_command_ts == self._newest_command:
            return self._pause_s()
        self.resting, self._free_since = False, None
        log.info("there is something to do: this pod beats again")
        self._wake_up()
        return self._pause_s()
