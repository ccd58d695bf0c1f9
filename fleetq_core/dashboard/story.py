"""The whole story of one step."""

from __future__ import annotations

from typing import Any

import streamlit as st

from fleetq_core.failures import split
from fleetq_core.model import JSON, DecisionFilter, Status, StepRecord

from . import columns, shell, snapshot, tables, widgets
from .snapshot import Snapshot
from .views import steps as views
from .views import why

MOST_TRACES = 10
MOST_RUNS = 5


def draw(step: StepRecord, now_ts: float, max_retries: int, snap: Snapshot | None) -> None:
    """Everything that is known about a step; with the fleet's snapshot also why it is not running."""
    with st.container(horizontal=True, vertical_alignment="center"):
        widgets.status_badge(step.status.value)
        if step.is_dead_letter:
            st.badge("dead letter", color="red")
        st.text(views.step_sentence(step, now_ts))
    if snap is not None:
        _draw_reasons(why.why_not(step, snap))
    st.code(step.step_id, language=None)
    widgets.facts_grid(views.step_facts(step, now_ts, max_retries))
    if step.error:
        error, trace = split(step.error)
        st.caption("Error" if step.status is Status.FAILED else "Error of the last attempt that did not complete")
        st.code(error, language=None, wrap_lines=True)
        if trace:
            with st.expander("Traceback"):
                st.code(trace, language=None, wrap_lines=True)
    if step.status is Status.COMPLETED and (profile := views.profile_columns(step.result)) is not None:
        st.caption("Result")
        _profile(step.result, profile)
        st.caption("Payload")
        _value(step.payload)
    else:
        left, right = st.columns(2)
        with left:
            st.caption("Payload")
            _value(step.payload)
        with right:
            st.caption("Result")
            _result(step)
    st.caption("Attempts")
    if found := views.attempts(step):
        tables.table(found, columns.ATTEMPTS, "The attempts at this step")
        for number, trace in views.tracebacks(step)[-MOST_TRACES:]:
            with st.expander(f"Traceback of line {number}"):
                st.code(trace, language=None, wrap_lines=True)
    else:
        widgets.empty("No pod has tried this step yet.")
    _draw_links(step)


def _draw_links(step: StepRecord) -> None:
    with st.container(horizontal=True):
        if step.claimed_by:
            st.page_link(
                shell.page_path("pods"), label="The pod that had it last", icon=":material/dns:",
                query_params={"pod": step.claimed_by},
            )  # fmt: skip
        st.page_link(
            shell.page_path("submit"), label="Submit a changed copy", icon=":material/edit:",
            query_params={"copy": step.step_id},
        )  # fmt: skip


def draw_touches(step: StepRecord) -> None:
    """The recovery runs that touched the step, and links to them."""
    answer = snapshot.decisions(shell.runtime(), DecisionFilter(step_id=step.step_id))
    if answer.problem:
        widgets.problem("The recovery runs that touched it cannot be read just now.", answer.problem)
    lines = views.touch_lines(step, answer.value or [])
    if not lines:
        return
    st.caption("Recovery runs that touched it, newest first")
    tables.table(lines, columns.TOUCHES, "What recovery runs decided about this step")
    with st.container(horizontal=True):
        for number, line in enumerate(lines[:MOST_RUNS], 1):
            st.page_link(
                shell.page_path("recovery"), label=f"See run {number}", icon=":material/healing:",
                query_params={"run": line.run_id},
            )  # fmt: skip


def _draw_reasons(reasons: list[str]) -> None:
    if reasons:
        st.caption("Why it is not running")
        for reason in reasons:
            st.text(reason)


def _result(step: StepRecord) -> None:
    if step.status is not Status.COMPLETED:
        widgets.empty("There is no result until the step completes.")
    elif step.result is None:
        widgets.empty("The handler returned nothing.")
    else:
        _value(step.result)


def _profile(result: JSON, rows: list[dict[str, Any]]) -> None:
    """The profile of a file needs the whole width: a line for each column of the file."""
    widgets.facts_grid(views.profile_facts(result))
    names: list[str] = [name for name in ("name", "type") if name in rows[0]]
    names += [name for name in rows[0] if name not in names]
    labels = {name: views.label(name) for name in names}
    tables.table(rows, labels, "The profile of the file")


def _value(content: JSON) -> None:
    """Any JSON value, as it is."""
    if isinstance(content, dict | list):
        st.json(content, expanded=2)
    else:
        st.code(str(content), language=None, wrap_lines=True)
