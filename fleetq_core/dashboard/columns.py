"""The columns of each table, the ones an operator needs first on the left: narrow screens cut off the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from fleetq_core.model import Status

from .colours import GREY, WORD_COLOURS


def _words(label: str, options: Sequence[str]) -> Any:
    """A column of words, each in its colour."""
    return st.column_config.MultiselectColumn(
        label, options=list(options), color=[WORD_COLOURS.get(word, GREY) for word in options], width="small"
    )


_ERROR = st.column_config.TextColumn("Error", width="large")
_RAN = st.column_config.NumberColumn("Ran (s)", format="%.3f", width="small")

STEPS: dict[str, Any] = {
    "status": _words("Status", list(Status)),
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
    "life": _words("Life", ["alive", "late", "dead", "down"]),
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
RUNNING: dict[str, Any] = {
    "pod": "Pod",
    "task": "Task type",
    "seconds": st.column_config.NumberColumn("Runs for (s)", format="%.1f"),
    "step_id": "Step id",
    "note": "Note",
}
