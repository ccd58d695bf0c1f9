"""The columns of each table, the ones an operator needs first on the left: narrow screens cut off the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import streamlit as st

from fleetq_core.model import Status

from .colours import GREY, WORD_COLOURS
from .views import audit
from .views import throttles as views


def _words(label: str, options: Sequence[str], width: Literal["small"] | int = "small") -> Any:
    """A column of words, each in its colour."""
    return st.column_config.MultiselectColumn(
        label, options=list(options), color=[WORD_COLOURS.get(word, GREY) for word in options], width=width
    )


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
    "pod": st.column_config.TextColumn("Pod", pinned=True),
    "life": _words("Life", ["alive", "late", "resting", "dead", "down"]),
    "leader": "Leader",
    "state": "State",
    "heartbeat_age_s": st.column_config.NumberColumn("Heartbeat age (s)", format="%.1f"),
    "load": st.column_config.ProgressColumn("Load", format="percent", min_value=0, max_value=1, width="small"),
    "running": "Running",
    "stuck": st.column_config.NumberColumn("Stuck", help="Handlers past their time limit that did not return."),
    "outbox": st.column_config.NumberColumn("Outbox", help="Outcomes that wait for the store."),
    "stale_refused": st.column_config.NumberColumn("Refused", help="Results that came after the claim was lost."),
    "completed": "Completed",
    "failed": "Failed",
    "capacity": "Capacity",
    "buffered": st.column_config.NumberColumn("Buffered", help="Claimed, waiting for a free slot."),
    "last_error": st.column_config.TextColumn("Last error", width="large"),
    "birth": "Birth (UTC)",
    "version": "Version",
    "incarnation": "Incarnation",
}
COMMANDS: dict[str, Any] = {
    "issued": "Issued (UTC)",
    "command": "Command",
    "target": st.column_config.TextColumn("Target", width="medium"),
    "state": _words("State", ["open", "done", "refused"]),
    "by": "By",
    "answers": st.column_config.TextColumn("Answers", width="large"),
    "command_id": "Command id",
}
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
RUNS: dict[str, Any] = {
    "started": "Started (UTC)",
    "state": _words("State", ["finished", "held off", "interrupted"]),
    "dead_pods": st.column_config.TextColumn("Dead pods", width="medium"),
    "orphans": "Orphans",
    "retried": st.column_config.NumberColumn("Retries due"),
    "resubmitted": "Resubmitted",
    "terminal": st.column_config.NumberColumn("Failed for good"),
    "leader": "Leader",
    "trigger": "Trigger",
    "duration_s": st.column_config.NumberColumn("Took (s)", format="%.3f"),
    "run_id": "Run id",
}
DECISIONS: dict[str, Any] = {
    "step_id": "Step id",
    "action": _words("Action", ["requeued", "terminal"]),
    "cause": "Cause",
    "owner": "Owner",
    "retries": "Retries",
    "reason": st.column_config.TextColumn("Reason", width="large"),
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
COST_PODS: dict[str, Any] = {
    "pod": st.column_config.TextColumn("Pod", width="medium"),
    "statements_an_hour": st.column_config.NumberColumn("Statements an hour", format="localized"),
    "awake_share": st.column_config.ProgressColumn(
        "Warehouse awake", format="percent", min_value=0, max_value=1, help="As if this pod used it alone.",
    ),
    "credits_a_day": st.column_config.NumberColumn("Credits a day", format="%.1f", help="As if it used it alone."),
}  # fmt: skip
RUNNING: dict[str, Any] = {
    "pod": "Pod",
    "task": "Task type",
    "seconds": st.column_config.NumberColumn("Runs for (s)", format="%.1f"),
    "step_id": "Step id",
    "note": "Note",
}
