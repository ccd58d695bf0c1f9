"""The parts of the Throttles screen: which one is squeezed, the chosen one's curves, pods and log, and its reset."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from . import actions, charts, columns, shell, snapshot, tables, widgets
from .colours import THROTTLE_BADGES
from .snapshot import Snapshot, ThrottleHistory
from .views import throttle_curves, throttle_log, words
from .views import throttles as views
from .views.throttles import ThrottleLine

PARAM = "throttle"
TABLE, PODS_TABLE = "throttles_table", "throttle_pods_table"
WINDOWS = {"15 minutes": 900.0, "1 hour": 3600.0}
SPANS = 180  # points of a curve
MOST_HEADLINES = 3
MOST_CHANGES = 200  # lines of the log
_WORST, _RESET = "_worst_throttle", "_throttle_reset"
_EXAMPLE = """@with_throttle(get_or_create_throttle("bedrock"))
def ask(question): ...  # the call to the service stands here"""


def chosen() -> str | None:
    """The throttle that the address names, else the one that was worst when this screen was opened."""
    if named := st.query_params.get(PARAM):
        return named
    snap = shell.fleet().value
    lines = views.throttle_lines(snap) if snap else []
    kept = st.session_state.get(_WORST)
    if kept not in {line.throttle for line in lines}:
        st.session_state[_WORST] = kept = lines[0].throttle if lines else None
    return kept


def draw_board() -> None:
    """Which throttle is squeezed and why; then all of them, worst first."""
    snap = widgets.fresh(shell.fleet())
    if snap is None:
        return
    lines = views.throttle_lines(snap)
    if not lines:
        widgets.empty(
            "No living pod has a throttle. One line above a function gives it one: it then learns how many calls at "
            "once the service behind it takes."
        )
        st.code(_EXAMPLE, language="python")
        return
    _draw_headlines(lines)
    picked = tables.picker(lines, [line.throttle for line in lines], columns.THROTTLES, TABLE, "Throttles, worst first")
    widgets.empty("Select a row to see that throttle below.")
    if picked:
        # The rows change places while one reads: the address keeps the choice, not the position.
        st.query_params[PARAM] = picked[0]
        tables.unpick(TABLE)
        tables.unpick(PODS_TABLE)
        st.rerun()


def _draw_headlines(lines: Sequence[ThrottleLine]) -> None:
    squeezed = views.squeezed(lines)
    if not squeezed:
        st.success("No throttle is squeezed: calls get their slots at once.", icon=":material/check_circle:")
    for number, line in enumerate(squeezed[:MOST_HEADLINES]):
        with st.container(border=True, gap="xsmall", key=f"squeezed_{number}"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.badge(line.state[0], color=THROTTLE_BADGES[line.state[0]])
                st.text(line.throttle, width="content")
            st.text(views.reason(line))
    if len(squeezed) > MOST_HEADLINES:
        widgets.empty(f"{words.plural(len(squeezed) - MOST_HEADLINES, 'more throttle')} like that in the table.")


def draw_chosen() -> None:
    """The chosen throttle's figures and curves."""
    name, snap = chosen(), shell.fleet().value
    if name is None or snap is None:
        return
    history = _history(name)
    line = _line_of(snap, name)
    st.code(name, language=None)
    if line is None and history is not None:
        widgets.empty(
            "No living pod has this throttle now; this is what is left of its past."
            if history.samples or history.changes
            else "No pod has ever published a throttle of this name."
        )
    if history is None:
        return
    if line is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(line.state[0], color=THROTTLE_BADGES[line.state[0]])
            st.text(views.reason(line))
        widgets.facts_grid([*views.throttle_facts(line, history.samples), *views.exchange_fact(line, snap)])
    _draw_curves(history, snap.now_ts, len(line.pods) if line else 0)


def _draw_curves(history: ThrottleHistory, now_ts: float, pods: int) -> None:
    seconds = WINDOWS[st.session_state.get("throttle_window") or "15 minutes"]
    samples = [sample for sample in history.samples if sample.sampled_ts >= now_ts - seconds]
    width_s = seconds / SPANS
    limits = throttle_curves.limit_points(samples, width_s)
    if len({ts for ts, _, _ in limits}) < 2:
        widgets.empty("The curves begin with the second sample; the leader takes one every few seconds.")
        return
    widgets.as_of(samples[-1].sampled_ts)
    grid = st.columns(2)
    with grid[0]:
        st.caption("Calls at once: the limit, and what was in flight")
        charts.throttle_limit(limits)
    with grid[1]:
        st.caption("Calls refused or timed out, a minute")
        refusals = throttle_curves.refusal_points(samples, width_s)
        if any(value for _, _, value in refusals):
            charts.throttle_refusals(refusals)
        else:
            st.text("None in this window.")
    grid = st.columns(2)
    with grid[0]:
        st.caption("Latency p95 of the slowest pod, against its usual")
        if latencies := throttle_curves.latency_points(samples, width_s):
            charts.throttle_latency(latencies)
        else:
            st.text("No call has been answered yet.")
    with grid[1]:
        if pods > 1:
            st.caption("The limit of each pod, stacked")
            charts.throttle_shares(throttle_curves.share_points(samples, width_s))


def draw_pods() -> None:
    """The chosen throttle on each pod, and its reset."""
    name, snap = chosen(), shell.fleet().value
    line = _line_of(snap, name) if snap and name else None
    if snap is None or name is None or line is None:
        widgets.empty("No living pod has this throttle, so there is nothing to reset.")
        return
    widgets.as_of(snap.now_ts)
    ids = [pod.pod for pod in line.pods]
    picked = tables.picker(line.pods, ids, columns.THROTTLE_PODS, PODS_TABLE, "The throttle on each pod")
    pod = picked[0] if picked and picked[0] in ids else None
    with st.container(horizontal=True, vertical_alignment="center"):
        label = "Reset on this pod" if pod else "Reset on all pods"
        if shell.act_button(label, key="reset_throttle", icon=":material/restart_alt:"):
            _ask_reset(line, pod, ids)
        st.text(pod or f"Without a selected row this is for {words.plural(len(ids), 'pod')}.")
    _draw_answers()


def _ask_reset(line: views.ThrottleLine, pod: str | None, pods: Sequence[str]) -> None:
    name, addressed = line.throttle, [pod] if pod else list(pods)
    shared = line.scope == throttle_log.WHOLE_FLEET
    what = "it starts again from its initial limit. What it has learnt is forgotten; calls under way go on."
    if shared and pod:
        what = "it forgets its latencies and waits for its next share. The fleet's limit stays: that takes all pods."

    def act() -> str:
        command_id = actions.reset_throttle(shell.runtime(), name, pod)
        st.session_state[_RESET] = command_id, name, addressed
        tables.unpick(PODS_TABLE)
        return f"Ordered from {words.plural(len(addressed), 'pod')}. Each hears it with its next heartbeat."

    widgets.confirm(
        "Reset this throttle?",
        f"{name}\n\nOn {words.plural(len(addressed), 'pod')} {what}",
        act, verb=f"Reset on {words.plural(len(addressed), 'pod')}", items=addressed,
    )  # fmt: skip


def _draw_answers() -> None:
    command_id, name, addressed = st.session_state.get(_RESET, (None, None, []))
    if command_id is None or name != chosen():
        return
    record = snapshot.command(shell.runtime(), command_id)
    # An order to all pods is heard by those too that have no such throttle.
    given = [one for one in (record.answers if record else ()) if one.pod_id in addressed]
    count = f"{len(given)} of {words.plural(len(addressed), 'pod')}"
    st.caption(f"Reset ordered: {count} answered. The command log on Audit has it too.")
    if given:
        lines = [f"{one.pod_id}: {'' if one.ok else 'refused, '}{one.result}" for one in given]
        st.code("\n".join(lines), language=None, wrap_lines=True)


def draw_log() -> None:
    """Why the chosen throttle's limit moved, newest first."""
    name, snap = chosen(), shell.fleet().value
    if name is None or snap is None or (history := _history(name)) is None:
        return
    widgets.as_of(snap.now_ts)
    changes = throttle_log.all_changes(history.changes, throttle_log.live_changes(snap, name))
    lines = throttle_log.change_lines(changes)[:MOST_CHANGES]
    if lines:
        tables.table(lines, columns.THROTTLE_CHANGES, "Why the limit moved, newest first")
    widgets.empty(
        f"The newest {MOST_CHANGES} at most. Like moves in a row are one line, with the time of the last."
        if lines
        else "The limit has not moved yet: it does with answers while it is reached, and with refusals and timeouts."
    )


def _history(name: str) -> ThrottleHistory | None:
    answer = snapshot.throttle_history(shell.runtime(), name)
    if answer.problem:
        widgets.problem("The store does not answer; what follows may be old.", answer.problem)
    return answer.value


def _line_of(snap: Snapshot, name: str) -> ThrottleLine | None:
    return next((line for line in views.throttle_lines(snap) if line.throttle == name), None)
