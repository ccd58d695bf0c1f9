"""A store that only answers questions: what a viewer gets, so that nothing it shows can change anything."""

from __future__ import annotations

from typing import Any, cast

from fleetq_core.errors import NotAllowed
from fleetq_core.roles import REFUSAL

from .metered import KINDS
from .protocol import Store

READS = frozenset({*KINDS["dashboard"], *KINDS["rest"], "now", "change_signal", "close"})


class _LookOnly:
    """The store behind it, as far as READS goes. What is not listed there is refused: a new write is, by itself."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name) if name in READS else _refuse

    def reopen(self, role: str = "") -> Store:
        return look_only(self._inner.reopen(role))


def _refuse(*_: object, **__: object) -> Any:
    raise NotAllowed(REFUSAL)


def look_only(store: Store) -> Store:
    """`store` without its writes: each raises NotAllowed, and so does that of every connection it reopens."""
    return cast(Store, _LookOnly(store))
