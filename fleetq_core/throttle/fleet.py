"""What pods and their leader tell each other about one throttle: a report up, a plan down, both plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

EXCHANGE_S = 2.0  # how often a pod that uses a throttle of the fleet reports and hears
LEASE_S = 12.0  # how long a share is good without fresh word: several lost exchanges, far less than a pod's death

# Making one takes half a millisecond, and a leader reads a report of every pod with each exchange.
_reader: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


class _Message:
    """What crosses between pods of perhaps different versions."""

    __slots__ = ()

    @classmethod
    def from_json(cls, value: object) -> Self | None:
        """It, read back; None for anything that is none."""
        try:
            found: Self = _reader(cls).validate_python(value)
        except ValidationError:
            return None
        return found


@dataclass(frozen=True, slots=True)
class Report(_Message):
    """What a pod tells of its use of a throttle of the fleet.

    `number` counts the pod's reports. `seq` and `epoch` are of the plan that it goes by, `age_s` how long it has,
    `limit` what is left of its share after refusals, `wanted` how many calls it would make at once if it might,
    `full` whether it has reached its share in this epoch, `slow` whether latency is over the threshold. `refused`
    counts the slots that it has given up, `ok` and `timed_out` the calls that ended so, since its process started.
    """

    number: int
    seq: int
    epoch: int
    age_s: float
    limit: int
    in_flight: int
    wanted: int
    full: bool
    slow: bool
    rtt_s: float
    ok: int
    refused: int
    timed_out: int

    def to_json(self) -> dict[str, Any]:
        """As it goes into the heartbeat."""
        return asdict(self) | {"age_s": round(self.age_s, 3), "rtt_s": round(self.rtt_s, 4)}


@dataclass(frozen=True, slots=True)
class Plan(_Message):
    """What the leader publishes for a throttle: the limit of the fleet and of it a share for each pod.

    `seq` rises with every publication, `epoch` with every change of the limit. `seen` says up to which report of its
    own each pod has been heard. A pod that is not in `shares` has none. `limit` None: one pod uses it, by its own rule.
    A share is good for `lease_s` after it was heard of.
    """

    seq: int
    epoch: int
    limit: int | None
    shares: Mapping[str, int]
    seen: Mapping[str, int]
    reason: str = ""
    lease_s: float = LEASE_S

    def to_json(self) -> dict[str, Any]:
        """As it goes into the leader's heartbeat."""
        return asdict(self)
