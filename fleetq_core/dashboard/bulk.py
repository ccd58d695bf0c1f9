"""Many steps at once: a file of JSON lines or CSV, checked line by line before anything is sent, or a demo load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import streamlit as st

from fleetq_core.demo import STEPS, demo_steps
from fleetq_core.errors import InvalidPayload, StoreError
from fleetq_core.ids import new_step_id
from fleetq_core.model import NewStep
from fleetq_core.runtime import Runtime
from fleetq_core.steps_file import Line, read_steps

from . import actions, columns, shell, tables, widgets
from .views.words import Fact, plural

MAX_LINES = 100_000
SHOWN = 200  # problems, and conflicts
EXAMPLE = """{"task_type": "echo", "message": "hello"}
{"payload": {"task_type": "sleep", "seconds": 2}, "priority": 5, "step_id": "nightly-1"}"""
_CHECKED, _SENT = "_steps_file_checked", "_steps_file_sent"


@dataclass(slots=True)
class Checked:
    """A file that was read: the steps that can be submitted, each with its id, and the lines that cannot."""

    file_id: str
    steps: list[NewStep] = field(default_factory=list)
    bad: list[Line] = field(default_factory=list)
    too_long: bool = False


@dataclass(slots=True)
class Sent:
    """What became of the steps so far."""

    asked: int
    ids: int = 0
    new: int = 0
    conflicts: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def known(self) -> int:
        """Steps that were there already, equal to what was given."""
        return self.ids - self.new - len(self.conflicts)


def draw_form() -> None:
    """Choose a file, see what is in it, send it."""
    if reason := shell.refusal():
        st.info(reason, icon=":material/visibility:")
        return
    upload = st.file_uploader("A file of steps", type=["jsonl", "ndjson", "csv"], key="steps_file",
                              help="JSON lines: a payload, or an object with payload, step_id, priority, max_retries. "
                              "CSV: a header with task_type; step_id, priority and max_retries are of the step, other "
                              "columns of its payload.")  # fmt: skip
    if upload is None:
        st.session_state.pop(_CHECKED, None)
        st.caption("For example:")
        st.code(EXAMPLE, language="json")
        _draw_demo()
        return
    checked = _checked(upload)
    widgets.facts_grid([Fact("Ready", plural(len(checked.steps), "step")),
                        Fact("Not ready", plural(len(checked.bad), "line"))])  # fmt: skip
    if checked.too_long:
        widgets.problem(f"Only the first {MAX_LINES:,} lines were read; send the rest as a file of its own.", "")
    if checked.bad:
        shown = [{"line": bad.number, "problem": bad.problem} for bad in checked.bad[:SHOWN]]
        tables.table(shown, columns.BAD_LINES, "Lines that cannot be submitted", height=240 if shown[6:] else "auto")
    if not checked.steps:
        return
    label = f"Submit {plural(len(checked.steps), 'step')}"
    if checked.bad:
        label += f", leave out {plural(len(checked.bad), 'line')}"
    if st.button(label, type="primary", icon=":material/send:", key="send_file"):
        st.session_state[_SENT] = _send(shell.runtime(), checked.steps)


def _draw_demo() -> None:
    st.caption(f"Or see the fleet at work: {STEPS} steps of the built-in tasks, some of which fail on purpose.")
    if st.button("Submit a demo load", icon=":material/rocket_launch:", key="demo"):
        st.session_state[_SENT] = _send(shell.runtime(), list(demo_steps()))


def _checked(upload: Any) -> Checked:
    """Read the file once for each upload. Ids are made here: sending it again after an error doubles nothing."""
    kept: Checked | None = st.session_state.get(_CHECKED)
    if kept is not None and kept.file_id == upload.file_id:
        return kept
    checked = Checked(upload.file_id)
    lines = _lines(shell.runtime(), upload.name, bytes(upload.getbuffer()))
    for line in islice(lines, MAX_LINES):
        if line.step is None:
            checked.bad.append(line)
        else:
            checked.steps.append(replace(line.step, step_id=line.step.step_id or new_step_id()))
    checked.too_long = next(lines, None) is not None
    st.session_state[_CHECKED] = checked
    return checked


def _lines(runtime: Runtime, name: str, content: bytes) -> Iterator[Line]:
    return read_steps(content, is_csv=name.lower().endswith(".csv"), priority=0, check=runtime.queue.check)


def _send(runtime: Runtime, steps: Sequence[NewStep]) -> Sent:
    sent = Sent(len(steps))
    bar = st.progress(0.0, text=f"0 of {plural(len(steps), 'step')}")
    try:
        for done in actions.submit_sets(runtime, steps):
            sent.ids += len(done.step_ids)
            sent.new += done.new
            sent.conflicts += done.conflicts
            bar.progress(sent.ids / len(steps), text=f"{sent.ids:,} of {plural(len(steps), 'step')}")
    except (StoreError, InvalidPayload) as exc:
        sent.problem = f"{type(exc).__name__}: {exc}"
    bar.empty()
    return sent


def draw_outcome() -> None:
    """What became of the file that was sent last."""
    sent: Sent | None = st.session_state.get(_SENT)
    if sent is None:
        widgets.empty("Send a file, and its summary appears here: how many steps are new, there already, or refused.")
        return
    widgets.facts_grid([
        Fact("New", f"{sent.new:,}", hint="Submitted now."),
        Fact("Already there", f"{sent.known:,}", hint="The same id with the same payload: nothing was changed."),
        Fact("Refused", f"{len(sent.conflicts):,}", hint="The id belongs to a step with another payload or priority."),
    ])  # fmt: skip
    if sent.problem:
        widgets.problem(f"It ended after {sent.ids:,} of {plural(sent.asked, 'step')}. What is above stands; send the "
                        "same file again for the rest: nothing is submitted twice.", sent.problem)  # fmt: skip
    if sent.conflicts:
        st.caption("These ids belong to other steps, which were left as they are:")
        st.code("\n".join(sent.conflicts[:SHOWN]), language=None, height=160)
    st.page_link(shell.page_path("steps"), label="See the steps", icon=":material/list_alt:")
