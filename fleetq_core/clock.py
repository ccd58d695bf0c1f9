"""The two clocks of a pod: one to wait by, and, for the embedded store only, one that plays the database's clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Injected wherever time matters, so that tests move it by hand."""

    def now(self) -> float:
        """Seconds since the epoch, UTC. Only the embedded store asks: its processes share one machine's clock."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever rise, for measuring waits and leases."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    if hasattr(time, "CLOCK_BOOTTIME"):

        def monotonic(self) -> float:
            # CLOCK_MONOTONIC stands still while a virtual machine is suspended, and a lease must not.
            return time.clock_gettime(time.CLOCK_BOOTTIME)

    else:

        def monotonic(self) -> float:
            return time.monotonic()
