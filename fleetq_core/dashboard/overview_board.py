"""The blocks of the Overview page: health, what needs a person, the curves of a range of time, what runs now."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from . import charts, columns, shell, snapshot, tables, widgets
from .snapshot import History, Snapshot
from .views import overview as views
from .views import pods, words

RANGES = {"5 min": 300.0, "15 min": 900.0, "1 h": 3600.0, "6 h": 21_600.0, "24 h": 86_400.0, "7 d": 604_800.0}
USUAL = "15 min"
MOST_RUNNING = 50

_CURVES: tuple[tuple[str, Callable[[History], list[views.Point]], Callable[..., None]], ...] = (
    ("Steps by status, the most at once", views.depth_points, charts.depth),
    ("Steps in and out a second", views.throughput_points, charts.throughput),
    ("Waiting time, from submit to claim", views.wait_points, charts.waits),
    ("Running time, in the handler", views.run_points, charts.runs),
)


def draw_health() -> None:
    """The health strip, what needs a person, and the counts."""
    answer = shell.fleet()
    snap = widgets.fresh(answer)
    if snap is None:
        return
    widgets.tiles(views.health(snap, answer.problem, _orphans(snap)))
    widgets.attention_list(shell.needs(), shell.page_path)
    widgets.status_metrics(snap)


def _orphans(snap: Snapshot) -> int:
    """How many claims dead pods hold. A healthy fleet has none, and the store is not asked."""
    if not pods.dead_pods(snap):
        return 0
    return views.orphans(snap, snapshot.held(shell.runtime()).value or [])


def draw_ranges() -> None:
    """How far to look back; the address keeps it."""
    st.segmented_control(
        "Range", list(RANGES), default=USUAL, key="range", bind="query-params", required=True,
        label_visibility="collapsed",
    )  # fmt: skip


def history_refresh_s() -> float:
    """The curves grow with each sample, and drawing them costs more than anything else on the page."""
    return min(max(shell.SELDOM_S, shell.runtime().config.sample_interval), 10.0)


def draw_history() -> None:
    """The curves of the chosen range."""
    if (snap := shell.fleet().value) is None:
        return
    seconds = RANGES[st.session_state.get("range") or USUAL]
    answer = snapshot.history(shell.runtime(), snap.now_ts, seconds)
    if answer.problem:
        widgets.problem("The past cannot be read just now; what follows may be old.", answer.problem)
    past = answer.value
    if past is None:
        widgets.empty("No leader has taken a sample in this range. The curves begin with the first one.")
        return
    widgets.as_of(past.now_ts, stale=answer.problem is not None)
    for first, second in (_CURVES[:2], _CURVES[2:]):
        left, right = st.columns(2)
        for place, (title, points_of, draw) in ((left, first), (right, second)):
            with place:
                _draw_curve(title, points_of(past), past, seconds, draw)


def _draw_curve(
    title: str, points: Sequence[views.Point], past: History, seconds: float, draw: Callable[..., None]
) -> None:
    st.caption(title)
    st.text(views.latest(points, past))
    draw(points, (past.now_ts - seconds, past.now_ts))


def draw_running() -> None:
    """How busy each pod is, and the steps that run, longest first."""
    if (snap := shell.fleet().value) is None:
        return
    widgets.as_of(snap.now_ts)
    running = views.running_rows(snap)
    if loads := views.load_rows(snap):
        tables.table(loads, columns.LOADS, "How busy each living pod is")
    if running:
        tables.table(running[:MOST_RUNNING], columns.RUNNING, "What runs now on each pod, longest first")
    more = len(running) - MOST_RUNNING
    published = sum(row.running for row in loads)
    if more > 0:
        widgets.empty(f"These ran longest; {words.plural(more, 'more step')} run too.")
    elif published > len(running):
        widgets.empty(f"Pods name some of what they run; {words.plural(published, 'step')} run in all.")
    else:
        widgets.empty("As each pod reported with its last heartbeat." if running else "No pod reported a running step.")
