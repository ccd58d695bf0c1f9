"""The limiters that FLEET-Q's rules are compared with, written from published sources; not tuned."""

from __future__ import annotations

import math

from fleetq_core.playground.limiters import Fixed
from fleetq_core.throttle.rule import Flight


class Gradient2(Fixed):
    """Netflix concurrency-limits, Gradient2Limit in a WindowedLimit, at its published defaults; not tuned.

    limit × clamp(1.5 · long RTT ÷ short RTT, 0.5, 1) + 4, smoothed by 0.2, once for each window of a second and ten
    samples. A refusal reported as a drop is a sample like any other: ImmutableAverageSampleWindow adds its time to the
    mean, and Gradient2Limit never reads `didDrop`. With `drops=False` refusals are reported as onIgnore, no samples.
    """

    def __init__(self, *, drops: bool = True) -> None:
        super().__init__(10)
        self._drops = drops
        self._window: list[float] = []
        self._level = 0
        self._due_s = self._long_s = 0.0

    def success(self, now_s: float, flight: Flight | None = None, latency_s: float | None = None) -> None:
        """One sample."""
        if flight is None:
            return
        self._window.append(now_s - flight.started_s)
        self._level = max(self._level, flight.level)
        if now_s >= self._due_s and len(self._window) >= 10:
            self._update(sum(self._window) / len(self._window))
            self._window.clear()
            self._level, self._due_s = 0, now_s + 1.0

    def _update(self, short_s: float) -> None:
        self._long_s = short_s if not self._long_s else self._long_s + (short_s - self._long_s) * 2 / 601
        if self._long_s > 2 * short_s:
            self._long_s *= 0.95
        if self._level >= self.limit / 2:
            gradient = max(0.5, min(1.0, 1.5 * self._long_s / short_s))
            self.limit = min(100.0, max(1.0, 0.8 * self.limit + 0.2 * (self.limit * gradient + 4)))

    def throttle(self, now_s: float, flight: Flight | None = None, retry_after_s: float | None = None) -> None:
        """A sample like any other, or none."""
        if self._drops:
            self.success(now_s, flight)

    def timeout(self, now_s: float, flight: Flight | None = None) -> None:
        """A sample like any other."""
        self.success(now_s, flight)


class PalantirCiad(Fixed):
    """Palantir Dialogue's CautiousIncreaseAggressiveDecreaseConcurrencyLimiter; limits 10/1/100, else not tuned.

    + 1 ÷ limit for a success that started with at least 0.9 of the limit under way, × 0.9 rounded down for each drop.
    A refusal and a timeout are drops (it has them apart: 429 per endpoint, failed connections per host).
    Source: github.com/palantir/dialogue, dialogue-core, at 0597474.
    """

    def __init__(self) -> None:
        super().__init__(10)

    def success(self, now_s: float, flight: Flight | None = None, latency_s: float | None = None) -> None:
        """One of about `limit` such steps that make one more slot."""
        if flight is not None and flight.level >= math.floor(self.limit * 0.9):
            self.limit = min(100.0, self.limit + 1 / self.limit)

    def throttle(self, now_s: float, flight: Flight | None = None, retry_after_s: float | None = None) -> None:
        """A tenth less, each time."""
        self.limit = max(1, math.floor(self.limit * 0.9))

    def timeout(self, now_s: float, flight: Flight | None = None) -> None:
        """As a refusal."""
        self.throttle(now_s, flight)


class AwsAdaptive(Fixed):
    """The retry mode "adaptive" of the AWS SDKs: no limit on calls at once but a token bucket, shut until a refusal.

    Its rate follows CUBIC (β 0.7, C 0.4) and stays between 0.5 a second and twice the measured rate. What is measured
    is answers, in steps of half a second smoothed by 0.8. A timeout counts as an answer: it is no throttle to the SDK.
    Each attempt takes one token; 100 workers bound the calls under way. Not tuned, nothing but the workers is set.
    Source: github.com/boto/botocore, botocore/retries/{adaptive,bucket,throttling}.py, at 40454ea.
    """

    BETA, SCALE = 0.7, 0.4
    STEP_S, SMOOTHING = 0.5, 0.8
    LEAST_PER_S, MOST_TIMES_MEASURED = 0.5, 2.0
    _ROUNDING = 1e-9  # a wait for one token may end a rounding error short of it

    def __init__(self) -> None:
        super().__init__(100)
        self.on = False
        self.measured_per_s = 0.0
        self.rate_per_s, self._most_tokens, self._tokens, self._filled_s = 1.0, 1.0, 0.0, 0.0
        self._peak_per_s = self._plateau_s = self._refused_s = 0.0
        self._answers, self._step_began_s = 0, 0.0

    def open_slots(self, now_s: float) -> int:
        """Whole tokens, or all free workers before the first refusal."""
        workers = super().open_slots(now_s)
        if not self.on:
            return workers
        self._fill(now_s)
        return min(workers, max(0, int(self._tokens + self._ROUNDING)))

    def opens_at_s(self, now_s: float) -> float | None:
        """When the next token is there; None if one is there already or no worker is free."""
        if not self.on or not super().open_slots(now_s) or self.open_slots(now_s):
            return None
        return now_s + (1 - self._tokens) / self.rate_per_s

    def start(self, now_s: float) -> Flight:
        """Take a token."""
        if self.on:
            self._fill(now_s)
            self._tokens -= 1
        return super().start(now_s)

    def success(self, now_s: float, flight: Flight | None = None, latency_s: float | None = None) -> None:
        """The rate is where the cubic is by now."""
        self._measure(now_s)
        self._set_rate(now_s, self.SCALE * (now_s - self._refused_s - self._plateau_s) ** 3 + self._peak_per_s)

    def throttle(self, now_s: float, flight: Flight | None = None, retry_after_s: float | None = None) -> None:
        """The rate falls to 0.7 of what was measured, and the cubic starts anew."""
        self._measure(now_s)
        self._peak_per_s = min(self.measured_per_s, self.rate_per_s) if self.on else self.measured_per_s
        self._plateau_s = math.cbrt(self._peak_per_s * (1 - self.BETA) / self.SCALE)
        self._refused_s, self.on = now_s, True
        self._set_rate(now_s, self._peak_per_s * self.BETA)

    def timeout(self, now_s: float, flight: Flight | None = None) -> None:
        """An answer like any other."""
        self.success(now_s, flight)

    def _measure(self, now_s: float) -> None:
        self._answers += 1
        began_s = math.floor(now_s / self.STEP_S) * self.STEP_S
        if began_s > self._step_began_s:
            per_s = self._answers / (began_s - self._step_began_s)
            self.measured_per_s += self.SMOOTHING * (per_s - self.measured_per_s)
            self._answers, self._step_began_s = 0, began_s

    def _set_rate(self, now_s: float, per_s: float) -> None:
        self._fill(now_s)
        per_s = min(per_s, self.MOST_TIMES_MEASURED * self.measured_per_s)
        self.rate_per_s, self._most_tokens = max(per_s, self.LEAST_PER_S), max(per_s, 1.0)
        self._tokens = min(self._tokens, self._most_tokens)

    def _fill(self, now_s: float) -> None:
        self._tokens = min(self._most_tokens, self._tokens + (now_s - self._filled_s) * self.rate_per_s)
        self._filled_s = now_s
