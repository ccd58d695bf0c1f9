"""Orders that operators give through the store, and the names under which pods know them."""

from __future__ import annotations

from enum import StrEnum

ALL_PODS = "*"
THE_LEADER = "leader"


class CommandKind(StrEnum):
    """What an operator may order a pod to do."""

    RUN_RECOVERY = "run_recovery"
    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"
    RESET_THROTTLE = "reset_throttle"
