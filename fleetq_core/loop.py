"""One background loop: it owns a thread, runs a turn, waits, and is the only place that does so.

A turn returns the seconds until the next one. A store that is away makes the loop back off; any other error is logged,
and several in a row end the loop and report it, so that its pod stops loudly instead of living on as half a pod.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from .backoff import full_jitter
from .errors import PodSuperseded, StoreUnavailable

log = logging.getLogger(__name__)

MAX_ERRORS_IN_A_ROW = 5


class Outage:
    """An outage of the store as its loops feel it: one line in the log when it begins, one when all are through it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away: set[str] = set()

    def felt(self, loop: str, error: StoreUnavailable) -> None:
        """The store was away for `loop`."""
        with self._lock:
            first = not self._away
            self._away.add(loop)
        if first:
            log.warning("%s: %s; trying again", loop, error)

    def over(self, loop: str) -> None:
        """The store answers `loop` again."""
        with self._lock:
            self._away.discard(loop)
            last = not self._away
        if last:
            log.info("%s: the store is back", loop)


class Loop:
    """Runs `turn` on a thread of its own until stopped.

    `on_death(name, error)` is called, on the loop's thread, when the loop gives up. Loops on one store share `outage`.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], float],
        *,
        on_death: Callable[[str, BaseException], None],
        max_backoff_s: float = 10.0,
        outage: Outage | None = None,
    ) -> None:
        self.name = name
        self._turn = turn
        self._on_death = on_death
        self._max_backoff_s = max_backoff_s
        self._outage = outage or Outage()
        self._wake = threading.Event()
        self._stopping = False
        self._turn_began: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"fleetq-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread; the first turn comes at once."""
        self._thread.start()

    def poke(self) -> None:
        """Make the next turn come now. Cheap, and safe from any thread."""
        if not self._wake.is_set():
            self._wake.set()

    def turn_s(self) -> float:
        """How long the turn of this moment has lasted; 0 between turns."""
        began = self._turn_began
        return 0.0 if began is None else time.monotonic() - began

    def stop(self, timeout_s: float | None = None) -> bool:
        """Let a running turn end, then no more; returns False if that took longer than `timeout_s`."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _is_stopping(self) -> bool:
        return self._stopping

    def _run(self) -> None:
        errors = 0
        away = 0
        while not self._is_stopping():
            # Cleared before the turn: a poke that arrives during it must not be lost.
            self._wake.clear()
            if self._is_stopping():
                return
            self._turn_began = time.monotonic()
            try:
                delay = self._turn()
                if away:
                    self._outage.over(self.name)
                errors = away = 0
            except StoreUnavailable as exc:
                if not away:
                    self._outage.felt(self.name, exc)
                delay = full_jitter(away, 0.1, self._max_backoff_s)
                away += 1
            except PodSuperseded as exc:
                self._on_death(self.name, exc)
                return
            except Exception as exc:
                errors += 1
                log.exception("%s: turn failed (%d in a row)", self.name, errors)
                if errors >= MAX_ERRORS_IN_A_ROW:
                    self._on_death(self.name, exc)
                    return
                delay = full_jitter(errors, 0.1, self._max_backoff_s)
            self._turn_began = None
            if delay > 0 and not self._is_stopping():
                self._wake.wait(delay)


def jittered(seconds: float) -> float:
    """`seconds` ± 20 %, so that pods started together do not ask together."""
    return seconds * random.uniform(0.8, 1.2)
