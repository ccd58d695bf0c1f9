"""The download of steps: what spreadsheets get, how much at most, and what is said about it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from fleetq_core.dashboard.views import export as views
from fleetq_core.dashboard.views.export import Expected, Format
from fleetq_core.model import PageKey, QueueStats, Status, StepFilter, StepRecord
from fleetq_core.runtime import Runtime
from tests.pages.conftest import Open, words
from tests.pages.test_pages import SilentStore

STEP = StepRecord(
    step_id="s", task_type="echo", payload={"task_type": "echo"}, priority=-5, status=Status.FAILED, retry_count=0,
    max_retries=None, claimed_by=None, incarnation=None, claim_token="secret-token", created_ts=1_800_000_000.0,
    claimed_ts=None, finished_ts=None, last_update_ts=1_800_000_000.0, retry_ts=None, run_s=None, result=None,
    error=None, history=[], recovery_run_id=None,
)  # fmt: skip
EVIL = ["=HYPERLINK(1)", "+1+cmd|'x'", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]


def steps(count: int, **fields: Any) -> list[StepRecord]:
    return [replace(STEP, step_id=f"s-{number}", created_ts=1e9 - number, **fields) for number in range(count)]


def made(found: list[StepRecord], form: Format = Format.CSV) -> tuple[views.StepFile, list[int]]:
    """The file of these steps, and how many the store was asked for each time."""
    asked: list[int] = []

    def read(after: PageKey | None, limit: int) -> list[StepRecord]:
        asked.append(limit)
        keys = [PageKey(step.created_ts, step.step_id) for step in found]
        start = keys.index(after) + 1 if after else 0
        return found[start : start + limit]

    file = views.StepFile(form)
    assert list(views.fill(file, read))[-1] == file.rows
    return file, asked


def table(file: views.StepFile) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.data.getvalue().decode(), newline="")))


@pytest.mark.parametrize("text", EVIL)
def test_no_cell_of_a_csv_is_a_formula(text: str) -> None:
    file, _ = made(
        [replace(STEP, step_id=text, task_type=text, payload=text, error=text, result=text, claimed_by=text)]
    )
    (row,) = table(file)
    for cell in row.values():
        assert not cell.startswith(("=", "+", "@", "\t", "\r", "\n"))
    assert {row[name] for name in ("step_id", "task_type", "payload", "error", "result", "claimed_by")} == {f"'{text}"}
    assert row["priority"] == "-5"  # a number is no formula
    assert "secret-token" not in file.data.getvalue().decode()


def test_json_lines_hold_the_values_as_they_are() -> None:
    file, _ = made([replace(STEP, payload={"task_type": "echo", "text": text}) for text in EVIL], Format.JSON_LINES)
    lines = [json.loads(line) for line in file.data.getvalue().decode().split("\n")[:-1]]
    assert [line["payload"]["text"] for line in lines] == EVIL
    assert lines[0]["created_ts"] == "2027-01-15 08:00:00"


@pytest.mark.parametrize("form", Format)
def test_text_that_has_no_encoding_does_not_stop_the_file(form: Format) -> None:
    file, _ = made([replace(STEP, error="a\ud800b", payload={"x": "\ud800"})], form)
    text = file.data.getvalue().decode()
    assert "a\\ud800b" in text
    if form is Format.JSON_LINES:
        assert json.loads(text)["payload"] == {"x": "\ud800"}


@pytest.mark.parametrize("count", [0, 1, views.PAGE, views.PAGE + 1, 2 * views.PAGE])
def test_every_step_is_there_once_and_in_order(count: int) -> None:
    found = steps(count)
    file, asked = made(found)
    assert [row["step_id"] for row in table(file)] == [step.step_id for step in found]
    assert (file.rows, file.cut) == (count, None)
    assert max(asked) == views.PAGE + 1
    assert len(asked) == max(1, -(-count // views.PAGE))


@pytest.mark.parametrize(("count", "cut"), [(views.MAX_ROWS, False), (views.MAX_ROWS + 1, True)])
def test_a_file_has_at_most_ten_thousand_rows_and_says_so(count: int, cut: bool) -> None:
    file, asked = made(steps(count))
    assert len(table(file)) == file.rows == views.MAX_ROWS == 10_000
    assert sum(limit - 1 for limit in asked) == views.MAX_ROWS
    told = views.after_sentence(file)
    assert told.startswith("10,000 steps in the file")
    assert ("older ones are left out" in told) is cut


def test_a_file_of_huge_steps_ends_early_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_BYTES", 3_000_000)
    file, _ = made(steps(9, payload="x" * 1_000_000))
    assert views.after_sentence(file) == (
        "3 steps in the file; at 3 MB it is full: narrow the filters for the older ones."
    )
    assert made(steps(3, payload="x" * 1_000_000))[0].cut is None  # just full, and nothing left out


def test_how_much_will_be_read_is_said_before() -> None:
    stats = QueueStats(0.0, pending=1, claimed=2, completed=20_000, failed=4, dead_letters=3)
    told = {
        StepFilter(): "20,007 steps match; the newest 10,000 are read.",
        StepFilter(status=Status.PENDING): "1 step to read, the newest first.",
        StepFilter(dead_letters=True): "3 steps to read, the newest first.",
        StepFilter(status=Status.CLAIMED, text="x"): (
            "Those of 2 steps that match are read, the newest first, at most 10,000."
        ),
    }
    assert {where: views.before_sentence(views.expected(where, stats)) for where in told} == told
    assert views.before_sentence(Expected(0, True)) == "No step matches yet."
    assert views.expected(StepFilter(), stats).rows == 10_000


def test_the_files_name_has_the_databases_time() -> None:
    file, _ = made(steps(1), Format.JSON_LINES)
    assert views.file_name(file, 1_800_000_000.0) == "fleetq-steps-20270115-080000Z.jsonl"


def press(at: AppTest, form: Format) -> AppTest:
    return at.button(key=f"export_{form.value}").click().run()


def test_the_listed_steps_are_downloaded(running: Runtime, show: Open) -> None:
    ids = running.queue.submit_steps([{"task_type": "echo", "message": f"n{number}"} for number in range(300)])
    at = press(show("steps"), Format.CSV)
    assert not at.exception
    assert "300 steps in the file." in words(at)
    assert any(code.value.startswith("fleetq-steps-") and code.value.endswith(".csv") for code in at.code)
    assert sum(row["step_id"] in set(ids) for row in table(at.session_state["_steps_file"].file)) == 300

    at = press(show("steps", text=ids[0]), Format.JSON_LINES)
    assert "1 step in the file." in words(at)
    at.query_params["text"] = "nothing has this"
    at.text_input(key="text").set_value("nothing has this").run()
    assert "in the file" not in words(at)  # the file was of other filters
    assert "0 steps in the file." in words(press(at, Format.CSV))


def test_a_store_that_goes_away_ends_the_reading_with_a_word(running: Runtime, show: Open) -> None:
    running.queue.submit_step({"task_type": "echo"})
    at = show("steps")
    store, running.queue.store = running.queue.store, SilentStore()  # type: ignore[assignment]
    try:
        press(at, Format.CSV)
    finally:
        running.queue.store = store
    assert not at.exception
    assert any("does not answer" in error.value for error in at.error)
    assert "in the file" not in words(at)
