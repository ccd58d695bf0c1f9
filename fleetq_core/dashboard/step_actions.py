"""What a person may do to steps: to those at hand, or to all that the filters find. It counts and asks first."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from fleetq_core.ids import new_step_id
from fleetq_core.model import StepFilter, StepRecord
from fleetq_core.queue import MAX_BULK

from . import actions, shell, tables, widgets
from .views import acts, words
from .views.acts import ACTS, Act


def draw(steps: Sequence[StepRecord], key: str, table: str) -> None:
    """A button for each act that some of `steps` can take, with their number."""
    for act in ACTS:
        ids = [step.step_id for step in steps if act.fits(step)]
        if ids and shell.act_button(f"{act.verb} {len(ids):,}", key=f"{key}_{act.name}", icon=act.icon, help=act.hint):
            _ask(act, ids, acts.question(act, len(ids)), table=table)


def draw_all(where: StepFilter) -> None:
    """The acts on everything that the filters find, on other pages too."""
    possible = [act for act in ACTS if acts.narrowed(where, act)]
    if not possible:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text("All that match:", width="content")
        for act in possible:
            label = f"{act.verb} all {act.needs}…"
            if shell.act_button(label, key=f"all_{act.name}", icon=act.icon, help=f"{act.hint} Counts them first."):
                _ask_all(act, where)


def _ask_all(act: Act, where: StepFilter) -> None:
    store, ids = shell.runtime().queue.store, list[str]()
    with st.spinner("Counting…"):
        for part in acts.narrowed(where, act):
            ids += store.find_ids(part, MAX_BULK + 1 - len(ids))
    told = acts.filter_words(where)
    if not ids:
        widgets.flash(f"No {act.needs} step matches these filters.")
        st.rerun()
    chosen = ids[:MAX_BULK]
    question = f"{told}\n\n{acts.question(act, len(chosen))}"
    if len(ids) > MAX_BULK:
        question += f"\n\nMore match than one act may touch: these are {MAX_BULK:,} of them. Do it again for the rest."
    _ask(act, chosen, question, what=told)


def _ask(act: Act, ids: Sequence[str], question: str, *, table: str | None = None, what: str = "") -> None:
    # The ids of copies are made once, here: doing it again after a lost answer doubles nothing.
    copies = {step_id: new_step_id() for step_id in ids} if act is acts.REPLAY else {}

    def run() -> str:
        runtime = shell.runtime()
        if act is acts.REPLAY:
            sets = actions.replay(runtime, copies, what)
        elif act is acts.REQUEUE:
            sets = actions.requeue(runtime, ids, what)
        else:
            sets = actions.cancel(runtime, ids, what)
        moved = widgets.in_sets(((one.asked, one.moved) for one in sets), len(ids), act.done)
        if table:
            tables.unpick(table)
        return acts.outcome(act, moved, len(ids))

    widgets.confirm(
        f"{act.verb} {words.plural(len(ids), 'step')}?", question, run, verb=f"{act.verb} {len(ids):,}", items=ids
    )
