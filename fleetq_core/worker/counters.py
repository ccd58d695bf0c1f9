"""What a pod has counted since it started; it publishes the figures with each beat."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Each figure has one writer: the loop that sees it happen."""

    claims: int = 0
    empty_claims: int = 0
    claimed: int = 0
    completed: int = 0
    failed: int = 0
    deferred: int = 0
    released: int = 0
    stale_refused: int = 0
    unknown_released: int = 0
    store_errors: int = 0
    exchanges: int = 0  # heartbeats beyond the usual ones, for throttles of the fleet
    last_errors: list[str] = field(default_factory=list)
