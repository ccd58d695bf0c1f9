"""A thin wrapper that counts and times every call to a store, by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from .protocol import Store
from .tally import StoreMeter, timed

KINDS: Mapping[str, tuple[str, ...]] = {
    "submit": ("insert_steps", "payloads_of"),
    "claim": ("claim_steps",),
    "settle": ("settle_steps", "release_steps"),
    "beat": ("register_pod", "beat", "throttle_reports", "mark_down", "release_unknown", "held_claims"),
    "rest": ("idle_look",),
    "recover": ("recover", "save_recovery_run"),
    "sample": ("take_sample",),
    "retention": ("purge",),
    "operate": ("requeue_steps", "cancel_steps", "insert_command", "answer_command"),
    "dashboard": (
        "get_steps", "find_steps", "find_ids", "created_behind", "held_by_pod", "stats", "list_pods", "list_commands",
        "list_recovery_runs", "find_decisions", "list_samples", "work_history", "list_pod_samples",
        "list_throttle_samples", "list_throttle_changes",
    ),
}  # fmt: skip


class _Metered:
    """The store behind it, with a counted function in place of each method of KINDS."""

    def __init__(self, inner: Store, meter: StoreMeter) -> None:
        self._inner, self.meter = inner, meter
        for kind, names in KINDS.items():
            for name in names:
                setattr(self, name, timed(getattr(inner, name), meter.of(kind)))

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # a copy that is still being made
            raise AttributeError(name)
        return getattr(self._inner, name)

    def reopen(self, role: str = "") -> Store:
        return metered(self._inner.reopen(role), self.meter)


def metered(store: Store, meter: StoreMeter | None = None) -> Store:
    """`store`, counted by `meter` (default: one of its own), and so is every connection that it reopens."""
    return cast(Store, _Metered(store, meter or StoreMeter(KINDS)))


def meter_of(store: Store) -> StoreMeter | None:
    """The meter that counts for `store`, if one does."""
    return store.meter if isinstance(store, _Metered) else None
