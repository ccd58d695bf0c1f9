"""Figures of a throttle as pods publish them, which may be anything in a fleet of several versions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any


def grown(totals: Sequence[int | None]) -> int:
    """By how much a total has grown; one that falls has started again from 0."""
    known = [total for total in totals if total is not None]
    return sum(after - before if after >= before else after for before, after in pairwise(known))


def figure(figures: Any, name: str) -> float | None:
    """A number that a pod has published; None for whatever else another version may say there."""
    value = figures.get(name) if isinstance(figures, dict) else None
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known and 0 <= value <= 1e12 else None  # type: ignore[operator,arg-type]


def count(figures: Any, name: str) -> int | None:
    value = figure(figures, name)
    return None if value is None else int(value)
