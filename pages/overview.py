"""Overview: is the fleet well, what does it do now, and what needs a person."""

import streamlit as st

from fleetq_core.dashboard import charts, columns, shell, snapshot, tables, widgets
from fleetq_core.dashboard.views import overview as views

WINDOWS = {"15 minutes": 900.0, "1 hour": 3600.0}


def board() -> None:
    """Health, what needs a person, and the counts."""
    answer = shell.fleet()
    snap = widgets.fresh(answer)
    if snap is None:
        return
    widgets.tiles(views.health(snap, answer.problem))
    widgets.attention_list(views.attention(snap, shell.runtime().failure), shell.page_path)
    widgets.status_metrics(snap)


def history() -> None:
    """The charts."""
    if (snap := shell.fleet().value) is None:
        return
    seconds = WINDOWS[st.session_state.get("window") or "15 minutes"]
    samples = views.window(snap.samples, snap.now_ts, seconds)
    if len(samples) < 2:
        widgets.empty("The charts begin with the second sample; the leader takes one every few seconds.")
        return
    widgets.as_of(samples[-1].sampled_ts)
    left, right = st.columns(2)
    left.caption("Steps waiting, claimed and failed")
    with left:
        charts.depth(views.depth_points(samples))
    right.caption("Steps a second")
    with right:
        charts.throughput(views.throughput_points(samples, seconds / 90))
    widgets.facts_grid(views.latency_facts(samples))


def week() -> None:
    """The same over days, by the hour."""
    if (snap := shell.fleet().value) is None:
        return
    answer = snapshot.week(shell.runtime(), snap.now_ts)
    if answer.problem:
        widgets.problem("The days before cannot be read just now.", answer.problem)
    if answer.value is None:
        widgets.empty("It begins with the first sample; each hour is the sum of its own.")
        return
    widgets.as_of(answer.value.now_ts, stale=answer.problem is not None)
    left, right = st.columns(2)
    left.caption("Steps an hour; the last hour is under way")
    with left:
        charts.hours(views.hour_points(answer.value.hours, answer.value.now_ts))
    right.caption("The worst of each hour")
    with right:
        charts.worst_of_hours(views.worst_points(answer.value.hours))


def running_now() -> None:
    """What each pod works on."""
    if (snap := shell.fleet().value) is None:
        return
    widgets.as_of(snap.now_ts)
    if running := views.running_rows(snap):
        tables.table(running, columns.RUNNING, "What runs now on each pod")
    widgets.empty("As each pod reported with its last heartbeat." if running else "No pod reported a running step.")


st.title("Overview")
shell.live(board)
st.subheader("History")
st.segmented_control("Window", list(WINDOWS), default="15 minutes", key="window", label_visibility="collapsed")
shell.live(history, every_s=5.0)
st.subheader("7 days by hour")
shell.live(week, every_s=60.0)
st.subheader("Running now")
shell.live(running_now)
