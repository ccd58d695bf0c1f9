"""The step finder: filters that live in the address, pages by key, the story of a step, bulk actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from fleetq_core.errors import InvalidPayload, StoreError
from fleetq_core.model import PageKey, Status, StepFilter, StepRecord

from . import columns, shell, snapshot, step_actions, story, tables, widgets
from .views import steps as views
from .views import times, words

TABLE = "steps_table"
PAGE_SIZE = 50
ANY = "any"
_PAGES_KEY = "_steps_pages"  # the keys of the pages before this one, newest first page = empty
_WHERE_KEY = "_steps_where"
_ROWS_KEY = "_steps_rows"
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
    with st.container(horizontal=True):
        lately = st.segmented_control(
            "Submitted", [ANY, *times.LATELY, times.BETWEEN], default=ANY, key="created", bind="query-params",
            required=True,
        )  # fmt: skip
        if lately == times.BETWEEN:
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
        state[_WHERE_KEY], state[_PAGES_KEY] = choices(), []
        tables.unpick(TABLE)
    pages: list[PageKey] = state.setdefault(_PAGES_KEY, [])
    selected = tables.picked(TABLE)
    steps, more = _read(where, pages[-1] if pages else None, held=bool(selected))
    now_ts = _now()
    if now_ts is not None:
        widgets.as_of(now_ts)
    if not steps:
        widgets.empty(
            "No step matches these filters." if where != StepFilter() else
            "There are no steps yet. Submit one on the Submit page, from Python, from the command line or by HTTP."
        )  # fmt: skip
    else:
        tables.picker(
            [views.step_line(step, now_ts) for step in steps], [step.step_id for step in steps],
            columns.STEPS, TABLE, "Steps, newest first", many=True,
        )  # fmt: skip
        _draw_bar(where, [step for step in steps if step.step_id in set(selected)])
    _draw_paging(pages, steps, more)
    if len(selected) == 1 and now_ts is not None:
        for step in steps:
            if step.step_id == selected[0]:
                st.subheader("The selected step")
                story.draw(step, now_ts, shell.runtime().config.max_retries, shell.fleet().value)
                story.draw_touches(step)


def _read(where: StepFilter, after: PageKey | None, *, held: bool) -> tuple[list[StepRecord], bool]:
    runtime, state = shell.runtime(), st.session_state
    if held and _ROWS_KEY in state:
        shown, more = state[_ROWS_KEY]
        now = {step.step_id: step for step in runtime.queue.store.get_steps([step.step_id for step in shown])}
        return [now.get(step.step_id, step) for step in shown], more
    answer = snapshot.shared(
        runtime, f"steps:{where}:{after}", lambda: runtime.queue.find_steps(where, limit=PAGE_SIZE + 1, after=after)
    )
    if answer.problem:
        raise StoreError(answer.problem)
    found = answer.value or []
    state[_ROWS_KEY] = found[:PAGE_SIZE], len(found) > PAGE_SIZE
    return found[:PAGE_SIZE], len(found) > PAGE_SIZE


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


def _draw_paging(pages: list[PageKey], steps: Sequence[StepRecord], more: bool) -> None:
    if not pages and not more:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Newer", disabled=not pages, icon=":material/chevron_left:", key="steps_newer"):
            _turn(pages[:-1])
        st.text(f"Page {len(pages) + 1}")
        if st.button("Older", disabled=not more, icon=":material/chevron_right:", key="steps_older"):
            _turn([*pages, PageKey(steps[-1].created_ts, steps[-1].step_id)])


def _turn(pages: list[PageKey]) -> None:
    st.session_state[_PAGES_KEY] = pages
    tables.unpick(TABLE)
    st.rerun(scope="fragment")


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
