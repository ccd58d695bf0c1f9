"""Which claims this process knows of, for comparison with what the store says it holds."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class ClaimLedger:
    """Claim tokens with the steps under each that are not settled yet. A token is here *before* its claim is sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, set[str] | None] = {}

    def asking(self, token: str) -> None:
        """A claim under `token` is about to be sent."""
        with self._lock:
            self._open[token] = None

    def granted(self, token: str, step_ids: Iterable[str]) -> None:
        """The claim was answered with these steps."""
        with self._lock:
            ids = set(step_ids)
            if ids:
                self._open[token] = ids
            else:
                self._open.pop(token, None)

    def forget(self, claims: Iterable[tuple[str, str]]) -> None:
        """These (step_id, token) claims are settled, released or refused."""
        with self._lock:
            for step_id, token in claims:
                ids = self._open.get(token)
                if ids is not None:
                    ids.discard(step_id)
                    if not ids:
                        del self._open[token]

    def tokens(self) -> set[str]:
        """Every token that may still own steps."""
        with self._lock:
            return set(self._open)
