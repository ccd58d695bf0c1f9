"""How slow a downstream is now, against how slow it usually is: p95 of one window against the median of ten."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence

WINDOWS = 10
RTT_WEIGHT = 0.1


class LatencyGauge:
    """Keeps the last `window` latencies (seconds) and the p95 of the last ten full windows.

    The baseline is the median of those p95s: a downstream that has become slower for good is the new normal after
    about six windows, and one odd window moves nothing. p95 is compared with p95, because a mean or a minimum under a
    long-tailed distribution reads as pressure at all times.
    """

    def __init__(self, window: int) -> None:
        self._recent: deque[float] = deque(maxlen=window)
        self._p95s: deque[float] = deque(maxlen=WINDOWS)
        self._until_full = window
        self.rtt_s = 0.0
        self.ignored = 0

    def add(self, latency_s: float) -> None:
        """Count one success. A negative, infinite or NaN latency is counted in `ignored` and otherwise forgotten."""
        if not (math.isfinite(latency_s) and latency_s >= 0):
            self.ignored += 1
            return
        self.rtt_s = latency_s if not self.rtt_s else self.rtt_s + RTT_WEIGHT * (latency_s - self.rtt_s)
        self._recent.append(latency_s)
        self._until_full -= 1
        if self._until_full == 0:
            self._until_full = self._recent.maxlen or 1
            found = p95(self._recent)
            # The first window counts as ten: with few behind it a slower one would be half of its own baseline.
            self._p95s.extend([found] if self._p95s else [found] * WINDOWS)

    @property
    def current_p95_s(self) -> float | None:
        """p95 of the last window, full or not; None before the first success."""
        return p95(self._recent) if self._recent else None

    @property
    def baseline_s(self) -> float | None:
        """The usual p95; None before the first full window."""
        return statistics.median(self._p95s) if self._p95s else None

    def over(self, threshold: float) -> bool:
        """Whether the current p95 is above `threshold` × baseline."""
        baseline, current = self.baseline_s, self.current_p95_s
        return baseline is not None and current is not None and current > threshold * baseline


def p95(values: Sequence[float]) -> float:
    """The 95th percentile by nearest rank."""
    ordered = sorted(values)
    return ordered[math.ceil(0.95 * len(ordered)) - 1]
