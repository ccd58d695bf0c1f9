"""Recovery: run one now, what past runs did and why, and the dead letters that wait for a person."""

import streamlit as st

from fleetq_core.dashboard import columns, finder, orders, shell, snapshot, tables, widgets
from fleetq_core.dashboard.views import pods, steps, words
from fleetq_core.dashboard.views import recovery as views
from fleetq_core.model import DecisionFilter


def runs() -> None:
    """The recovery runs, and the decisions of one."""
    snap = widgets.fresh(shell.fleet())
    if snap is None:
        return
    if not snap.runs:
        widgets.empty("No recovery run is on record: cycles that found nothing to do leave no trace.")
        return
    ids = [run.run_id for run in snap.runs]
    chosen = tables.picker(views.run_lines(snap.runs), ids, columns.RUNS, "runs_table", "Recovery runs")
    run = next((run for run in snap.runs if run.run_id in chosen), None)
    if run is None:
        widgets.empty("Select a run to see what it decided about each step.")
        return
    for sentence in views.run_sentences(run):
        st.text(sentence)
    answer = snapshot.decisions(shell.runtime(), DecisionFilter(run_id=run.run_id))
    found = [record.decision for record in answer.value or []]
    if found:
        tables.table(views.decision_rows(found), columns.DECISIONS, "The decisions of this run")
    else:
        widgets.empty("This run recorded no decision about any step.")


def dead_letters() -> None:
    """Steps that failed for good, to look at and requeue."""
    snap, answer = shell.fleet().value, snapshot.dead_letters(shell.runtime())
    if answer.problem:
        widgets.problem("The store does not answer; this list may be old.", answer.problem)
    if snap is None or answer.value is None:
        return
    refused = words.plural(pods.stale_refused(snap), "late result")
    st.caption(f"{refused} refused so far, over all pods: the claim was lost before the result came.")
    if not answer.value:
        widgets.empty("There are no dead letters: no step has failed for good.")
        return
    ids = [step.step_id for step in answer.value]
    lines = [steps.step_line(step) for step in answer.value]
    dead = columns.DEAD_LETTERS
    chosen = tables.picker(lines, ids, dead, "dead_table", "Dead letters, newest first", many=True)
    with st.container(horizontal=True, vertical_alignment="center"):
        finder.draw_actions(chosen or ids, [], "dead", table="dead_table")
        st.text(f"{len(chosen)} selected" if chosen else f"No row is selected: this is for all {len(ids)} shown.")
    if snap.stats.dead_letters > len(ids):
        st.caption(f"These are the newest of {snap.stats.dead_letters:,}; the others follow when these are gone.")


st.title("Recovery")
orders.draw_recovery_note()
orders.draw_recovery_button()
st.subheader("Runs")
shell.live(runs)
st.subheader("Dead letters")
shell.live(dead_letters)
