"""The settings of one throttle: names and defaults of the specification, and nonsense refused by name."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from fleetq_core.errors import ConfigError


class ThrottleConfigError(ConfigError, ValueError):
    """One or more settings of a throttle are nonsense. `problems` holds one line for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleConfig:
    """How one throttle learns. Limits are numbers of calls at once, factors lie between 0 and 1.

    `multiplicative_decrease=0.7` suits APIs with a rate limit and calls longer than its burst: a halving there costs
    several calls' time. With `scope="fleet"` the limits are those of all pods together, and the leader shares them out;
    otherwise each pod learns alone. Raises ThrottleConfigError, which is a ConfigError and a ValueError.
    """

    initial_limit: int = 10
    min_limit: int = 1
    max_limit: int = 100
    additive_increase: int = 1
    multiplicative_decrease: float = 0.5
    success_threshold: int = 10
    enable_latency_tracking: bool = True
    latency_window_size: int = 100
    latency_increase_threshold: float = 1.5
    timeout_decrease: float = 0.7
    ceiling_memory: bool = True
    slow_start: bool = True
    event_log_size: int = 200
    scope: str = "pod"

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ThrottleConfigError(problems)

    def _problems(self) -> list[str]:
        found = [
            f"{field.name}: {value!r} is not {wanted}"
            for field in fields(self)
            if (wanted := _fault(field.name, value := getattr(self, field.name)))
        ]
        if found:
            return found
        if self.min_limit > self.max_limit:
            return [f"min_limit: {self.min_limit} is above max_limit {self.max_limit}"]
        if not self.min_limit <= self.initial_limit <= self.max_limit:
            return [f"initial_limit: {self.initial_limit} is not between {self.min_limit} and {self.max_limit}"]
        return []


SCOPES = ("pod", "fleet")
_SWITCHES = frozenset({"enable_latency_tracking", "ceiling_memory", "slow_start"})
_FACTORS = frozenset({"multiplicative_decrease", "timeout_decrease"})


def _fault(name: str, value: object) -> str:
    """What a setting should have been, or nothing if it is that."""
    if name in _SWITCHES:
        return "" if isinstance(value, bool) else "True or False"
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if name == "scope":
        return "" if value in SCOPES else " or ".join(repr(scope) for scope in SCOPES)
    if name in _FACTORS:
        return "" if number and 0 < value < 1 else "a factor between 0 and 1"  # type: ignore[operator]
    if name == "latency_increase_threshold":
        return "" if number and value > 1 else "a number above 1"  # type: ignore[operator]
    return "" if number and isinstance(value, int) and value >= 1 else "a whole number of at least 1"
