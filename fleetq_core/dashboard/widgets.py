"""The parts screens are made of. What comes from steps, pods or errors is drawn as text, never as Markdown or HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import streamlit as st

from fleetq_core.errors import FleetQError, StoreError

from .colours import STATUS_BADGES, TONE_BADGES
from .snapshot import Answer, Snapshot
from .views import overview, words
from .views.words import Fact

_ASKED, _FLASH = "_asked", "_flash"


def problem(sentence: str, detail: str) -> None:
    """Something went wrong: a sentence of ours, and the error's own words as plain text."""
    st.error(sentence, icon=":material/error:")
    if detail:
        st.code(detail, language=None, wrap_lines=True)


def store_down(exc: StoreError) -> None:
    """The store did not answer this block."""
    problem("The store does not answer. This part comes back by itself when it does.", f"{type(exc).__name__}: {exc}")


def fresh(answer: Answer[Snapshot]) -> Snapshot | None:
    """Say how old the snapshot is; None, with an explanation, where there is none at all."""
    snap = answer.value
    if snap is None:
        problem("The store does not answer, and has not since this dashboard started.", answer.problem or "")
        return None
    if answer.problem:
        problem(f"The store does not answer. These are the last figures, of {words.clock(snap.now_ts)} UTC.",
                answer.problem)  # fmt: skip
    as_of(snap.now_ts, stale=bool(answer.problem))
    return snap


def as_of(now_ts: float, *, stale: bool = False) -> None:
    """How old the block is, in the database's time."""
    st.caption(f"as of {words.clock(now_ts)} UTC" + (" · stale" if stale else ""))


def empty(sentence: str) -> None:
    """Nothing to show, and why."""
    st.caption(sentence)


def flash(text: str) -> None:
    """Say `text`, a sentence of ours, after the next run: a dialog that closes takes its own messages with it."""
    st.session_state.setdefault(_FLASH, []).append(text)


def show_flash() -> None:
    """Show what was left to be said."""
    for text in st.session_state.pop(_FLASH, []):
        st.toast(text, icon=":material/check_circle:", duration="long")


@dataclass(frozen=True, slots=True)
class _Question:
    title: str
    text: str
    action: Callable[[], str]
    verb: str
    items: Sequence[str]


def confirm(title: str, question: str, action: Callable[[], str], *, verb: str, items: Sequence[str] = ()) -> None:
    """Ask `question` (with its count) in a dialog, and on yes run `action`, which returns what it did.

    The dialog opens with a run of the whole page, which follows at once. Opened in a block that refreshes itself it
    could break the page: Streamlit drops what a block has not sent yet when the next refresh begins, the dialog's frame
    too but not what is in it, and a browser that is told to fill a frame which is not there shows nothing any more.
    """
    st.session_state[_ASKED] = _Question(title, question, action, verb, items)
    st.rerun()


def show_question() -> None:
    """Open the dialog of a question that was just asked. Not for a block that refreshes itself: see `confirm`."""
    asked: _Question | None = st.session_state.pop(_ASKED, None)
    if asked is not None:
        st.dialog(asked.title)(_draw_question)(asked)


def _draw_question(asked: _Question) -> None:
    st.text(asked.text)
    if asked.items:
        more = f"\n… and {len(asked.items) - 10:,} more" if len(asked.items) > 10 else ""
        st.code("\n".join(asked.items[:10]) + more, language=None)
    with st.container(horizontal=True):
        yes = st.button(asked.verb, type="primary", key="confirm_yes")
        no = st.button("Leave it", key="confirm_no")
    if yes:
        try:
            flash(asked.action())
        except CutShort as exc:
            problem("It ended before it was done. What is done stands, and doing it again is safe.", str(exc))
            return
        except FleetQError as exc:
            problem("That did not work; nothing was changed by this attempt.", str(exc))
            return
    if yes or no:
        st.rerun()


class CutShort(FleetQError):
    """Work in sets that an error ended after the first."""


def in_sets(progress: Iterable[tuple[int, int]], total: int, done: str) -> int:
    """Show how far work in sets has come, as (asked, moved) tells; returns how many moved. Raises CutShort."""
    asked, moved, bar = 0, 0, st.progress(0.0, text=f"0 of {words.plural(total, 'step')}")
    try:
        for asked, moved in progress:
            bar.progress(asked / total, text=f"{asked:,} of {words.plural(total, 'step')}: {moved:,} {done}")
    except FleetQError as exc:
        if not asked:
            raise
        raise CutShort(f"after {asked:,} of {words.plural(total, 'step')}, {moved:,} {done}: {exc}") from exc
    finally:
        bar.empty()
    return moved


def tiles(facts: Sequence[Fact]) -> None:
    """Facts side by side, each in a box; as many in a row as fit. Those that are not well have a badge and stand out.

    A badge for all the others too would hide those, and every element is a message to every viewer with every refresh.
    """
    with st.grid(len(facts), min_column_width=135, border=True):
        for fact in facts:
            with st.container(gap="xsmall"):
                st.caption(fact.label, help=fact.hint or None)
                if fact.tone not in TONE_BADGES:
                    st.text(fact.value)
                    continue
                with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
                    st.text(fact.value)
                    colour, word = TONE_BADGES[fact.tone]
                    st.badge(word, color=colour)


def facts_grid(facts: Sequence[Fact]) -> None:
    """Facts side by side without boxes."""
    if not facts:
        return
    with st.grid("auto", min_column_width=150):
        for fact in facts:
            with st.container(gap=None):
                st.caption(fact.label, help=fact.hint or None)
                st.text(fact.value)


def status_metrics(snap: Snapshot) -> None:
    """How many steps are in each status."""
    counts = snap.stats.by_status()
    with st.grid(len(counts), min_column_width=135, border=True):
        for name, count in counts.items():
            with st.container(gap="xsmall"):
                status_badge(name)
                st.metric(name.capitalize(), f"{count:,}", label_visibility="collapsed")


def status_badge(status: str) -> None:
    """A status in its colour."""
    st.badge(status, color=STATUS_BADGES.get(status, "gray"))


def sidebar_status(answer: Answer[Snapshot], facts: Sequence[Fact], needs: int) -> None:
    """The few facts every page shows, and how many things wait for a person."""
    snap = answer.value
    if snap is None:
        st.badge("store down", color="red")
        return
    with st.container(horizontal=True, gap="xsmall"):
        st.badge("store down" if answer.problem else "store ok", color="red" if answer.problem else "green")
        st.badge(f"{words.plural(needs, 'thing')} to look at" if needs else "nothing needs you",
                 color="orange" if needs else "green")  # fmt: skip
    for fact in facts:
        with st.container(gap=None):
            st.caption(fact.label, help=fact.hint or None)
            st.text(fact.value)
    as_of(snap.now_ts, stale=bool(answer.problem))


def attention_list(found: Sequence[overview.Attention], page_of: Callable[[str], str]) -> None:
    """What needs a person, each with a link to the page that helps."""
    if not found:
        st.success("Nothing needs you.", icon=":material/check_circle:")
    for number, item in enumerate(found):
        with st.container(border=True, gap="xsmall", key=f"attention_{number}"):
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                st.text(item.text, width="content")
                st.page_link(page_of(item.page), label=item.link, icon=":material/arrow_forward:",
                             query_params=dict(item.params) or None)  # fmt: skip
            if item.detail:
                st.code(item.detail, language=None, wrap_lines=True)
