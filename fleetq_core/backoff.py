"""How long to wait before trying again."""

from __future__ import annotations

import random


def full_jitter(attempt: int, base_s: float, max_s: float) -> float:
    """Seconds to wait before retry number `attempt` (from 0): uniform in 0 … min(max_s, base_s · 2^attempt).

    Spreads callers that failed together evenly over the whole window ("full jitter", M. Brooker,
    AWS Architecture Blog, 2015).
    """
    return random.uniform(0.0, min(max_s, base_s * 2.0 ** min(attempt, 64)))
