"""What a rule says about itself: every change of the limit, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a limit moved, or why it did not when it was due."""

    INCREASE = "increase"
    SLOW_START = "slow start"
    PROBE = "probe"
    PROBE_UNDONE = "probe undone"
    THROTTLE = "throttle"
    TIMEOUT = "timeout"
    LATENCY_HOLD = "latency hold"
    RESET = "reset"
    FLEET_SHARE = "fleet share"
    OWN_RULE = "own rule"


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the log: at `at_s` (the clock of the caller, seconds) the limit went `before` → `after`."""

    at_s: float
    before: int
    after: int
    reason: Reason
