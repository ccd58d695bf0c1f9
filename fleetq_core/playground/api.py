"""A downstream that is not there, in real time: it takes so many calls at once, and refuses what is above."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fleetq_core.clock import Clock, SystemClock

Steps = tuple[tuple[float, int], ...]
SPREAD = 0.3  # sigma of the lognormal lengths of calls


class Refused(Exception):
    """The downstream is full."""


class SimulatedApi:
    """`steps` are (seconds, capacity), one after another and then from the start; the first begins now.

    The calls that are under way when the capacity falls go on. Usable from any thread.
    """

    def __init__(
        self, steps: Sequence[tuple[float, int]], rng: random.Random | None = None, clock: Clock | None = None
    ) -> None:
        self.steps: Steps = tuple((float(seconds), int(capacity)) for seconds, capacity in steps)
        self.busy = self.answered = self.refused = 0
        self._rng = rng or random.Random()
        self._monotonic = (clock or SystemClock()).monotonic
        self._began_s = self._monotonic()
        self._lock = threading.Lock()

    @property
    def capacity(self) -> int:
        """How many calls it takes at once now."""
        past_s = (self._monotonic() - self._began_s) % sum(seconds for seconds, _ in self.steps)
        for seconds, capacity in self.steps:
            if past_s < seconds:
                return capacity
            past_s -= seconds
        return self.steps[-1][1]

    @contextmanager
    def call(self, mean_s: float) -> Iterator[float]:
        """A call lasts as long as the block, which is to wait for the seconds that it is given. May raise Refused."""
        with self._lock:
            capacity = self.capacity
            if self.busy >= capacity:
                self.refused += 1
                raise Refused(f"it takes {capacity} calls at once, and {self.busy} are under way")
            self.busy += 1
            seconds = self._rng.lognormvariate(math.log(mean_s) - SPREAD * SPREAD / 2, SPREAD)
        answered = False
        try:
            yield seconds
            answered = True
        finally:
            with self._lock:
                self.busy -= 1
                self.answered += answered
