"""What a heartbeat on Snowflake brings back: the pod's own state, the leader, orders, and the claims it holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleetq_core.model import Beat, BeatState, Identity

from . import rows


@dataclass(frozen=True, slots=True)
class Held:
    """The tokens that an incarnation held claims under at its last beat, each with the time of its oldest claim."""

    incarnation: str = ""
    now_ts: float = 0.0
    oldest_by_token: Mapping[str, float] = field(default_factory=dict)

    def may_be_unknown(self, who: Identity, known_tokens: Collection[str], before_ts: float) -> bool:
        """Whether there may be claims from before `before_ts` under other tokens: True where the beat cannot tell."""
        if self.incarnation != who.incarnation or before_ts > self.now_ts:
            return True
        return any(token not in known_tokens and at < before_ts for token, at in self.oldest_by_token.items())


def told(who: Identity, state: BeatState, own: Sequence[Any], view: Sequence[Sequence[Any]]) -> Beat:
    """What the rows of `fleet_view` tell the pod whose row is `own`."""
    by_kind: dict[str, list[Sequence[Any]]] = defaultdict(list)
    for row in view:
        by_kind[row[0]].append(row)
    leader = by_kind["leader"][0] if by_kind["leader"] else None
    leads = leader is not None and leader[1] == who.incarnation
    # A pod obeys what was ordered in its own lifetime; an order to the leader goes to whoever leads.
    orders = [row for row in by_kind["order"] if (leads if row[3] == "leader" else row[6] >= own[6])]
    plans = rows.mapping(leader[3]).get("throttle_plans") if leader else None
    return Beat(
        now_ts=own[7],
        state=state,
        leader=leader[1] if leader else None,
        leader_pod_id=leader[2] if leader else None,
        paused=any(row[2] == "pause" for row in by_kind["state"]),
        commands=tuple(rows.command(row[1:7]) for row in sorted(orders, key=lambda row: (row[6], row[1]))),
        throttle_plans=plans if isinstance(plans, dict) else {},
        throttles_reported=leads and bool(by_kind["report"]),
    )
