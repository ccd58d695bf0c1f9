"""Overview: is the fleet well, what does it do now, and what needs a person."""

import streamlit as st

from fleetq_core.dashboard import charts, columns, shell, snapshot, tables, widgets
from fleetq_core.dashboard.views import overview as views

RANGES = {"5 min": 300.0, "15 min": 900.0, "1 h": 3600.0, "6 h": 21_600.0, "24 h": 86_400.0, "7 d": 604_800.0}
USUAL = "15 min"


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
    """The curves of the chosen range."""
    if (snap := shell.fleet().value) is None:
        return
    seconds = RANGES[st.session_state.get("range") or USUAL]
    answer = snapshot.history(shell.runtime(), snap.now_ts, seconds)
    if answer.problem:
        widgets.problem("The past cannot be read just now; what follows may be old.", answer.problem)
    if answer.value is None:
        widgets.empty("The curves begin with the first sample; the leader takes one every few seconds.")
        return
    past = answer.value
    widgets.as_of(past.now_ts, stale=answer.problem is not None)
    for title, draw, points in (
        ("Steps waiting, claimed and failed", charts.depth, views.depth_points(past)),
        ("Steps a second", charts.throughput, views.throughput_points(past)),
        ("Waiting time", charts.waits, views.wait_points(past)),
        ("Running time", charts.runs, views.run_points(past)),
    ):
        st.caption(title)
        draw(points, seconds)


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
st.segmented_control(
    "Range", list(RANGES), default=USUAL, key="range", bind="query-params", required=True, label_visibility="collapsed"
)
shell.live(history, every_s=5.0)
st.subheader("Running now")
shell.live(running_now)
