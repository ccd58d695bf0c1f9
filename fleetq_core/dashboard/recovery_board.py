"""The blocks of the Recovery page: runs over time, one run's forensic view, refused late results, dead letters."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from fleetq_core.model import Decision, DecisionFilter, RecoveryRun, StepRecord

from . import columns, shell, snapshot, step_actions, tables, timelines, widgets
from .colours import EFFECT_BADGES
from .snapshot import RECENT_RUNS, Snapshot
from .views import recovery as views
from .views import steps, words

PARAM = "run"
RANGES = {"1 h": 3600.0, "24 h": 86_400.0, "7 d": 604_800.0}
USUAL = "24 h"
ANY, ACTIONS = "all", ("all", "requeued", "terminal")
MOST_LINES = 200  # of a table
MOST_DEAD = 20  # pods of one run, each with a link
RUNS_TABLE, DECISIONS_TABLE, LETTERS_TABLE = "runs_table", "decisions_table", "dead_table"
_LETTERS = "_dead_letters_held"


def draw_head() -> None:
    """What the next cycle will find."""
    if (snap := widgets.fresh(shell.fleet())) is not None:
        widgets.tiles(views.tiles(snap))


def draw_ranges() -> None:
    """How far the runs look back; the address keeps it."""
    st.segmented_control(
        "Range", list(RANGES), default=USUAL, key="runs_range", bind="query-params", required=True,
        label_visibility="collapsed",
    )  # fmt: skip


def draw_runs() -> None:
    """The runs of the chosen range, as a timeline and as a table."""
    if (snap := shell.fleet().value) is None:
        return
    seconds = RANGES[st.session_state.get("runs_range") or USUAL]
    since_ts = snap.now_ts - seconds
    known, limit = _known_runs(snap, since_ts)
    runs, complete_from = views.reaching(known, since_ts, limit)
    widgets.as_of(snap.now_ts)
    if not runs:
        widgets.empty(
            "No recovery run in this range: cycles that found nothing to do leave no trace."
            if known or snap.runs else "No recovery run is on record: cycles that found nothing to do leave no trace."
        )  # fmt: skip
        return
    timelines.recovery_runs(views.run_points(runs, snap.now_ts), since_ts, snap.now_ts, seconds)
    if complete_from is not None:
        widgets.empty(f"The newest {limit:,} runs; they reach back to {words.day_and_second(complete_from)} UTC.")
    shown = runs[:MOST_LINES]
    ids = [run.run_id for run in shown]
    picked = tables.picker(
        views.run_lines(shown, snap.now_ts), ids, columns.RUNS, RUNS_TABLE, "Recovery runs, newest first"
    )
    more = f" The newest {MOST_LINES} of {len(runs):,} are listed." if len(runs) > MOST_LINES else ""
    widgets.empty(f"Select a run to see what it decided about each step.{more}")
    if picked:
        # New runs push the rows down while one reads: the address keeps the choice, not the position.
        st.query_params[PARAM] = picked[0]
        tables.unpick(RUNS_TABLE)
        st.rerun()


def _known_runs(snap: Snapshot, since_ts: float) -> tuple[Sequence[RecoveryRun], int]:
    """Runs that reach back to `since_ts` if they can, and how many there may be; asks only where it must."""
    if len(snap.runs) < RECENT_RUNS or snap.runs[-1].started_ts < since_ts:
        return snap.runs, snapshot.MOST_RUNS
    answer = snapshot.runs(shell.runtime())
    if answer.problem:
        widgets.problem("Older runs cannot be read just now; what follows may be old.", answer.problem)
    return (answer.value, snapshot.MOST_RUNS) if answer.value else (snap.runs, RECENT_RUNS)


def draw_run() -> None:
    """The run that the address names: who ran it, whom it judged dead and why, and what it decided."""
    run_id, snap = st.query_params.get(PARAM, ""), shell.fleet().value
    if snap is None:
        widgets.fresh(shell.fleet())
        return
    run = next((run for run in snap.runs if run.run_id == run_id), None)
    if run is None:
        answer = snapshot.run(shell.runtime(), run_id)
        if answer.problem:
            widgets.problem("This run cannot be read just now.", answer.problem)
        run = answer.value
    found = _decisions(run_id)
    if run is None:
        widgets.problem("There is no recovery run with this id. Runs are deleted after their retention.", run_id)
        return
    widgets.as_of(snap.now_ts)
    with st.container(horizontal=True, vertical_alignment="center"):
        effect = views.effect_of(run, snap.now_ts)
        st.badge(effect, color=EFFECT_BADGES[effect])
        st.code(run.run_id, language=None)
    for sentence in views.run_sentences(run, snap.now_ts):
        st.text(sentence)
    widgets.facts_grid(views.run_facts(run))
    _draw_verdicts(run, found, snap)
    _draw_decisions(run, found)


def _decisions(run_id: str) -> list[Decision]:
    answer = snapshot.decisions(shell.runtime(), DecisionFilter(run_id=run_id))
    if answer.problem:
        widgets.problem("The decisions of this run cannot be read just now.", answer.problem)
    return [record.decision for record in answer.value or []]


def _draw_verdicts(run: RecoveryRun, found: Sequence[Decision], snap: Snapshot) -> None:
    st.subheader("Pods judged dead")
    lines = views.verdict_lines(run, found, snap.threshold_s)
    if not lines:
        # Runs of older versions name the pods, and nothing more.
        widgets.empty("How long its pods were silent is not on record." if run.dead_pods else "It judged no pod dead.")
        if run.dead_pods:
            st.text(", ".join(run.dead_pods))
        return
    tables.table(lines, columns.VERDICTS, "The pods that this run judged dead, and why")
    with st.container(horizontal=True, gap="medium"):
        for line in lines[:MOST_DEAD]:
            with st.container(horizontal=True, vertical_alignment="center", width="content", gap="xsmall"):
                st.text(line.pod, width="content")
                _link("pods", "Its story", ":material/dns:", pod=line.pod)


def _draw_decisions(run: RecoveryRun, found: Sequence[Decision]) -> None:
    st.subheader("Decisions")
    if not found:
        widgets.empty(
            "None was written, for the run did not end. A step's own story tells which run moved it."
            if run.finished_ts is None else "This run decided nothing about any step."
        )  # fmt: skip
        return
    groups = views.group_lines(found)
    tables.table(groups[:MOST_LINES], columns.GROUPS, "The decisions of this run, those that are alike together")
    left, right = st.columns([1, 2])
    action = left.segmented_control("Action", ACTIONS, default=ANY, key="run_action", required=True,
                                    label_visibility="collapsed")  # fmt: skip
    text = right.text_input("Find", key="run_find", icon=":material/search:", label_visibility="collapsed",
                            placeholder="in step id, pod or reason", max_chars=200)  # fmt: skip
    chosen = views.matching(found, None if action == ANY else action, text or "")
    st.caption(
        f"{words.plural(len(chosen), 'decision')}"
        + (f", the first {MOST_LINES} listed: narrow it down to see others" if len(chosen) > MOST_LINES else "")
        + (f". Only the first {snapshot.MAX_DECISIONS:,} of this run were read." if _is_cut(found) else ".")
    )
    if not chosen:
        return
    shown = chosen[:MOST_LINES]
    ids = [decision.step_id for decision in shown]
    picked = tables.picker(
        views.decision_lines(shown), ids, columns.DECISIONS, DECISIONS_TABLE, "What this run decided about each step"
    )
    decision = next((decision for decision in shown if decision.step_id in picked), None)
    if decision is None:
        widgets.empty("Select a row for the reason in full and a link to the step.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(decision.step_id, width="content")
        _link("steps", "See the step", ":material/list_alt:", step=decision.step_id)
        if decision.owner:
            _link("pods", "See the pod", ":material/dns:", pod=decision.owner)
    st.code(decision.reason, language=None, wrap_lines=True)


def _is_cut(found: Sequence[Decision]) -> bool:
    return len(found) >= snapshot.MAX_DECISIONS


def _link(page: str, label: str, icon: str, **params: str) -> None:
    st.page_link(shell.page_path(page), label=label, icon=icon, query_params=params)


def draw_refused() -> None:
    """Results that came too late and were refused, by pod."""
    if (snap := shell.fleet().value) is None:
        return
    lines = views.refused_lines(snap)
    total = sum(line.refused for line in lines)
    st.caption(
        f"{words.plural(total, 'late result')} refused, by all pods on record since each of them started. A pod that "
        "was frozen or cut off may finish a step that was given to another pod meanwhile: its result is refused, for "
        "the step is not its own any more."
    )
    if lines:
        tables.table(lines[:MOST_LINES], columns.REFUSED, "Late results refused, by pod")


def draw_dead_letters() -> None:
    """Steps that failed for good, to look at and requeue. While rows are selected the list holds still."""
    snap, answer = shell.fleet().value, snapshot.dead_letters(shell.runtime())
    if answer.problem:
        widgets.problem("The store does not answer; this list may be old.", answer.problem)
    if snap is None or answer.value is None:
        return
    letters = _held(answer.value)
    if not letters:
        widgets.empty("There are no dead letters: no step has failed for good.")
        return
    ids = [step.step_id for step in letters]
    lines = [steps.step_line(step) for step in letters]
    chosen = tables.picker(
        lines, ids, columns.DEAD_LETTERS, LETTERS_TABLE, "Dead letters, newest first", many=True
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        step_actions.draw([step for step in letters if step.step_id in (chosen or ids)], "dead", LETTERS_TABLE)
        if len(chosen) == 1:
            _link("steps", "See the step", ":material/list_alt:", step=chosen[0])
        st.text(f"{len(chosen)} selected" if chosen else f"No row is selected: this is for all {len(ids)} shown.")
    if snap.stats.dead_letters > len(ids):
        widgets.empty(f"These are the newest of {snap.stats.dead_letters:,}; the others follow when these are gone.")


def _held(found: list[StepRecord]) -> list[StepRecord]:
    # A selection arrives as positions: a letter that comes meanwhile must not move the rows under it.
    if not tables.picked(LETTERS_TABLE):
        st.session_state[_LETTERS] = found
    held: list[StepRecord] = st.session_state.get(_LETTERS, found)
    return held
