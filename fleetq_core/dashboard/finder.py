"""The step finder: filters that live in the address, pages by key, the story of a step, bulk actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from fleetq_core.errors import InvalidPayload, StoreError
from fleetq_core.model import PageKey, Status, StepFilter, StepRecord, format_ts

from . import columns, search, shell, snapshot, step_actions, story, tables, widgets
from .views import export, times, words
from .views import steps as views

TABLE = "steps_table"
PAGE_SIZE = 50
ANY = "any"
_PAGES_KEY = "_steps_pages"  # the keys of the pages before this one, newest first page = empty
_WHERE_KEY = "_steps_where"
_BEHIND_KEY = "_steps_behind"  # where to look further, if that was asked
_SHOWN_KEY = "_steps_shown"
FILTERS = ("status", "task", "pod", "text", "created", "from", "until")
STATES = (ANY, *(status.value for status in Status), "dead letters")


def draw_filters() -> None:
    """What to look for; every value can be pasted as part of the address."""
    snap = shell.fleet().value
    tasks = views.known_tasks(snap, [task.name for task in shell.runtime().tasks.all()])
    pods = [pod.pod_id for pod in snap.pods] if snap else []
    st.segmented_control(
        "Status", STATES, default=ANY, key="status", bind="query-params", required=True, label_visibility="collapsed"
    )
    first, second, third = st.columns(3)
    first.selectbox("Task type", _with(tasks, "task"), key="task", bind="query-params")
    second.selectbox("Pod", _with(pods, "pod"), key="pod", bind="query-params")
    third.text_input(
        "Text", key="text", bind="query-params", icon=":material/search:",
        placeholder="in step id, payload or error", max_chars=200,
    )  # fmt: skip
    _draw_times()


def _draw_times() -> None:
    """When they were submitted: lately, or between two moments."""
    lately = st.segmented_control(
        "Submitted", [ANY, *times.LATELY, times.BETWEEN], default=ANY, key="created", bind="query-params", required=True
    )
    if lately == times.BETWEEN:
        with st.container(horizontal=True):
            for key, label in (("from", "From (UTC)"), ("until", "Until (UTC)")):
                st.text_input(label, key=key, bind="query-params", placeholder=times.EXAMPLE, max_chars=40, width=180)


def _with(names: Sequence[str], key: str) -> list[str]:
    # A link may name a task or a pod that nobody publishes any more.
    asked = st.query_params.get(key)
    extra = [asked] if asked and asked != ANY and asked not in names else []
    return [ANY, *names, *extra]


def choices() -> list[Any]:
    """What is chosen in the filters: it stays the same while "the last hour" moves on."""
    return [st.session_state.get(key) for key in FILTERS]


def asked_for() -> StepFilter:
    """What the filters ask for. Raises InvalidPayload for a moment that is none."""
    state = st.session_state
    chosen = state.get("status") or ANY
    created_from, created_until = _created()
    return StepFilter(
        created_from=created_from,
        created_until=created_until,
        status=Status(chosen) if chosen in set(Status) else None,
        dead_letters=chosen == "dead letters",
        task_type=_given(state.get("task")),
        claimed_by=_given(state.get("pod")),
        text=(state.get("text") or "").strip() or None,
    )


def _created() -> tuple[float | None, float | None]:
    """Between which moments. Raises InvalidPayload for a moment that is none."""
    lately = st.session_state.get("created") or ANY
    if lately in times.LATELY:
        # A filter that moves with every refresh would be another one each time, for the cache and for its pages.
        return times.since(lately, _now() or 0.0), None
    if lately != times.BETWEEN:
        return None, None
    return times.moment("from", st.session_state.get("from")), times.moment("until", st.session_state.get("until"))


def _given(value: str | None) -> str | None:
    return None if value in (None, "", ANY) else value


def draw_list() -> None:
    """One page of steps, the newest first. While rows are selected the page holds still: only their figures move."""
    state = st.session_state
    try:
        where = asked_for()
    except InvalidPayload as exc:
        widgets.problem("This moment cannot be read.", str(exc))
        return
    if state.get(_WHERE_KEY) != choices():
        state[_WHERE_KEY], state[_PAGES_KEY], state[_BEHIND_KEY] = choices(), [], None
        tables.unpick(TABLE)
    pages: list[PageKey] = state.setdefault(_PAGES_KEY, [])
    if behind := state.pop(_BEHIND_KEY, None):
        pages = state[_PAGES_KEY] = [*pages, _look_further(where, behind)]
    selected = tables.picked(TABLE)
    page = _read(where, pages[-1] if pages else None, held=bool(selected))
    steps, now_ts = page.steps, _now()
    if now_ts is not None:
        widgets.as_of(now_ts)
    if page.looked_to is not None:
        widgets.empty(views.looked_sentence(page.looked_to, search.SLICE, found=bool(steps), first=not pages))
    elif not steps:
        widgets.empty(
            "No older step matches these filters." if pages else
            "No step matches these filters." if where != StepFilter() else
            "There are no steps yet. Submit one on the Submit page, from Python, from the command line or by HTTP."
        )  # fmt: skip
    if steps:
        tables.picker(
            [views.step_line(step, now_ts) for step in steps], [step.step_id for step in steps],
            columns.STEPS, TABLE, "Steps, newest first", many=True,
        )  # fmt: skip
        _draw_bar(where, [step for step in steps if step.step_id in set(selected)])
    _draw_paging(pages, page)
    if len(selected) == 1 and now_ts is not None:
        for step in steps:
            if step.step_id == selected[0]:
                st.subheader("The selected step")
                story.draw(step, now_ts, shell.runtime().config.max_retries, shell.fleet().value)
                story.draw_touches(step)


def _read(where: StepFilter, after: PageKey | None, *, held: bool) -> search.Page:
    runtime, state = shell.runtime(), st.session_state
    if held and _SHOWN_KEY in state:
        shown: search.Page = state[_SHOWN_KEY]
        now = {step.step_id: step for step in runtime.queue.store.get_steps([step.step_id for step in shown.steps])}
        return replace(shown, steps=[now.get(step.step_id, step) for step in shown.steps])
    answer = search.page(runtime, where, after, PAGE_SIZE)
    if answer.problem or answer.value is None:
        raise StoreError(answer.problem or "the steps could not be read")
    state[_SHOWN_KEY] = answer.value
    return answer.value


def _now() -> float | None:
    snap = shell.fleet().value
    return snap.now_ts if snap else None


def _draw_bar(where: StepFilter, selected: Sequence[StepRecord]) -> None:
    if not selected:
        widgets.empty("Select a row for its whole story, or several to act on them together.")
        step_actions.draw_all(where)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"{words.plural(len(selected), 'step')} selected")
        step_actions.draw(selected, "bulk", TABLE)
        if len(selected) == 1:
            st.page_link(
                shell.page_path("steps"), label="Link to this step", icon=":material/link:",
                query_params={"step": selected[0].step_id},
            )  # fmt: skip


def _draw_paging(pages: list[PageKey], page: search.Page) -> None:
    if not pages and page.older is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Newer", disabled=not pages, icon=":material/chevron_left:", key="steps_newer", on_click=_turn,
            args=(pages[:-1],),
        )  # fmt: skip
        st.text(f"Page {len(pages) + 1}")
        if page.looked_to is not None:
            st.button(
                "Look further back", icon=":material/manage_search:", key="steps_further", on_click=_turn,
                args=(pages, page.older),
            )  # fmt: skip
        else:
            st.button(
                "Older", disabled=page.older is None, icon=":material/chevron_right:", key="steps_older",
                on_click=_turn, args=([*pages, page.older],),
            )  # fmt: skip


def _turn(pages: list[PageKey], behind: PageKey | None = None) -> None:
    """Show another page; behind `behind` it has yet to be found."""
    st.session_state[_PAGES_KEY], st.session_state[_BEHIND_KEY] = pages, behind
    tables.unpick(TABLE)


def _look_further(where: StepFilter, behind: PageKey) -> PageKey:
    """Slice after slice, until one has a match or there is no other."""
    runtime, snap = shell.runtime(), shell.fleet().value
    total = export.expected(where, snap.stats).rows if snap else 0
    slices, bar = 1, st.progress(0.0, text="Looking …")

    def looked(back_to: float) -> None:
        nonlocal slices
        slices += 1
        bar.progress(min(1.0, slices * search.SLICE / max(1, total)), text=f"No match since {format_ts(back_to)} UTC …")

    found = search.further(runtime, where, behind, looked)
    bar.empty()
    return found


def draw_step(step_id: str) -> None:
    """The whole story of one step, with what one may do about it."""
    runtime = shell.runtime()
    answer = snapshot.step(runtime, step_id)
    if answer.problem:
        raise StoreError(answer.problem)
    step, now_ts = answer.value, _now()
    if step is None or now_ts is None:
        widgets.problem("There is no step with this id. Completed steps are deleted after the retention.", step_id)
        return
    widgets.as_of(max(now_ts, step.last_update_ts))
    with st.container(horizontal=True):
        step_actions.draw([step], "one", TABLE)
    story.draw(step, now_ts, runtime.config.max_retries, shell.fleet().value)
    story.draw_touches(step)
