"""The Cost screen: what the fleet asks of its store, and what that is in warehouse time and credits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleetq_core.config import Config
from fleetq_core.cost import DAY_HOURS, HOUR_S, OF_STEPS, FleetCost, fleet_cost, idle_credits_a_day
from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.model import JSON, PodRecord
from fleetq_core.store.tally import Asked

from .pods import alive_pods, hearing_pods
from .words import Fact

NOTE = {
    "submit": "steps given to the queue by pods and dashboards",
    "claim": "pods taking on steps, and looking whether there are any",
    "settle": "outcomes, written in sets",
    "beat": "heartbeats, with commands and plans read along",
    "rest": "looks of resting pods, answered from the result cache",
    "recover": "the leader's recovery cycles",
    "sample": "the leader's samples for the charts",
    "retention": "the leader deleting what is old",
    "operate": "commands, requeues and cancels",
    "dashboard": "reads of screens and of HTTP",
}


@dataclass(frozen=True, slots=True)
class KindLine:
    """One kind of call: counts since the pods' processes started, and the mean time of a call."""

    kind: str
    note: str
    statements: int
    share: float
    calls: int
    rows: int
    retries: int
    errors: int
    mean_ms: float


@dataclass(frozen=True, slots=True)
class PodLine:
    """One pod in the last hour."""

    pod: str
    statements_an_hour: int
    awake_share: float
    credits_a_day: float


@dataclass(frozen=True, slots=True)
class PageLine:
    """What one page of this process's dashboard has asked so far; `share` is of all pages together."""

    page: str
    statements: int
    share: float
    calls: int
    mean_ms: float


OWN = "(this dashboard)"


def cost_of(snap: Snapshot, own: JSON = None) -> FleetCost:
    """The cost of the pods that are up or rest; `own` is what the meter of a dashboard without a pod would publish."""
    mine = [PodRecord(OWN, OWN, "up", 0.0, snap.now_ts, False, {"store": own})] if own else []
    return fleet_cost([*hearing_pods(snap), *mine])


def facts(cost: FleetCost, snap: Snapshot, config: Config) -> list[Fact]:
    """The tiles of a fleet on Snowflake."""
    low, high = cost.credits_a_day(config.warehouse_credits)
    idle = idle_credits_a_day(config, max(1, len(alive_pods(snap))))
    per_thousand = cost.per_thousand
    return [
        Fact("Credits a day", _span(low, high, "{:.1f}"), hint="If every hour were like the last: at least what the "
             "busiest pod keeps the warehouse awake for, at most that of all pods added up. Estimated."),
        Fact("Warehouse awake", _span(100 * cost.awake_at_least, 100 * cost.awake_at_most, "{:.0f}") + " %",
             hint="Of the last hour; estimated from when statements ran and from AUTO_SUSPEND "
             f"({config.warehouse_auto_suspend:g} s). Other users of the warehouse are not seen."),
        Fact("Statements an hour", f"{cost.statements_an_hour:,.0f}", hint="Of all pods, in the last hour."),
        Fact("Statements per 1,000 steps", "no work yet" if per_thousand is None else f"{per_thousand:,.0f}",
             hint=f"Of the kinds {', '.join(OF_STEPS)}, since the pods started. Large sets take few."),
        Fact("Idle, by the settings", f"{idle:.1f} credits a day", hint="What these pods would cost without work. "
             "FLEET_Q_REST_AFTER lets an idle fleet on standard tables sleep."),
    ]  # fmt: skip


def kind_lines(cost: FleetCost) -> list[KindLine]:
    """The kinds, those with most statements (or calls, where statements cost nothing) first."""
    total = sum(kind.statements for kind in cost.kinds)
    lines = [
        KindLine(
            kind=kind.kind,
            note=NOTE.get(kind.kind, ""),
            statements=kind.statements,
            share=kind.statements / total if total else 0.0,
            calls=kind.calls,
            rows=kind.rows,
            retries=kind.retries,
            errors=kind.errors,
            mean_ms=1000 * kind.seconds / kind.calls if kind.calls else 0.0,
        )
        for kind in cost.kinds
    ]
    return sorted(lines, key=lambda line: (-line.statements, -line.calls, line.kind))


def pod_lines(cost: FleetCost, config: Config) -> list[PodLine]:
    """The pods, the busiest first."""
    day = 24 * config.warehouse_credits
    return [PodLine(p.pod_id, round(p.statements_an_hour), p.awake_share, p.awake_share * day) for p in cost.pods]


def page_lines(pages: Mapping[str, Asked]) -> list[PageLine]:
    """The pages that somebody has opened, those that asked most first."""
    statements, calls = (sum(getattr(asked, name) for asked in pages.values()) for name in ("statements", "calls"))
    lines = [
        PageLine(
            page=page,
            statements=asked.statements,
            share=asked.statements / statements if statements else asked.calls / max(1, calls),
            calls=asked.calls,
            mean_ms=1000 * asked.seconds / asked.calls if asked.calls else 0.0,
        )
        for page, asked in pages.items()
    ]
    return sorted(lines, key=lambda line: (-line.statements, -line.calls, line.page))


def screen_facts(hour: tuple[float, int, float], config: Config) -> list[Fact]:
    """What this dashboard costs: `hour` is (seconds looked at, statements, warehouse seconds) of its screens."""
    seconds, statements, awake_s = hour
    share = min(1.0, awake_s / max(1.0, seconds))
    return [
        Fact("Statements an hour", f"{statements * HOUR_S / max(1.0, seconds):,.0f}",
             hint="For the screens of this process, in the last hour. All viewers share what is read."),
        Fact("Warehouse awake", f"{100 * share:.0f} %", hint="For these screens, as if nobody else used it."),
        Fact("Credits a day", f"{share * DAY_HOURS * config.warehouse_credits:.1f}",
             hint="If every hour were like the last, and for these screens alone: where a fleet keeps the warehouse "
             "awake anyway they add little."),
    ]  # fmt: skip


def _span(low: float, high: float, form: str) -> str:
    first, last = form.format(low), form.format(high)
    return first if first == last else f"{first} – {last}"
