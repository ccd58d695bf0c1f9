"""Acting on all that the filters find: which steps, what is asked, and what is said afterwards; and the time filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from fleetq_core.dashboard import step_actions, widgets
from fleetq_core.dashboard.views import acts, steps, times
from fleetq_core.errors import InvalidPayload
from fleetq_core.model import Decision, DecisionRecord, NewStep, Status, StepFilter
from fleetq_core.runtime import Runtime
from tests.pages.conftest import Open, words
from tests.pages.test_export import STEP
from tests.pages.test_people import MAIN, ROOT

PENDING, FAILED, COMPLETED = (StepFilter(status=status) for status in (Status.PENDING, Status.FAILED, Status.COMPLETED))
DEAD = StepFilter(dead_letters=True)


@pytest.mark.parametrize(
    ("where", "act", "narrowed"),
    [
        (StepFilter(), acts.REQUEUE, [FAILED]),
        (StepFilter(), acts.CANCEL, [PENDING]),
        (StepFilter(), acts.REPLAY, [COMPLETED, DEAD]),
        (PENDING, acts.REQUEUE, []),
        (PENDING, acts.CANCEL, [PENDING]),
        (PENDING, acts.REPLAY, []),
        (FAILED, acts.REQUEUE, [FAILED]),
        (FAILED, acts.CANCEL, []),
        (FAILED, acts.REPLAY, [DEAD]),
        (COMPLETED, acts.REQUEUE, []),
        (COMPLETED, acts.REPLAY, [COMPLETED]),
        (StepFilter(status=Status.CLAIMED), acts.REQUEUE, []),
        (StepFilter(status=Status.CLAIMED), acts.CANCEL, []),
        (StepFilter(status=Status.CLAIMED), acts.REPLAY, []),
        (DEAD, acts.REQUEUE, [StepFilter(status=Status.FAILED, dead_letters=True)]),
        (DEAD, acts.CANCEL, []),
        (DEAD, acts.REPLAY, [DEAD]),
    ],
)
def test_an_act_is_for_those_of_the_found_steps_that_can_take_it(
    where: StepFilter, act: acts.Act, narrowed: list[StepFilter]
) -> None:
    assert acts.narrowed(where, act) == narrowed


def test_the_filters_in_words() -> None:
    assert acts.filter_words(StepFilter()) == "All steps."
    assert acts.filter_words(DEAD) == "All dead letters."
    everything = StepFilter(Status.FAILED, "resize", "pod-1", "time out", 1768653240.0, 1768653300.0)
    assert acts.filter_words(everything) == (
        "All failed steps of the task resize, that pod pod-1 claimed last, with 'time out' in id, payload or error, "
        "created from 2026-01-17 12:34:00 UTC, created before 2026-01-17 12:35:00 UTC."
    )


def test_what_is_said_before_and_after() -> None:
    assert acts.question(acts.CANCEL, 1) == "1 pending step will fail for good without having run."
    assert acts.outcome(acts.REQUEUE, 9, 10) == "9 of 10 steps requeued; the others are not failed any more."
    assert acts.outcome(acts.REPLAY, 1200, 1200) == "1,200 of 1,200 steps replayed."


@pytest.mark.parametrize(
    ("text", "ts"),
    [
        ("2026-01-17 12:34", 1768653240.0), ("2026-01-17T12:34:00Z", 1768653240.0), ("2026-01-17", 1768608000.0),
        ("2026-01-17 13:34+01:00", 1768653240.0), ("", None), ("  ", None), (None, None),
    ],
)  # fmt: skip
def test_moments(text: str | None, ts: float | None) -> None:
    assert times.moment("from", text) == ts


@pytest.mark.parametrize("text", ["yesterday", "12:34", "2026-13-01", "17.01.2026", "0001-01-01T00:00+14:00 x"])
def test_what_is_no_moment_is_named(text: str) -> None:
    with pytest.raises(InvalidPayload, match="until: is "):
        times.moment("until", text)


def test_a_stretch_of_time_moves_in_steps() -> None:
    assert times.since("15 min", 10_009.0) == times.since("15 min", 10_000.0) == 9_100.0
    assert times.since("15 min", 10_010.0) == 9_110.0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Every question is answered with yes at once; what was asked."""
    seen: list[tuple[str, str, int]] = []

    def yes(title: str, question: str, action: Callable[[], str], *, items: Any = (), **_: object) -> None:
        seen.append((title, question, len(items)))
        widgets.flash(action())

    monkeypatch.setattr(widgets, "confirm", yes)
    return seen


def toasts(at: AppTest) -> list[str]:
    at.run()
    return [toast.value for toast in at.toast]


def test_all_that_match_are_cancelled_and_nothing_else(
    running: Runtime, show: Open, asked: list[tuple[str, str, int]]
) -> None:
    running.queue.order("pause", "*", by="test")
    running.pod.request_stop()  # type: ignore[union-attr]  # nothing is to be claimed here
    for n in range(130):
        running.queue.submit_steps([NewStep({"task_type": "echo", "n": n}, step_id=f"s-{n:03}")])
    before = {status: count for status, count in running.queue.stats().by_status().items() if count}
    at = show("steps", text="s-1", status="pending")
    at.button(key="all_cancel").click().run()
    assert not at.exception
    (title, question, count) = asked[0]
    assert question.startswith("All pending steps with 's-1' in id, payload or error.\n\n")
    assert f"Cancel {count} step" in title
    assert 0 < count <= 30 < before.get("pending", 0) + before.get("claimed", 0) + before.get("completed", 0)
    failed = running.queue.find_steps(StepFilter(status=Status.FAILED), limit=200)
    assert {step.step_id[:3] for step in failed} == {"s-1"}


def test_more_than_one_act_may_touch_is_said(
    running: Runtime, show: Open, asked: list[tuple[str, str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_actions, "MAX_BULK", 5)
    running.queue.submit_steps([NewStep({"task_type": "unknown"}, step_id=f"u-{n}", max_retries=0) for n in range(8)])
    for n in range(8):
        running.queue.wait(f"u-{n}", 20)
    at = show("steps", status="dead letters")
    at.button(key="all_replay").click().run()
    assert not at.exception
    (_, question, count) = asked[0]
    assert count == 5
    assert "More match than one act may touch: these are 5 of them." in question


def test_a_moment_that_is_none_is_named_and_shows_no_list(running: Runtime) -> None:
    at = AppTest.from_file(MAIN, default_timeout=30).run()
    at.switch_page(str(ROOT / "pages" / "steps.py"))
    at.query_params.update({"created": "between", "from": "yesterday"})
    at.run()
    assert not at.exception
    assert "it must be like 2026-01-17 12:30" in words(at)
    assert not at.dataframe


def test_a_changed_copy_starts_from_the_step(running: Runtime, show: Open) -> None:
    step_id = running.queue.submit_step({"task_type": "sleep", "seconds": "soon"}, priority=7)
    running.queue.wait(step_id, 20)
    at = show("submit", copy=step_id)
    area = at.text_area(key=f"payload_of_{step_id}")
    assert '"seconds": "soon"' in area.value
    area.set_value('{"seconds": 0}').run()
    at.button(key="send").click().run()
    assert not at.exception
    (copy,) = [step for step in running.queue.find_steps(limit=5) if step.step_id != step_id]
    assert (copy.task_type, copy.payload, copy.priority) == ("sleep", {"task_type": "sleep", "seconds": 0}, 7)


def test_a_copy_of_nothing_is_an_empty_form(running: Runtime, show: Open) -> None:
    at = show("submit", copy="no-such-step")
    assert not at.exception
    assert "cannot be read; this is an empty form" in words(at)
    assert at.selectbox(key="task_type").value


def test_a_run_that_died_before_its_decisions_is_named_by_the_steps_own_history() -> None:
    entries = [
        {"attempt": 1, "pod_id": "pod-1", "ended_ts": 1_800_000_000.0, "recovery_run_id": "run-1", "error": "died"},
        {"attempt": 2, "pod_id": "pod-2", "ended_ts": 1_800_000_060.0, "recovery_run_id": "run-2", "error": "died"},
        {"attempt": 3, "pod_id": "pod-3", "ended_ts": 1_800_000_120.0, "error": "failed"},
    ]
    decision = Decision("s", "orphan", "terminal", "pod-2", 1, "pod pod-2 is dead")
    record = DecisionRecord("run-2", "pod-3", 1_800_000_061.0, decision)
    newest, oldest = steps.touch_lines(replace(STEP, history=entries), [record])
    assert (newest.run_id, newest.leader, newest.reason) == ("run-2", "pod-3", "pod pod-2 is dead")
    assert (oldest.run_id, oldest.pod, oldest.reason) == ("run-1", "pod-1", steps.UNDECIDED)
    assert steps.touch_lines(STEP, []) == []
