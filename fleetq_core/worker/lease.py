"""What a pod knows of its own lease, by its own monotonic clock."""

from __future__ import annotations

import math

from fleetq_core.clock import Clock


class Lease:
    """Renewed by every good beat, counted from the moment that beat was *sent*.

    A pod stops trusting its lease a margin before the others do, so that a pod that was frozen does not start
    steps which have been given away meanwhile (self-fencing).
    """

    def __init__(self, clock: Clock, threshold_s: float, margin_s: float, heartbeat_s: float) -> None:
        self._clock = clock
        self._trusted_s = threshold_s - margin_s
        self._threshold_s = threshold_s
        # A gap this long may have been an outage in which every pod fell silent.
        self._gap_s = max(1.5 * heartbeat_s, threshold_s - 3 * heartbeat_s)
        self._renewed: float | None = None
        self._steady_since: float | None = None

    def renew(self, sent: float, *, unsteady: bool = False) -> bool:
        """Take note of a good beat sent at `sent` (monotonic). True: the lease had run out before it.

        `unsteady` starts the time anew for which this pod must have beaten before it may judge others.
        """
        lapsed = self._renewed is not None and sent - self._renewed > self._trusted_s
        if unsteady or self._renewed is None or sent - self._renewed > self._gap_s:
            self._steady_since = sent
        self._renewed = sent
        return lapsed

    def end(self) -> None:
        """Nobody honours it any more: the pod has marked itself down."""
        self._renewed = -math.inf

    def is_valid(self) -> bool:
        """Whether the pod may still claim and start steps."""
        return self._renewed is not None and self._clock.monotonic() - self._renewed < self._trusted_s

    def holds_off(self) -> bool:
        """Whether this pod must not judge others dead yet: it has not beaten without a gap for one threshold."""
        now = self._clock.monotonic()
        if self._steady_since is None or self._renewed is None or now - self._renewed > self._gap_s:
            return True
        return now - self._steady_since < self._threshold_s
