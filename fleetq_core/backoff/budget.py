"""A retry budget: retries are a share of the calls, so that an outage is not multiplied by everybody's retries."""

from __future__ import annotations

import math
import threading
from collections import deque

from fleetq_core.errors import ConfigError

from . import pause

_SLICES = 10  # of the window; what is older than the window is forgotten a slice at a time


class RetryBudget:
    """Shared by any number of decorated functions, sync or async, and safe between threads.

    In any `ttl_s` seconds it allows `share` retries for each call, and `min_per_s` retries a second besides, for
    callers that have just started or call seldom. Without it, five attempts each multiply the load of a service that
    is down by five; with a fifth, by 1.2. When it is spent the error is raised at once, without a wait.

    Source: Finagle's RetryBudget (K. Oliver, "Retry Budgets", 2016: 20 % and 10 a second over 10 s); gRPC's retry
    throttling (proposal A6) has the same aim. Raises ConfigError for a share, rate or window that makes no sense.
    """

    def __init__(self, share: float = 0.2, min_per_s: float = 1.0, ttl_s: float = 10.0) -> None:
        limits = {"share": (share, 0, 1000), "min_per_s": (min_per_s, 0, 1_000_000), "ttl_s": (ttl_s, 1, 60)}
        problems = [
            f"{name}={value!r}: must be a number from {least} to {most}"
            for name, (value, least, most) in limits.items()
            if isinstance(value, bool)
            or not (isinstance(value, int | float) and math.isfinite(value) and least <= value <= most)
        ]
        if problems:
            raise ConfigError(problems)
        self._share, self._reserve, self._ttl_s = share, min_per_s * ttl_s, ttl_s
        self._lock = threading.Lock()
        self._slices: deque[list[float]] = deque()  # [number of the slice, what it added to the balance]

    def record_call(self) -> None:
        """One call (not a retry) begins: it earns its share."""
        with self._lock:
            self._now()[1] += self._share

    def try_retry(self) -> bool:
        """Take one retry, if there is one left."""
        with self._lock:
            now = self._now()
            if self._balance() < 1 - 1e-9:
                return False
            now[1] -= 1
            return True

    @property
    def balance(self) -> float:
        """How many retries are left at this moment."""
        with self._lock:
            self._now()
            return self._balance()

    def _balance(self) -> float:
        return self._reserve + sum(amount for _, amount in self._slices)

    def _now(self) -> list[float]:
        """The current slice, after the old ones are forgotten."""
        number = math.floor(pause.monotonic() / self._ttl_s * _SLICES)
        while self._slices and self._slices[0][0] <= number - _SLICES:
            self._slices.popleft()
        if not self._slices or self._slices[-1][0] < number:
            self._slices.append([number, 0.0])
        return self._slices[-1]
