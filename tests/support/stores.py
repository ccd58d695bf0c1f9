"""Stores that misbehave on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleetq_core.errors import StoreUnavailable
from fleetq_core.store.sqlite import SqliteStore

WRITES = {
    "insert_steps", "claim_steps", "settle_steps", "release_steps", "release_unknown", "requeue_steps", "cancel_steps",
    "register_pod", "beat", "mark_down", "insert_command", "answer_command", "recover", "save_recovery_run",
    "take_sample", "purge",
}  # fmt: skip


class LossyStore:
    """Commits, then loses the reply of every first try of a write and lets the repeat through: a blind retry's view."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in WRITES:
            return method

        def twice(*args: Any, **kwargs: Any) -> Any:
            method(*args, **kwargs)  # committed, but nobody hears of it
            return method(*args, **kwargs)

        return twice


def forget_pod(store: Any, pod_id: str) -> None:
    """Delete a pod's row behind the store's back."""
    raw = getattr(store, "_inner", store)
    statement = f"DELETE FROM pod_health WHERE pod_id = '{pod_id}'"
    if isinstance(raw, SqliteStore):
        with raw._db.write() as db:
            db.execute(statement)
    else:
        from tests.support import emulator

        emulator.run(raw, statement)


class FaultyStore:
    """Passes calls on until `fail(name)` says otherwise. Failing `before` loses the request, `after` loses the reply."""

    def __init__(self, inner: Any, before: Callable[[str], bool], after: Callable[[str], bool]) -> None:
        self._inner, self._before, self._after = inner, before, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not callable(method) or name in ("reopen", "close", "create_schema", "change_signal"):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._before(name):
                raise StoreUnavailable(f"the store is away (before {name})")
            answer = method(*args, **kwargs)
            if self._after(name):
                raise StoreUnavailable(f"the reply of {name} was lost")
            return answer

        return call

    def reopen(self, role: str = "") -> FaultyStore:
        return FaultyStore(self._inner.reopen(role), self._before, self._after)

    def change_signal(self) -> Any:
        return self._inner.change_signal()
