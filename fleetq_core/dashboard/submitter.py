"""The submit form and the view that follows what was submitted."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from fleetq_core.errors import FleetQError, InvalidPayload, StoreError
from fleetq_core.model import JSON, StepRecord
from fleetq_core.runtime import Runtime
from fleetq_core.tasks import Task

from . import actions, shell, snapshot, story, widgets
from .views import steps, words

FILE_TASK = "process_data"
_IDS_KEY = "_submitted"
_DONE_KEY = "_submitted_done"
TEMPLATES = {
    "echo": '{\n  "message": "hello"\n}',
    "sleep": '{\n  "seconds": 5\n}',
    "http_request": '{\n  "url": "http://127.0.0.1:8501/health"\n}',
    "snowflake_sql": '{\n  "sql": "select current_version()"\n}',
}


def draw_form() -> None:
    """Task, payload, priority, count. Nothing is submitted that the queue would refuse."""
    runtime = shell.runtime()
    tasks = {task.name: task for task in runtime.tasks.all()}
    names = list(tasks) if runtime.pod else steps.known_tasks(shell.fleet().value, tasks)
    if not names:
        widgets.empty("This pod knows no task. Register one with @task and name its module in FLEET_Q_HANDLERS.")
        return
    copied = _copied()
    if copied is not None:
        task = copied.task_type
        _draw_origin(copied)
        payload = _draw_json(task, _without_task(copied.payload), f"payload_of_{copied.step_id}")
    else:
        first = names.index(FILE_TASK) if FILE_TASK in names else 0
        task = st.selectbox("Task type", names, key="task_type", bind="query-params", index=first) or names[0]
        st.text(_about(tasks.get(task)))
        payload = _draw_payload(task)
    left, right = st.columns(2)
    priority = left.number_input(
        "Priority", value=copied.priority if copied else 0, step=1, key=f"priority_of_{copied.step_id}" if copied else
        "priority", help="Higher goes first.",
    )  # fmt: skip
    count = right.number_input(
        "Count", value=1, min_value=1, max_value=actions.MAX_COUNT, step=1, key="count", help="How many equal steps."
    )
    step_id = st.text_input(
        "Step id (optional)", key="step_id", max_chars=200, placeholder="made for you",
        help="The same id with the same payload again is a no-op.",
    )  # fmt: skip
    label = "Submit" if count == 1 else f"Submit {int(count):,} steps"
    if st.button(label, type="primary", icon=":material/send:", key="send"):
        _send(runtime, task, payload, int(priority), int(count), (step_id or "").strip() or None)


def _copied() -> StepRecord | None:
    """The step that the address asks to start from."""
    step_id = st.query_params.get("copy")
    if not step_id:
        return None
    answer = snapshot.step(shell.runtime(), step_id)
    if answer.value is None:
        widgets.problem("The step to copy cannot be read; this is an empty form.", answer.problem or step_id)
    return answer.value


def _draw_origin(step: StepRecord) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"A new step of the task {step.task_type}, from the payload of {step.step_id}", width="content")
        st.page_link(shell.page_path("submit"), label="Start from nothing", icon=":material/close:")


def _without_task(payload: JSON) -> str:
    told = {key: value for key, value in payload.items() if key != "task_type"} if isinstance(payload, dict) else {}
    return json.dumps(told, indent=2, ensure_ascii=False)


def _about(task: Task | None) -> str:
    if task is None:
        return "A task that pods elsewhere know and this process does not."
    limit = f"Time limit {words.duration(task.timeout_s)}." if task.timeout_s else "No time limit."
    return f"{task.description}\n\n{limit}".strip().replace("`", "")


def _draw_payload(task: str) -> Any:
    if task != FILE_TASK:
        return _draw_json(task, TEMPLATES.get(task, "{\n}"), f"payload_{task}")
    if shell.runtime().pod is None:  # what is kept on this machine would reach no pod
        typed = st.text_input("Path of a file on the pods' machine", key="path", placeholder="/data/file.csv")
        return (typed or "").strip()
    upload = st.file_uploader("A CSV or Parquet file", type=["csv", "tsv", "parquet"], key="upload")
    path = st.text_input(
        "Or the path of a file on the pods' machine",
        key="path",
        disabled=upload is not None,
        placeholder="/data/file.csv",
    )
    return upload if upload is not None else (path or "").strip()


def _draw_json(task: str, first: str, key: str) -> str:
    text = st.text_area("Payload (JSON)", first, key=key, height=180) or ""
    try:
        actions.check(shell.runtime(), actions.parse_payload(task, text))
    except InvalidPayload as exc:
        widgets.problem("This payload cannot be submitted yet.", str(exc))
    return text


def _send(runtime: Runtime, task: str, given: Any, priority: int, count: int, step_id: str | None) -> None:
    try:
        if task != FILE_TASK or st.query_params.get("copy"):
            payload = actions.parse_payload(task, given)
        elif not given:
            raise InvalidPayload("payload.file", "is missing: upload a file, or give a path")
        else:
            # Everything but the file is checked before the file is kept.
            actions.check(runtime, {"task_type": task, "file": ""}, priority, step_id)
            path = given if isinstance(given, str) else actions.save_upload(runtime, given.name, given.getbuffer())
            payload = {"task_type": task, "file": path}
        actions.check(runtime, payload, priority, step_id)
        ids = actions.submit(runtime, payload, priority, count, step_id)
    except StoreError as exc:
        widgets.store_down(exc)
    except FleetQError as exc:
        widgets.problem("Nothing was submitted.", str(exc))
    except OSError as exc:
        widgets.problem("The file could not be kept on this machine, so nothing was submitted.", str(exc))
    else:
        st.session_state[_IDS_KEY], st.session_state[_DONE_KEY] = ids, False


def is_open() -> bool:
    """Whether there is a submitted step whose end has not been seen."""
    return bool(st.session_state.get(_IDS_KEY)) and not st.session_state.get(_DONE_KEY)


def draw_outcome() -> None:
    """Follow the first submitted step to its end."""
    runtime = shell.runtime()
    ids: list[str] = st.session_state.get(_IDS_KEY, [])
    if not ids:
        widgets.empty("Submit a step: it appears here, and you can watch it go from pending to completed.")
        return
    if len(ids) > 1:
        st.text(f"{words.plural(len(ids), 'step')} submitted; this is the first of them.")
        with st.expander("All step ids"):
            st.code("\n".join(ids), language=None, height=200)
    answer = snapshot.step(runtime, ids[0])
    if answer.problem:
        raise StoreError(answer.problem)
    step, snap = answer.value, shell.fleet().value
    if step is None or snap is None:
        widgets.empty("The step was submitted; the store has not shown it yet.")
        return
    now_ts = max(snap.now_ts, step.last_update_ts)
    widgets.as_of(now_ts)
    story.draw(step, now_ts, runtime.config.max_retries, snap)
    st.page_link(
        shell.page_path("steps"), label="Link to this step", icon=":material/link:", query_params={"step": ids[0]}
    )
    if step.is_final and is_open():
        st.session_state[_DONE_KEY] = True
        st.rerun()  # once more without the timer
