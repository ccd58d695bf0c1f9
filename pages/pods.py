"""Pods: who is alive, who leads, how busy each is; pause, resume or drain; and what operators have ordered."""

import streamlit as st

from fleetq_core.dashboard import columns, orders, shell, snapshot, tables, widgets
from fleetq_core.dashboard.views import pods as views
from fleetq_core.dashboard.views import words


def fleet_table() -> None:
    """Every pod on record, with what one may order it."""
    snap = widgets.fresh(shell.fleet())
    if snap is None:
        return
    lines = views.pod_lines(snap)
    if not lines:
        or_this = ", or restart this dashboard" if shell.runtime().pod else ""
        widgets.empty(f"No pod is on record. Start one with `fleetq pod`{or_this}.")
        return
    chosen = tables.picker(lines, [line.pod for line in lines], columns.PODS, "pods_table", "The pods")
    alive = [pod.pod_id for pod in views.hearing_pods(snap)]
    orders.draw_buttons(alive, [pod for pod in chosen if pod in alive])
    st.caption(
        f"A pod is dead after {words.duration(snap.threshold_s)} without a heartbeat: the leader then gives its steps "
        "back. Select a pod to order it something; without a selection the buttons are for the whole fleet."
    )


def log() -> None:
    """The newest commands and their answers."""
    answer = snapshot.commands(shell.runtime())
    if answer.problem:
        widgets.problem("The store does not answer; this log may be old.", answer.problem)
    if answer.value:
        lines = views.command_lines(answer.value)
        tables.table(lines, columns.COMMANDS, "Commands with their answers, newest first")
    elif answer.value is not None:
        widgets.empty("Nobody has ordered anything yet. Pauses, drains, recoveries, requeues and cancels appear here.")


st.title("Pods")
shell.live(fleet_table)
st.subheader("Command log")
shell.live(log)
