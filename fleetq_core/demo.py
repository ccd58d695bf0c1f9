"""A mixed load to see a fleet at work: short and long steps, a downstream that refuses, failures that are retried."""

from __future__ import annotations

import random
from collections.abc import Iterator

from .model import JSON, NewStep

STEPS = 200
_SHARES = {"echo": 40, "sleep": 80, "simulated_api": 72, "fails": 8}


def demo_steps(count: int = STEPS, seed: int | None = None) -> Iterator[NewStep]:
    """`count` steps in a random order; the same seed makes the same ones. They are over within minutes on one pod."""
    dice = random.Random(seed)
    kinds = dice.choices(list(_SHARES), list(_SHARES.values()), k=count)
    for number, kind in enumerate(kinds, start=1):
        priority = dice.choice((0, 0, 0, 5, 10))
        if kind == "fails":
            # The bad value is found by the handler, so the step fails, is retried once and ends as a dead letter.
            yield NewStep({"task_type": "sleep", "seconds": "soon"}, priority, max_retries=1)
        else:
            yield NewStep({"task_type": kind, **_payload(kind, number, dice)}, priority)


def _payload(kind: str, number: int, dice: random.Random) -> dict[str, JSON]:
    if kind == "sleep":
        return {"seconds": round(dice.uniform(0.2, 3.0), 1)}
    if kind == "simulated_api":
        return {"mean_s": round(dice.uniform(0.1, 0.5), 2)}
    return {"message": f"hello {number}"}
