"""How long the store takes for each kind of call: a thin wrapper that times every call of one process.

It knows nothing of Prometheus, so a pod may carry it without serving metrics.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

from .protocol import Store

# From a commit of the embedded store to a warehouse that has to wake up.
BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

KINDS: Mapping[str, tuple[str, ...]] = {
    "submit": ("insert_steps", "payloads_of"),
    "claim": ("claim_steps",),
    "settle": ("settle_steps", "release_steps"),
    "beat": ("register_pod", "beat", "throttle_reports", "mark_down", "release_unknown", "held_claims"),
    "recover": ("recover", "save_recovery_run"),
    "sample": ("take_sample",),
    "retention": ("purge",),
    "operate": ("requeue_steps", "cancel_steps", "insert_command", "answer_command"),
    "dashboard": (
        "get_steps", "find_steps", "stats", "list_pods", "list_commands", "list_recovery_runs", "list_decisions",
        "list_samples", "list_throttle_samples", "list_throttle_changes",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Histogram:
    """Calls of one kind so far. `cumulative[i]` took at most `BOUNDS_S[i]` seconds; its last entry is all of them."""

    cumulative: tuple[int, ...]
    sum_s: float
    errors: int


class _Series:
    __slots__ = ("_counts", "_errors", "_lock", "_sum_s")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s, self._errors = 0.0, 0

    def add(self, seconds: float, failed: bool) -> None:
        place = bisect_left(BOUNDS_S, seconds)
        with self._lock:
            self._counts[place] += 1
            self._sum_s += seconds
            self._errors += failed

    def read(self) -> Histogram:
        with self._lock:
            return Histogram(tuple(accumulate(self._counts)), self._sum_s, self._errors)


class StoreMeter:
    """The figures of all store connections that report to it."""

    def __init__(self) -> None:
        self._series = {kind: _Series() for kind in KINDS}

    def of(self, kind: str) -> _Series:
        """Where calls of `kind` are counted."""
        return self._series[kind]

    def read(self) -> dict[str, Histogram]:
        """What was counted so far, by kind."""
        return {kind: series.read() for kind, series in self._series.items()}


class _Metered:
    """The store behind it, with a timed function in place of each method of KINDS."""

    def __init__(self, inner: Store, meter: StoreMeter) -> None:
        self._inner, self._meter = inner, meter
        for kind, names in KINDS.items():
            for name in names:
                setattr(self, name, _timed(getattr(inner, name), meter.of(kind)))

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # a copy that is still being made
            raise AttributeError(name)
        return getattr(self._inner, name)

    def reopen(self) -> Store:
        return metered(self._inner.reopen(), self._meter)


def metered(store: Store, meter: StoreMeter) -> Store:
    """`store`, timed by `meter`, and so is every connection that it reopens."""
    return cast(Store, _Metered(store, meter))


def _timed(method: Callable[..., Any], series: _Series) -> Callable[..., Any]:
    clock, add = time.perf_counter, series.add

    def call(*args: Any, **kwargs: Any) -> Any:
        started = clock()
        try:
            answer = method(*args, **kwargs)
        except BaseException:
            add(clock() - started, True)
            raise
        add(clock() - started, False)
        return answer

    return call
