"""The columns of each table, the ones an operator needs first on the left: narrow screens cut off the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import streamlit as st

from fleetq_core.model import Status

from .colours import GREY, WORD_COLOURS
from .views import audit, fates, leaders, pods, recovery
from .views import throttles as views


def _words(label: str, options: Sequence[str], width: Literal["small"] | int = "small") -> Any:
    """A column of words, each in its colour."""
    return st.column_config.MultiselectColumn(
        label, options=list(options), color=[WORD_COLOURS.get(word, GREY) for word in options], width=width
    )


def reigns(colours: Mapping[str, str]) -> dict[str, Any]:
    """The columns of who led when, each pod in the colour that it has in the chart."""
    names = st.column_config.MultiselectColumn(
        "Leader", options=[*colours, leaders.NOBODY, leaders.UNKNOWN], color=[*colours.values(), GREY, GREY], width=150
    )
    return {"pod": names, **_REIGNS}


_ERROR = st.column_config.TextColumn("Error", width="large")
_RAN = st.column_config.NumberColumn("Ran (s)", format="%.3f", width="small")

STEPS: dict[str, Any] = {
    "status": _words("Status", list(Status), 100),
    "step_id": st.column_config.TextColumn("Step id", width=275),
    "task": "Task type",
    "pod": "Claimed by",
    "waited": st.column_config.TextColumn("Waited", width="small"),
    "run_s": _RAN,
    "retries": st.column_config.NumberColumn("Retries", width="small"),
    "priority": st.column_config.NumberColumn("Priority", width="small"),
    "error": _ERROR,
    "payload": st.column_config.TextColumn("Payload", width="large"),
    "created": "Created (UTC)",
}
DEAD_LETTERS = {name: STEPS[name] for name in ("step_id", "task", "error", "retries", "pod", "created", "payload")}
ATTEMPTS: dict[str, Any] = {
    "number": st.column_config.NumberColumn("Attempt", width="small"),
    "outcome": "Outcome",
    "pod": "Pod",
    "error": _ERROR,
    "run_s": _RAN,
    "claimed": "Claimed (UTC)",
    "ended": "Ended (UTC)",
    "recovery_run": "Recovery run",
}
PODS: dict[str, Any] = {
    "pod": st.column_config.TextColumn("Pod", pinned=True, width=120),
    "life": _words("Life", [*pods.LIVES, pods.LEADER], 130),
    "heartbeat_age_s": st.column_config.NumberColumn("Heartbeat age (s)", format="%.1f", width=125),
    "look": _words("Look at", pods.LOOKS, 110),
    "state": st.column_config.TextColumn("State", width=110),
    "load": st.column_config.ProgressColumn("Load", format="percent", min_value=0, max_value=1, width=110),
    "running": st.column_config.NumberColumn("Running", width=75),
    "capacity": st.column_config.NumberColumn("Capacity", help="Steps that it may run at once.", width=75),
    "clock_offset_s": st.column_config.NumberColumn(
        "Clock offset (s)", format="%+.3f", width=110, help="The pod's clock minus the database's, at the last beat.",
    ),
    "stuck": st.column_config.NumberColumn(
        "Stuck", help="Handlers past their time limit that did not return.", width=65
    ),
    "outbox": st.column_config.NumberColumn("Outbox", help="Outcomes that wait for the store.", width=70),
    "stale_refused": st.column_config.NumberColumn(
        "Refused", help="Results that came after the claim was lost.", width=75
    ),
    "buffered": st.column_config.NumberColumn("Buffered", help="Claimed, waiting for a free slot.", width=80),
    "completed": st.column_config.NumberColumn("Completed", format="localized", width=90),
    "failed": st.column_config.NumberColumn("Failed", format="localized", width=70),
    "last_error": st.column_config.TextColumn("Last error", width="large"),
    "version": st.column_config.TextColumn("Version", width=80),
    "birth": "Birth (UTC)",
    "incarnation": "Incarnation",
}  # fmt: skip
ORDERS: dict[str, Any] = {
    "state": _words("State", audit.STATES, 85),
    "order": st.column_config.TextColumn("Order", width=170),
    "to": st.column_config.TextColumn("To", width=105),
    "by": st.column_config.TextColumn("By", width=130),
    "issued": st.column_config.TextColumn("Issued (UTC)", width=150),
    "answers": st.column_config.TextColumn("Answers", width="large"),
    "command_id": "Command id",
}
ANSWERS: dict[str, Any] = {
    "state": _words("State", ["done", "refused"], 90),
    "pod": st.column_config.TextColumn("Pod", width=150),
    "result": st.column_config.TextColumn("Result", width=330),
    "after": st.column_config.TextColumn("After", help="From the order to the answer.", width="small"),
    "answered": st.column_config.TextColumn("Answered (UTC)", width=150),
}
SETTINGS: dict[str, Any] = {
    "variable": st.column_config.TextColumn("Variable", width=230),
    "value": st.column_config.TextColumn("Value", width=175),
    "source": _words("From", ["set", "default"], 80),
    "meaning": st.column_config.TextColumn("Meaning", width="large"),
}
VERSIONS: dict[str, Any] = {
    "version": "Version",
    "same": "Compared",
    "pods": st.column_config.NumberColumn("Pods", width="small"),
    "names": st.column_config.TextColumn("Which", width="large"),
}
BAD_LINES: dict[str, Any] = {
    "line": st.column_config.NumberColumn("Line", width="small"),
    "problem": st.column_config.TextColumn("Problem", width="large"),
}
_REIGNS: dict[str, Any] = {
    "start": st.column_config.TextColumn("From (UTC)", width=130),
    "end": st.column_config.TextColumn("Until (UTC)", width=130),
    "lasted": st.column_config.TextColumn("Lasted", width=140),
    "note": st.column_config.TextColumn("Note", width="large"),
}
RUNS: dict[str, Any] = {
    "started": st.column_config.TextColumn("Started (UTC)", width=150),
    "did": _words("Did", [*recovery.EFFECTS, recovery.UNDER_WAY], 125),
    "resubmitted": st.column_config.NumberColumn("Resubmitted", format="localized", width=95),
    "terminal": st.column_config.NumberColumn("Failed for good", format="localized", width=115),
    "dead_pods": st.column_config.TextColumn("Dead pods", width="medium"),
    "orphans": st.column_config.NumberColumn("Orphans", format="localized", width=75),
    "retried": st.column_config.NumberColumn("Retries due", format="localized", width=95),
    "leader": "Leader",
    "trigger": st.column_config.TextColumn("Trigger", width=80),
    "duration_s": st.column_config.NumberColumn("Took (s)", format="%.3f", width=80),
    "statements": st.column_config.NumberColumn("Statements", width=95),
    "run_id": "Run id",
}
VERDICTS: dict[str, Any] = {
    "pod": st.column_config.TextColumn("Pod", width=150),
    "silent": st.column_config.TextColumn("Silent for", width=100),
    "limit": st.column_config.TextColumn("May be silent for", help="By today's setting.", width=120),
    "held": st.column_config.NumberColumn("Held", help="Steps it had claimed when this run took them back.", width=70),
    "incarnation": "Incarnation",
}
DECISIONS: dict[str, Any] = {
    "step_id": st.column_config.TextColumn("Step id", width=275),
    "action": _words("Action", ["requeued", "terminal"], 100),
    "cause": st.column_config.TextColumn("Because", width=130),
    "owner": st.column_config.TextColumn("Pod", width=130),
    "retries": st.column_config.NumberColumn("Retries", width=70),
    "reason": st.column_config.TextColumn("Reason", width="large"),
}
TOUCHES: dict[str, Any] = {
    "started": st.column_config.TextColumn("Run (UTC)", width=150),
    "action": DECISIONS["action"],
    "pod": st.column_config.TextColumn("Taken from pod", width=130),
    "leader": st.column_config.TextColumn("By leader", width=130),
    "reason": DECISIONS["reason"],
    "run_id": "Run id",
}
GROUPS: dict[str, Any] = {
    "steps": st.column_config.NumberColumn("Steps", format="localized", width=80),
    "action": DECISIONS["action"],
    "cause": DECISIONS["cause"],
    "owner": DECISIONS["owner"],
}
REFUSED: dict[str, Any] = {
    "pod": st.column_config.TextColumn("Pod", width="medium"),
    "refused": st.column_config.NumberColumn("Late results refused", format="localized", width=150),
    "since": st.column_config.TextColumn("Since (UTC)", help="The start of that process.", width=150),
}
FATES: dict[str, Any] = {
    "step_id": DECISIONS["step_id"],
    "now": _words("Now", fates.STATES, 115),
    "with_pod": st.column_config.TextColumn("With pod", width=130),
    "action": DECISIONS["action"],
    "taken": st.column_config.TextColumn("Taken back (UTC)", width=150),
    "reason": DECISIONS["reason"],
    "run_id": "Run id",
}
_SHARE = st.column_config.NumberColumn("Refused, 5 min", format="percent", help="Of the calls of the last 5 minutes.")
_P95 = st.column_config.NumberColumn("p95 (s)", format="%.3f", help="Latency: 95 % of the answers were faster.")
_USUAL = st.column_config.NumberColumn("Usual p95 (s)", format="%.3f")
_LAST_MOVE = st.column_config.TextColumn("Last move of the limit", width="large")
THROTTLES: dict[str, Any] = {
    "throttle": st.column_config.TextColumn("Throttle", width="medium"),
    "state": _words("State", views.STATES, 125),
    "limit": st.column_config.NumberColumn("Limit", help="Calls at once, of all pods together.", width=70),
    "in_flight": st.column_config.NumberColumn("In flight", width=80),
    "waiting": st.column_config.NumberColumn("Waiting", help="Callers without a slot.", width=80),
    "refused_share": _SHARE,
    "p95_s": _P95,
    "usual_s": _USUAL,
    "why": st.column_config.TextColumn("Why", width="large"),
    "highest": st.column_config.NumberColumn("Highest, 5 min", width="small"),
    "scope": st.column_config.TextColumn("Learnt by", help="Each pod for itself, or one limit of the whole fleet."),
    "on": st.column_config.NumberColumn("Pods", width="small"),
    "last_move": _LAST_MOVE,
}
THROTTLE_PODS: dict[str, Any] = {
    "pod": st.column_config.TextColumn("Pod", width="medium"),
    "state": THROTTLES["state"],
    "limit": st.column_config.NumberColumn("Limit", help="Calls at once on this pod.", width=70),
    "in_flight": THROTTLES["in_flight"],
    "waiting": THROTTLES["waiting"],
    "refused_share": _SHARE,
    "calls": st.column_config.NumberColumn("Calls, 5 min"),
    "timeouts": st.column_config.NumberColumn("Timeouts, 5 min"),
    "p95_s": _P95,
    "usual_s": _USUAL,
    "why": THROTTLES["why"],
    "last_move": _LAST_MOVE,
}
THROTTLE_CHANGES: dict[str, Any] = {
    "at": "Time (UTC)",
    "move": _words("Move", ["raised", "lowered", "held", "reset", "steady"]),
    "limit": st.column_config.TextColumn("Limit", width="small"),
    "why": st.column_config.TextColumn("Why", width="large"),
    "pod": st.column_config.TextColumn("Pod", width="medium"),
}
COST_KINDS: dict[str, Any] = {
    "kind": st.column_config.TextColumn("Kind", width="small"),
    "statements": st.column_config.NumberColumn("Statements", format="localized"),
    "share": st.column_config.ProgressColumn("Share", format="percent", min_value=0, max_value=1, width="small"),
    "calls": st.column_config.NumberColumn("Calls", format="localized", help="Of the store; one may take statements."),
    "rows": st.column_config.NumberColumn("Rows", format="localized", help="Written or read."),
    "retries": st.column_config.NumberColumn("Retries", help="Statements tried again, mostly on a full lock queue."),
    "errors": st.column_config.NumberColumn("Errors", help="Calls that failed."),
    "mean_ms": st.column_config.NumberColumn("Mean call (ms)", format="%.1f"),
    "note": st.column_config.TextColumn("What for", width="large"),
}
COST_CALLS = {name: COST_KINDS[name] for name in ("kind", "calls", "errors", "mean_ms", "note")}
COST_PAGES = {"page": st.column_config.TextColumn("Page", width="small")} | {
    name: COST_KINDS[name] for name in ("statements", "share", "calls", "mean_ms")
}
COST_PAGE_CALLS = {name: COST_PAGES[name] for name in ("page", "share", "calls", "mean_ms")}
COST_PODS: dict[str, Any] = {
    "pod": st.column_config.TextColumn("Pod", width="medium"),
    "statements_an_hour": st.column_config.NumberColumn("Statements an hour", format="localized"),
    "awake_share": st.column_config.ProgressColumn(
        "Warehouse awake", format="percent", min_value=0, max_value=1, help="As if this pod used it alone.",
    ),
    "credits_a_day": st.column_config.NumberColumn("Credits a day", format="%.1f", help="As if it used it alone."),
}  # fmt: skip
LOADS: dict[str, Any] = {
    "pod": "Pod",
    "load": st.column_config.ProgressColumn("Slots busy", format="percent", min_value=0, max_value=1),
    "running": st.column_config.NumberColumn("Running (steps)", width="small"),
    "capacity": st.column_config.NumberColumn("Capacity (steps)", width="small"),
    "buffered": st.column_config.NumberColumn("Buffered (steps)", help="Claimed, waiting for a slot.", width="small"),
    "state": st.column_config.TextColumn("State", width="small"),
}
RUNNING: dict[str, Any] = {
    "pod": "Pod",
    "task": "Task type",
    "seconds": st.column_config.NumberColumn("Runs for (s)", format="%.1f"),
    "step_id": "Step id",
    "note": "Note",
}
RUNNING_HERE = {name: RUNNING[name] for name in ("task", "seconds", "step_id", "note")}
