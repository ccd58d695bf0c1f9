"""The playground at the end of the Throttles page: a simulated run to watch, and simulated calls for this fleet."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import streamlit as st

from fleetq_core.builtin import simulated_api
from fleetq_core.playground.play import (
    SETTLED_S,
    Adaption,
    Kind,
    Moment,
    Played,
    Slice,
    capacities_of,
    play,
    scenario_of,
)
from fleetq_core.playground.scenario import Mode

from . import actions, shell, tables, widgets
from .colours import AMBER, GREY, STATUS_COLOURS
from .views import words
from .views.words import Fact

LENGTH_S = 900.0
SLICE_S = 5.0
MOST_PODS = 16
WATCHED_S = 6.0  # real seconds for the whole run
FRAME_S = 0.4
CHART_HEIGHT = 300
TITLES = {
    Kind.POD: "FLEET-Q, a throttle for each pod",
    Kind.FLEET: "FLEET-Q, one throttle for the fleet",
    Kind.LITERAL: "Plain AIMD: halve at each refusal",
}
SCOPES = {"Each pod learns alone": Kind.POD, "One limit for the fleet": Kind.FLEET}
MODES = {
    "Refuses above its capacity": Mode.HARD,
    "Refuses above a rate": Mode.RATE,
    "Never refuses, calls time out": Mode.TIMEOUTS,
}
_SHOW = "_playground"
_REASONS = {"small changes": "many small changes"}


@dataclass(slots=True)
class Show:
    """Runs that one viewer watches side by side, and since when."""

    runs: list[Played]
    began_s: float = field(default_factory=time.monotonic)
    over: bool = False

    def reached_s(self) -> float:
        """How far the viewer has seen, in virtual seconds."""
        if self.over:
            return LENGTH_S
        return min(LENGTH_S, (time.monotonic() - self.began_s) * LENGTH_S / WATCHED_S)


def draw() -> None:
    """Both halves. Nothing is simulated or submitted before a button is pressed."""
    st.subheader("Playground")
    simulated, real = st.tabs(["What would it do?", "On this fleet"])
    with simulated:
        _draw_choice()
        show: Show | None = st.session_state.get(_SHOW)
        # The timer stops with the end of the show, whatever the Live switch says: it was asked for by a button.
        st.fragment(_draw_show, run_every=FRAME_S if show is not None and not show.over else None)()
    with real:
        _draw_form()


# -- what would it do? ------------------------------------------------------------------------------------------------


def _draw_choice() -> None:
    st.text(
        "A simulation of 15 minutes with the real rules, in a few seconds: pods that always have work, and a "
        "downstream whose capacity steps. Watch the limit follow."
    )
    with st.form("playground", border=False):
        with st.grid("auto", min_column_width=220):
            clients = st.number_input("Pods", 1, MOST_PODS, 1, step=1, key="play_clients")
            scope = st.selectbox("Throttle", list(SCOPES), key="play_scope")
            mode = st.selectbox("The downstream", list(MODES), key="play_mode")
            capacities = st.text_input(
                "Capacities", "40, 10, 60", key="play_capacities", max_chars=120,
                help="Calls at once, one number after another; each holds for the same time.",
            )  # fmt: skip
        beside = st.checkbox("Beside it, plain AIMD (halve at each refusal)", value=True, key="play_beside")
        run = st.form_submit_button("Run", type="primary", icon=":material/play_arrow:", key="play_run")
    if run:
        kinds = [SCOPES[scope or next(iter(SCOPES))], *([Kind.LITERAL] if beside else [])]
        _run(capacities or "", MODES[mode or next(iter(MODES))], int(clients), kinds)


def _run(capacities: str, mode: Mode, clients: int, kinds: list[Kind]) -> None:
    st.session_state.pop(_SHOW, None)
    try:
        scenario = scenario_of(capacities_of(capacities), mode, clients, LENGTH_S)
    except ValueError as exc:
        widgets.problem("That cannot be simulated.", str(exc))
        return
    with st.spinner("Simulating …"):
        seed = time.time_ns() % 100_000
        st.session_state[_SHOW] = Show([play(scenario, kind, seed, SLICE_S) for kind in kinds])


def _draw_show() -> None:
    show: Show | None = st.session_state.get(_SHOW)
    if show is None:
        return
    reached_s = show.reached_s()
    done = reached_s >= LENGTH_S
    now = _slice_at(show.runs[0], reached_s)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(
            reached_s / LENGTH_S,
            f"{reached_s:.0f} of {LENGTH_S:.0f} s: capacity {now.capacity}, limit {now.limit}",
        )
        skip = st.button("Skip to the end", key="play_skip", icon=":material/skip_next:", disabled=done)
    spec = _spec(show.runs)
    for column, run in zip(st.columns(len(show.runs)), show.runs, strict=True):
        with column:
            st.caption(TITLES[run.kind])
            st.vega_lite_chart(_frame(run, reached_s), spec, width="stretch", height=CHART_HEIGHT, alt=_alt(run))
            if done:
                widgets.facts_grid(_facts(run))
    if done and show.runs[0].moments:
        st.caption(f"What moved the limit{_whose(show.runs[0])}")
        tables.table(
            [_line(moment) for moment in show.runs[0].moments], _LOG, "The decisions that moved the limit, oldest first"
        )
    if (done or skip) and not show.over:
        show.over = True
        st.rerun()  # once more without the timer


def _slice_at(run: Played, at_s: float) -> Slice:
    return next((part for part in reversed(run.slices) if part.until_s <= at_s), run.slices[0])


def _frame(run: Played, reached_s: float) -> pd.DataFrame:
    """The capacity of the whole run, so that the axes stay; of the rest what has happened by now."""
    lost = _lost(run)
    points = [(part.at_s, CAPACITY, float(part.capacity)) for part in run.slices]
    points.append((run.scenario.length_s, CAPACITY, float(run.slices[-1].capacity)))
    for part in run.slices:
        if part.until_s <= reached_s:
            points += [
                (part.at_s, LIMIT, float(part.limit)),
                (part.at_s, ANSWERED, part.answered_per_s),
                (part.at_s, lost, part.lost_per_s),
            ]
    return pd.DataFrame(points, columns=["second", "series", "value"])


def _alt(run: Played) -> str:
    return f"{TITLES[run.kind]}: capacity, limit, {ANSWERED} and {_lost(run)} over {LENGTH_S:.0f} virtual seconds"


def _lost(run: Played) -> str:
    return TIMED_OUT if run.scenario.mode is Mode.TIMEOUTS else REFUSED


def _facts(run: Played) -> list[Fact]:
    lost = _lost(run).removesuffix("/s")
    facts = [
        Fact("Utilisation", f"{100 * run.utilisation:.1f} %", hint="Calls answered, of those the capacity allowed."),
        Fact(lost.capitalize(), f"{100 * run.lost_share:.2f} %", hint="Of all calls."),
    ]
    if run.steady_utilisation is not None and run.steady_lost_share is not None:
        steady = f"{100 * run.steady_utilisation:.1f} %, {lost} {100 * run.steady_lost_share:.2f} %"
        facts.append(Fact("Steady", steady, hint=f"Without the first {SETTLED_S:.0f} s of each capacity."))
    if run.fairness is not None:
        facts.append(Fact("Fairness", f"{run.fairness:.3f}", hint="Jain's index of the calls by pod; 1 is even."))
    return facts + [_adaption(found) for found in run.adaptions]


def _adaption(found: Adaption) -> Fact:
    when = "never" if found.seconds is None else f"after {words.duration(found.seconds)}"
    down = found.after < found.before
    hint = "Until no more than that was under way." if down else "Until 90 % of it was used."
    return Fact(f"{found.before} → {found.after}", when, hint=hint)


def _whose(run: Played) -> str:
    if run.scenario.clients == 1:
        return ""
    return " of the fleet" if run.kind is Kind.FLEET else " of the first pod"


def _line(moment: Moment) -> dict[str, Any]:
    same = round(moment.at_s) == round(moment.until_s)
    when = f"{moment.at_s:.0f}" if same else f"{moment.at_s:.0f}–{moment.until_s:.0f}"
    why = _REASONS.get(moment.reason, moment.reason)
    return {
        "when": when, "limit": f"{moment.before} → {moment.after}", "why": why, "times": moment.times,
    }  # fmt: skip


_LOG: dict[str, Any] = {
    "when": st.column_config.TextColumn("Second", width="small"),
    "limit": st.column_config.TextColumn("Limit", width="small"),
    "why": st.column_config.TextColumn("Why", width="medium"),
    "times": st.column_config.NumberColumn("Times", width="small"),
}
CAPACITY, LIMIT, ANSWERED, REFUSED, TIMED_OUT = "capacity", "limit", "answered/s", "refused/s", "timed out/s"
_COLOURS = {
    CAPACITY: GREY,
    LIMIT: STATUS_COLOURS["pending"],
    ANSWERED: STATUS_COLOURS["completed"],
    REFUSED: STATUS_COLOURS["failed"],
    TIMED_OUT: AMBER,
}


def _spec(runs: list[Played]) -> dict[str, Any]:
    """The same in every frame of a show, and the same axes for both of its charts.

    Calls last a second on average, so that calls at once and calls a second share one axis.
    """
    shown = {name: _COLOURS[name] for name in (CAPACITY, LIMIT, ANSWERED, _lost(runs[0]))}
    parts = [part for run in runs for part in run.slices]
    most = max(max(part.capacity, part.limit, part.answered_per_s, part.lost_per_s) for part in parts)
    return {
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.8, "clip": True},
        "encoding": {
            "x": {
                "field": "second", "type": "quantitative", "title": None,
                "scale": {"domain": [0, LENGTH_S], "nice": False},
                "axis": {"grid": False, "tickCount": 6, "labelFlush": True},
            },
            "y": {
                "field": "value", "type": "quantitative", "title": None,
                "scale": {"domain": [0, most], "nice": True},
                "axis": {"domain": False, "tickCount": 5, "minExtent": 28},
            },
            "color": {
                "field": "series", "type": "nominal", "title": None,
                "scale": {"domain": list(shown), "range": list(shown.values())},
                "legend": {"orient": "top", "columns": 4, "columnPadding": 8},
            },
            "strokeDash": {
                "condition": {"test": f"datum.series === '{CAPACITY}'", "value": [5, 3]}, "value": [1, 0],
            },
            "tooltip": [
                {"field": "second", "type": "quantitative", "title": "Second"},
                {"field": "series", "type": "nominal", "title": "Series"},
                {"field": "value", "type": "quantitative", "title": "Value", "format": ".1f"},
            ],
        },
    }  # fmt: skip


# -- on this fleet ----------------------------------------------------------------------------------------------------


def _draw_form() -> None:
    capacities = ", then ".join(str(capacity) for _, capacity in simulated_api.DEFAULT_STEPS)
    st.text(
        f"Steps that call a downstream inside each pod, which takes {capacities} calls at once, "
        f"a minute each: the curves of throttle {simulated_api.NAME} above show how its limit follows."
    )
    with st.form("simulated_api", border=False):
        with st.grid("auto", min_column_width=220):
            count = st.number_input("Steps", 1, actions.MAX_COUNT, 600, step=100, key="api_count")
            mean_s = st.number_input(
                "Seconds of a call", 0.1, 10.0, 1.0, step=0.1, key="api_mean_s", help="On average; they vary."
            )
        reason = shell.refusal()
        send = st.form_submit_button(
            "Submit", type="primary", icon=":material/send:", key="api_send", disabled=reason is not None, help=reason
        )
    if send:
        many, each = words.plural(int(count), "step"), words.duration(float(mean_s))
        widgets.confirm(
            "Submit?",
            f"Submits {many} of task {simulated_api.NAME}, each a simulated call of about {each}. "
            "They call nothing outside this fleet and end by themselves.",
            lambda: submit(int(count), float(mean_s)),
            verb=f"Submit {many}",
        )


def submit(count: int, mean_s: float) -> str:
    """Submit the calls; says what was done."""
    payload = {"task_type": simulated_api.NAME, "mean_s": round(mean_s, 3)}
    ids = actions.submit(shell.runtime(), payload, count=count)
    return f"{words.plural(len(ids), 'step')} of {simulated_api.NAME} submitted."
