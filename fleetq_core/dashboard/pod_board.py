"""The blocks of the Pods page: the fleet with its orders, who led and how pods beat over time, and one pod's story."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from fleetq_core.model import DecisionFilter, PodRecord

from . import columns, orders, shell, snapshot, tables, timelines, widgets
from .snapshot import Snapshot
from .views import fates, heartbeats, leaders, overview, words
from .views import pods as views
from .views.fates import FateLine

PARAM = "pod"
TABLE, FATES_TABLE = "pods_table", "fates_table"
RANGES = {"1 h": 3600.0, "6 h": 21_600.0, "24 h": 86_400.0}
USUAL = "1 h"
MOST_REIGNS = 20
COARSE_S = 60.0
MOST_FATES = 200
_COLOURS = "_pod_colours"


def draw_fleet() -> None:
    """Every pod on record, with what one may order it."""
    snap = widgets.fresh(shell.fleet())
    if snap is None:
        return
    lines = views.pod_lines(snap)
    if not lines:
        or_this = ", or restart this dashboard" if shell.runtime().pod else ""
        widgets.empty(f"No pod is on record. Start one with `fleetq pod`{or_this}.")
        return
    for sentence in views.oddities(snap):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge("look", color="orange", icon=":material/warning:")
            st.text(sentence, width="stretch")  # it names versions, which pods publish
    picked = tables.picker(lines, [line.pod for line in lines], columns.PODS, TABLE, "The pods")
    if picked:
        # The rows change places while one reads: the address keeps the choice, not the position.
        _choose(picked[0])
    chosen = next((pod for pod in snap.pods if pod.pod_id == st.query_params.get(PARAM)), None)
    orders.draw_buttons(snap, views.hearing_pods(snap), chosen)
    orders.draw_pod_answers(snap)
    st.caption(
        f"A pod is dead after {words.duration(snap.threshold_s)} without a heartbeat: the leader then gives its steps "
        "back. Select a pod for its story and to order it something; without a selection the buttons are for the fleet."
    )


def _choose(name: str | None) -> None:
    if name is None:
        del st.query_params[PARAM]
    else:
        st.query_params[PARAM] = name
    tables.unpick(TABLE)
    st.rerun()


def draw_ranges() -> None:
    """How far the timelines look back; the address keeps it."""
    st.segmented_control(
        "Range", list(RANGES), default=USUAL, key="pods_range", bind="query-params", required=True,
        label_visibility="collapsed",
    )  # fmt: skip


def draw_timelines() -> None:
    """Who led when, and how each pod beat."""
    if (snap := shell.fleet().value) is None:
        return
    runtime, seconds = shell.runtime(), RANGES[st.session_state.get("pods_range") or USUAL]
    answer = snapshot.pod_samples(runtime, snap.now_ts, seconds)
    if answer.problem:
        widgets.problem("The past cannot be read just now; what follows may be old.", answer.problem)
    if answer.value is None:
        return
    since_ts = snap.now_ts - seconds
    samples = [sample for sample in answer.value if sample.sampled_ts >= since_ts]
    spacing_s = snapshot.span_width_s(seconds, runtime.config.sample_interval)
    widgets.as_of(samples[-1].sampled_ts if samples else snap.now_ts, stale=answer.problem is not None)
    reigns = leaders.reigns(samples, since_ts, spacing_s, snap)
    st.caption("Who led")
    st.text(leaders.summary(reigns))
    if spacing_s >= COARSE_S:
        widgets.empty(f"One sample in {words.duration(spacing_s)} is looked at here: what was shorter may be missing.")
    names = [reign.pod for reign in reigns if reign.pod]
    colours = timelines.pod_colours(names, st.session_state.setdefault(_COLOURS, {}))
    timelines.leaders(reigns, colours, seconds)
    if len(reigns) > 1:
        lines = leaders.reign_lines(reigns, snap.now_ts, since_ts, MOST_REIGNS)
        tables.table(lines, columns.reigns(colours), "Who led when, newest first")
    strip = heartbeats.strip(samples, since_ts, spacing_s, snap, runtime.config.heartbeat_interval)
    st.caption("How each pod beat, as the leader saw it")
    if not strip.pods:
        widgets.empty("No leader has taken a sample in this range.")
        return
    timelines.heartbeats(strip, since_ts, snap.now_ts, seconds)
    if strip.more:
        widgets.empty(f"Those in trouble first; {words.plural(strip.more, 'more pod')} are left out.")


def draw_story() -> None:
    """The pod that the address names: what it does and holds, and what became of what it held."""
    name, snap = st.query_params.get(PARAM), shell.fleet().value
    if not name or snap is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("One pod", width="content")
        if st.button("Whole fleet", key="close_pod", icon=":material/arrow_back:"):
            _choose(None)
    st.code(name, language=None)
    pod = next((pod for pod in snap.pods if pod.pod_id == name), None)
    widgets.as_of(snap.now_ts)
    taken, held = _taken(name), _held(pod) if pod else 0
    if pod is None:
        widgets.empty("No pod of this name is on record; a pod leaves the record some time after its last heartbeat.")
    elif told := views.silence_sentence(pod, snap, held):
        st.warning(told, icon=":material/heart_broken:")
    _draw_death(name, pod, snap, taken)
    if pod is not None:
        widgets.facts_grid(views.pod_facts(pod, snap, held))
    _draw_fates(taken)
    if pod is not None:
        _draw_work(pod, snap)
    _link("steps", "Steps that it claimed last", ":material/list_alt:", pod=name)


def _held(pod: PodRecord) -> int:
    held = snapshot.held(shell.runtime()).value or []
    return sum(claims.steps for claims in held if claims.incarnation == pod.incarnation)


def _taken(name: str) -> list[FateLine]:
    """The steps that recovery runs took back from it, as they are now."""
    answer = snapshot.fates(shell.runtime(), DecisionFilter(owner=name, cause="orphan"), MOST_FATES)
    if answer.problem:
        widgets.problem("What became of its steps cannot be read just now.", answer.problem)
    found, steps = answer.value or ([], {})
    return fates.fate_lines(found, steps)


def _draw_death(name: str, pod: PodRecord | None, snap: Snapshot, taken: Sequence[FateLine]) -> None:
    judged = views.verdict_on(name, snap.runs)
    if judged is None and taken:
        # Its death is older than the runs at hand; what it held tells which run that was.
        old = snapshot.run(shell.runtime(), taken[0].run_id).value
        judged = views.verdict_on(name, [old] if old else [])
    if judged is None:
        return
    run, verdict = judged
    with st.container(border=True, gap="xsmall", key="pod_death"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge("declared dead", color="red", icon=":material/heart_broken:")
            _link("recovery", "See that recovery run", ":material/healing:", run=run.run_id)
        st.text(views.death_sentence(run, verdict, pod, snap.threshold_s))


def _draw_fates(lines: Sequence[FateLine]) -> None:
    if not lines:
        widgets.empty("No recovery run on record has taken a step from it.")
        return
    st.text(fates.fate_sentence(lines))
    ids = [line.step_id for line in lines]
    picked = tables.picker(lines, ids, columns.FATES, FATES_TABLE, "What became of the steps that this pod held")
    if len(lines) == MOST_FATES:
        widgets.empty(f"The newest {MOST_FATES}; the runs on Recovery have them all.")
    line = next((line for line in lines if line.step_id in picked), None)
    if line is None:
        widgets.empty("Select a row for links to the step and to the run that took it.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(line.step_id, width="content")
        _link("steps", "See the step", ":material/list_alt:", step=line.step_id)
        _link("recovery", "See the run", ":material/healing:", run=line.run_id)


def _link(page: str, label: str, icon: str, **params: str) -> None:
    st.page_link(shell.page_path(page), label=label, icon=icon, query_params=params)


def _draw_work(pod: PodRecord, snap: Snapshot) -> None:
    if rows := [row for row in overview.running_rows(snap) if row.pod == pod.pod_id]:
        st.caption("What it runs now, as it reported with its last heartbeat")
        tables.table(rows, columns.RUNNING_HERE, "What this pod runs now")
    errors = pod.meta.get("last_errors")
    if isinstance(errors, list) and errors:
        st.caption("Its last errors, newest last")
        st.code("\n".join(str(error) for error in errors), language=None, wrap_lines=True)
