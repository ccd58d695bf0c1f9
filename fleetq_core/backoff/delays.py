"""How long to wait before trying again: pure arithmetic, safe for any number of attempts.

A strategy takes the number of the retry, from 0, and the BackoffConfig, and gives seconds. The window is bounded by
max_delay_ms before anything is drawn from it: to bound the drawn value instead would put many callers on the bound.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import BackoffConfig

_MOST_DOUBLINGS = 64  # 2^1024 does not fit a float


def full_jitter(attempt: int, base_s: float, max_s: float) -> float:
    """Seconds to wait before retry number `attempt` (from 0): uniform in 0 … min(max_s, base_s · 2^attempt).

    Spreads callers that failed together evenly over the whole window ("full jitter", M. Brooker,
    AWS Architecture Blog, 2015).
    """
    return random.uniform(0.0, min(max_s, base_s * 2.0 ** min(attempt, _MOST_DOUBLINGS)))


def calculate_delay(attempt: int, config: BackoffConfig) -> float:
    """Exponential, the default: a window of min(max_delay_ms, base_delay_ms · 2^attempt), jittered; in seconds."""
    return _spread(config.base_delay_ms * 2.0 ** min(attempt, _MOST_DOUBLINGS), config)


def calculate_delay_linear(attempt: int, config: BackoffConfig) -> float:
    """Linear: a window of min(max_delay_ms, base_delay_ms · (attempt + 1)), jittered; in seconds."""
    return _spread(config.base_delay_ms * (attempt + 1.0), config)


def calculate_delay_fibonacci(attempt: int, config: BackoffConfig) -> float:
    """Fibonacci: base_delay_ms · 0, 1, 1, 2, 3, 5 …, bounded and jittered; in seconds. The first retry is at once."""
    here, following = 0, 1
    for _ in range(attempt):
        if here * config.base_delay_ms >= config.max_delay_ms:
            break
        here, following = following, here + following
        if not config.base_delay_ms:
            break
    return _spread(config.base_delay_ms * here, config)


def decorrelated(previous_s: float | None, config: BackoffConfig) -> float:
    """Seconds: uniform in base … 3 · the previous delay, bounded ("decorrelated jitter", Brooker 2015)."""
    base, most = config.base_delay_ms / 1000, config.max_delay_ms / 1000
    return random.uniform(base, max(base, min(most, 3 * (base if previous_s is None else previous_s))))


def after_request(asked_s: float, config: BackoffConfig) -> float:
    """Seconds to wait where the server asked for `asked_s` (Retry-After), never more than max_delay_ms.

    Up to a quarter is added at random, since callers that obey one answer exactly come back together and are refused
    together. Where the bound cuts the request, the last quarter under the bound is drawn from for the same reason.
    """
    most = config.max_delay_ms / 1000
    if not config.jitter:
        return min(asked_s, most)
    if asked_s > most:
        return random.uniform(0.75 * most, most)
    return random.uniform(asked_s, min(1.25 * asked_s, most))


def _spread(window_ms: float, config: BackoffConfig) -> float:
    window_s = min(window_ms, config.max_delay_ms) / 1000
    if not config.jitter:
        return window_s
    # "equal": half for sure, half at random (Brooker 2015); for callers that must not come back at once.
    return random.uniform(window_s / 2 if config.jitter == "equal" else 0.0, window_s)
