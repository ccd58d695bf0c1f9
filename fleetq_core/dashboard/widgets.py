"""The parts screens are made of. What comes from steps, pods or errors is drawn as text, never as Markdown or HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, Literal

import streamlit as st

from fleetq_core.errors import FleetQError, StoreError
from fleetq_core.model import JSON, Status, StepRecord

from . import views
from .charts import GREY, STATUS_COLOURS
from .snapshot import Answer, Snapshot

_FLASH = "_flash"
BadgeColour = Literal["red", "orange", "blue", "green", "violet", "gray"]
_STATUS_BADGES: dict[str, BadgeColour] = {
    "pending": "blue",
    "claimed": "violet",
    "completed": "green",
    "failed": "red",
}
_TONE_BADGES: dict[str, tuple[BadgeColour, str]] = {
    "good": ("green", "ok"),
    "warn": ("orange", "look"),
    "bad": ("red", "act"),
}
_WORD_COLOURS = {
    **STATUS_COLOURS,
    "alive": STATUS_COLOURS["completed"],
    "dead": STATUS_COLOURS["failed"],
    "down": GREY,
    "done": STATUS_COLOURS["completed"],
    "open": STATUS_COLOURS["pending"],
    "refused": STATUS_COLOURS["failed"],
    "finished": STATUS_COLOURS["completed"],
    "held off": "#f59e0b",
    "interrupted": STATUS_COLOURS["failed"],
    "requeued": STATUS_COLOURS["pending"],
    "terminal": STATUS_COLOURS["failed"],
}


# -- states -----------------------------------------------------------------------------------------------------------


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
        problem(f"The store does not answer. These are the last figures, of {views.clock(snap.now_ts)} UTC.",
                answer.problem)  # fmt: skip
    as_of(snap.now_ts, stale=bool(answer.problem))
    return snap


def as_of(now_ts: float, *, stale: bool = False) -> None:
    """How old the block is, in the database's time."""
    st.caption(f"as of {views.clock(now_ts)} UTC" + (" · stale" if stale else ""))


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


def confirm(title: str, question: str, action: Callable[[], str], *, verb: str, items: Sequence[str] = ()) -> None:
    """Open a dialog that asks `question` (with its count) and on yes runs `action`, which returns what it did."""

    @st.dialog(title)
    def ask() -> None:
        st.text(question)
        if items:
            more = f"\n… and {len(items) - 10:,} more" if len(items) > 10 else ""
            st.code("\n".join(items[:10]) + more, language=None)
        with st.container(horizontal=True):
            yes = st.button(verb, type="primary", key="confirm_yes")
            no = st.button("Leave it", key="confirm_no")
        if yes:
            try:
                flash(action())
            except FleetQError as exc:
                problem("That did not work; nothing was changed by this attempt.", str(exc))
                return
        if yes or no:
            st.rerun()

    ask()


# -- pieces -----------------------------------------------------------------------------------------------------------


def tiles(facts: Sequence[views.Fact]) -> None:
    """Facts side by side, each in a box; as many in a row as fit."""
    with st.grid("auto", min_column_width=135, border=True):
        for fact in facts:
            with st.container(gap="xsmall"):
                st.caption(fact.label, help=fact.hint or None)
                with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
                    st.text(fact.value)
                    if fact.tone in _TONE_BADGES:
                        colour, word = _TONE_BADGES[fact.tone]
                        st.badge(word, color=colour)


def facts_grid(facts: Sequence[views.Fact]) -> None:
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
    for box, (name, count) in zip(st.columns(len(counts), border=True), counts.items(), strict=True):
        with box:
            status_badge(name)
            st.metric(name.capitalize(), f"{count:,}", label_visibility="collapsed")


def status_badge(status: str) -> None:
    """A status in its colour."""
    st.badge(status, color=_STATUS_BADGES.get(status, "gray"))


def sidebar_status(answer: Answer[Snapshot], pod_id: str, pod_state: str) -> None:
    """The few facts every page shows."""
    snap = answer.value
    if snap is None:
        st.badge("store down", color="red")
        return
    with st.container(horizontal=True, gap="xsmall"):
        st.badge("store down" if answer.problem else "store ok", color="red" if answer.problem else "green")
        st.badge(f"pod {pod_state}", color="green" if pod_state == "running" else "orange")
    st.caption("This pod")
    st.text(pod_id)
    as_of(snap.now_ts, stale=bool(answer.problem))


def attention_list(found: Sequence[views.Attention], page_of: Callable[[str], str]) -> None:
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


# -- tables -----------------------------------------------------------------------------------------------------------


def words(label: str, options: Sequence[str]) -> Any:
    """A column of words, each in its colour."""
    return st.column_config.MultiselectColumn(
        label, options=list(options), color=[_WORD_COLOURS.get(word, GREY) for word in options], width="small"
    )


def _rows(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [asdict(row) if is_dataclass(row) and not isinstance(row, type) else dict(row) for row in rows]


def table(rows: Sequence[Any], columns: dict[str, Any], alt: str, height: int | Literal["auto"] = "auto") -> None:
    """A table of dataclasses or dicts with just the `columns` given."""
    st.dataframe(
        _rows(rows), hide_index=True, column_config=columns, column_order=list(columns), width="stretch",
        height=height, placeholder="–", alt=alt,
    )  # fmt: skip


def picker(
    rows: Sequence[Any], ids: Sequence[str], columns: dict[str, Any], key: str, alt: str, *, many: bool = False
) -> list[str]:
    """A table whose rows can be selected; returns the ids of the selected ones.

    A selection arrives as positions in what was sent last, so those ids are kept for `picked`.
    """
    st.session_state[f"_{key}_ids"] = list(ids)
    st.dataframe(
        _rows(rows), key=_widget_key(key), hide_index=True, column_config=columns, column_order=list(columns),
        width="stretch", placeholder="–", alt=alt, on_select="rerun", selection_mode="multi-row" if many else "single-row",
    )  # fmt: skip
    return picked(key)


def picked(key: str) -> list[str]:
    """The ids selected in the `picker` of that key, as of the list last sent to this viewer."""
    state = st.session_state.get(_widget_key(key))
    ids = st.session_state.get(f"_{key}_ids", [])
    positions = state["selection"]["rows"] if state else []
    return [ids[position] for position in positions if position < len(ids)]


def unpick(key: str) -> None:
    """Select nothing in the `picker` of that key any more."""
    # The browser remembers the selection of a widget; under another key it is another widget.
    st.session_state[f"_{key}_turn"] = st.session_state.get(f"_{key}_turn", 0) + 1
    st.session_state.pop(f"_{key}_ids", None)


def _widget_key(key: str) -> str:
    return f"{key}_{st.session_state.get(f'_{key}_turn', 0)}"


STEP_COLUMNS = {
    "step_id": st.column_config.TextColumn("Step id", width=275),
    "status": words("Status", list(Status)),
    "task": "Task type",
    "priority": st.column_config.NumberColumn("Priority", width="small"),
    "retries": st.column_config.NumberColumn("Retries", width="small"),
    "pod": "Claimed by",
    "created": "Created (UTC)",
    "waited": st.column_config.TextColumn("Waited", width="small"),
    "run_s": st.column_config.NumberColumn("Ran (s)", format="%.3f", width="small"),
    "payload": st.column_config.TextColumn("Payload", width="large"),
    "error": st.column_config.TextColumn("Error", width="large"),
}
DEAD_LETTER_COLUMNS = {
    name: STEP_COLUMNS[name] for name in ("step_id", "task", "retries", "pod", "created", "error", "payload")
}
ATTEMPT_COLUMNS = {
    "number": st.column_config.NumberColumn("Attempt", width="small"),
    "outcome": "Outcome",
    "pod": "Pod",
    "claimed": "Claimed (UTC)",
    "ended": "Ended (UTC)",
    "run_s": st.column_config.NumberColumn("Ran (s)", format="%.3f"),
    "error": st.column_config.TextColumn("Error", width="large"),
    "recovery_run": "Recovery run",
}
POD_COLUMNS = {
    "pod": st.column_config.TextColumn("Pod", pinned=True),
    "life": words("Life", ["alive", "dead", "down"]),
    "leader": "Leader",
    "state": "State",
    "heartbeat_age_s": st.column_config.NumberColumn("Heartbeat age (s)", format="%.1f"),
    "load": st.column_config.ProgressColumn("Load", format="percent", min_value=0, max_value=1),
    "running": "Running",
    "capacity": "Capacity",
    "buffered": st.column_config.NumberColumn("Buffered", help="Claimed, waiting for a free slot."),
    "stuck": st.column_config.NumberColumn("Stuck", help="Handlers past their time limit that did not return."),
    "completed": "Completed",
    "failed": "Failed",
    "stale_refused": st.column_config.NumberColumn("Refused", help="Results that came after the claim was lost."),
    "outbox": st.column_config.NumberColumn("Outbox", help="Outcomes that wait for the store."),
    "birth": "Birth (UTC)",
    "version": "Version",
    "incarnation": "Incarnation",
    "last_error": st.column_config.TextColumn("Last error", width="large"),
}
COMMAND_COLUMNS = {
    "issued": "Issued (UTC)",
    "command": "Command",
    "target": st.column_config.TextColumn("Target", width="medium"),
    "by": "By",
    "state": words("State", ["open", "done", "refused"]),
    "answers": st.column_config.TextColumn("Answers", width="large"),
    "command_id": "Command id",
}
RUN_COLUMNS = {
    "started": "Started (UTC)",
    "state": words("State", ["finished", "held off", "interrupted"]),
    "trigger": "Trigger",
    "leader": "Leader",
    "orphans": "Orphans",
    "retried": st.column_config.NumberColumn("Retries due"),
    "resubmitted": "Resubmitted",
    "terminal": st.column_config.NumberColumn("Failed for good"),
    "duration_s": st.column_config.NumberColumn("Took (s)", format="%.3f"),
    "dead_pods": "Dead pods",
    "run_id": "Run id",
}
DECISION_COLUMNS = {
    "step_id": "Step id",
    "cause": "Cause",
    "action": words("Action", ["requeued", "terminal"]),
    "owner": "Owner",
    "retries": "Retries",
    "reason": st.column_config.TextColumn("Reason", width="large"),
}
RUNNING_COLUMNS = {
    "pod": "Pod",
    "task": "Task type",
    "step_id": "Step id",
    "seconds": st.column_config.NumberColumn("Runs for (s)", format="%.1f"),
    "note": "Note",
}


# -- a step -----------------------------------------------------------------------------------------------------------


def step_story(step: StepRecord, now_ts: float, max_retries: int) -> None:
    """Everything that is known about a step."""
    with st.container(horizontal=True, vertical_alignment="center"):
        status_badge(step.status.value)
        if step.is_dead_letter:
            st.badge("dead letter", color="red")
        st.text(views.step_sentence(step, now_ts))
    st.code(step.step_id, language=None)
    facts_grid(views.step_facts(step, now_ts, max_retries))
    if step.error:
        st.caption("Error" if step.status is Status.FAILED else "Error of the last attempt that did not complete")
        st.code(step.error, language=None, wrap_lines=True)
    left, right = st.columns(2)
    with left:
        st.caption("Payload")
        value(step.payload)
    with right:
        st.caption("Result")
        if step.status is Status.COMPLETED:
            result(step.result)
        else:
            empty("There is no result until the step completes.")
    st.caption("Attempts")
    found = views.attempts(step)
    if found:
        table(found, ATTEMPT_COLUMNS, "The attempts at this step")
    else:
        empty("No pod has tried this step yet.")


def value(content: JSON) -> None:
    """Any JSON value, as it is."""
    if isinstance(content, dict | list):
        st.json(content, expanded=2)
    else:
        st.code(str(content), language=None, wrap_lines=True)


def result(content: JSON) -> None:
    """A step's result; the profile of a file as a table."""
    columns = views.profile_columns(content)
    if columns is not None:
        facts_grid(views.profile_facts(content))
        names: list[str] = [name for name in ("name", "type") if name in columns[0]]
        names += [name for name in columns[0] if name not in names]
        table(columns, {name: name.replace("_", " ").capitalize() for name in names}, "The profile of the file")
    elif content is None:
        empty("The handler returned nothing.")
    else:
        value(content)
