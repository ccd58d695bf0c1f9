"""The download of the listed steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from fleetq_core.errors import InvalidPayload
from fleetq_core.model import StepFilter

from . import finder, shell, widgets
from .views import export as views
from .views.export import Format

_MADE = "_steps_file"
_LABELS = {Format.CSV: "CSV", Format.JSON_LINES: "JSON lines"}
_MIME = {Format.CSV: "text/csv", Format.JSON_LINES: "application/jsonl"}


@dataclass(frozen=True, slots=True)
class _Made:
    choices: list[Any]
    name: str
    file: views.StepFile


def draw() -> None:
    """Read the steps that match the filters into a file, and offer it."""
    snap, state = shell.fleet().value, st.session_state
    if snap is None:
        return
    try:
        where = finder.asked_for()
    except InvalidPayload:
        return  # the list says so
    if _MADE in state and state[_MADE].choices != finder.choices():
        del state[_MADE]
    found = views.expected(where, snap.stats)
    with st.popover("Download", icon=":material/download:", key="export", on_change="rerun"):
        st.text(views.before_sentence(found))
        with st.container(horizontal=True):
            pressed = [form for form in Format if st.button(
                f"Make {_LABELS[form]}", key=f"export_{form.value}"
            )]  # fmt: skip
        if pressed:
            state.pop(_MADE, None)
            state[_MADE] = _make(where, pressed[0], found)
        if _MADE in state:
            _offer(state[_MADE])
        if not pressed and _MADE not in state:
            widgets.empty(
                "Text cells that look like formulas get an apostrophe in CSV; JSON lines hold them as they are."
            )


def _make(where: StepFilter, form: Format, found: views.Expected) -> _Made:
    queue = shell.runtime().queue
    now_ts, bar = queue.store.now(), st.progress(0.0, text="Reading …")
    made = views.StepFile(form)
    for rows in views.fill(made, lambda after, limit: queue.find_steps(where, limit=limit, after=after)):
        bar.progress(min(1.0, rows / max(1, found.rows)), text=f"{rows:,} steps read")
    bar.empty()
    return _Made(finder.choices(), views.file_name(made, now_ts), made)


def _offer(made: _Made) -> None:
    st.text(views.after_sentence(made.file))
    if not made.file.rows:
        return
    st.download_button(
        f"Download {_LABELS[made.file.format]}", made.file.data.getvalue(), made.name, _MIME[made.file.format],
        key="export_download", on_click="ignore", type="primary", icon=":material/download:",
    )  # fmt: skip
    st.code(made.name, language=None)
