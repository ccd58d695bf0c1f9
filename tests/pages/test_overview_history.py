"""The curves of the Overview page: spans, gaps, ranges, and how seldom the store is asked for them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fleetq_core.dashboard import snapshot
from fleetq_core.dashboard.snapshot import History
from fleetq_core.dashboard.views import overview, words
from fleetq_core.errors import StoreUnavailable
from fleetq_core.model import WorkSpan
from fleetq_core.runtime import Runtime
from tests.pages.conftest import Open
from tests.pages.conftest import words as told
from tests.support.waiting import eventually

HOUR = 3600.0
START = 1_800_000 * HOUR
WEEK = 7 * 24 * HOUR


def span(n: int, submitted: int = 0, **worst: float | None) -> WorkSpan:
    figures: dict[str, Any] = {
        "oldest_pending_s": None, "wait_p50_s": None, "wait_p95_s": None, "wait_p99_s": None,
        "run_p50_s": None, "run_p95_s": None, "run_p99_s": None,
    } | worst  # fmt: skip
    return WorkSpan(START + n * HOUR, HOUR, submitted, submitted // 2, 1, 5, 2, 1, **figures)


def past(*spans: WorkSpan) -> History:
    return History(START + 5 * HOUR, HOUR, spans)


def of(points: list[overview.Point], series: str) -> list[tuple[float, float | None]]:
    return [((ts - START) / HOUR, value) for ts, name, value in points if name == series]


def test_a_curve_ends_where_there_was_no_sample_and_goes_on_behind() -> None:
    points = overview.depth_points(past(span(0), span(2), span(5)))
    assert of(points, "pending") == [(0, 5), (2, 5), (3, 5), (3, None), (5, 5), (6, 5), (6, None)]


def test_a_single_span_is_a_line_as_wide_as_it_is() -> None:
    assert of(overview.throughput_points(past(span(0, 7200))), "submitted") == [(0, 2.0), (1, 2.0), (1, None)]


def test_rates_are_over_the_seconds_that_samples_cover() -> None:
    assert of(overview.throughput_points(past(span(0, 7200))), "completed")[0] == (0, 1.0)


def test_a_span_in_which_nothing_finished_is_a_gap_in_the_percentiles() -> None:
    points = overview.run_points(past(span(0, run_p50_s=0.25, run_p99_s=3.0), span(1), span(2, run_p50_s=0.5)))
    assert of(points, "p50") == [(0, 0.25), (1, 0.25), (1, None), (2, 0.5), (3, 0.5), (3, None)]
    assert of(points, "p99") == [(0, 3.0), (1, 3.0), (1, None)]
    assert overview.wait_points(past(span(0))) == []


def test_the_newest_figures_are_told_in_words() -> None:
    newest = past(span(3, wait_p50_s=9.0), span(4, 1800, wait_p50_s=0.25, wait_p95_s=75.0))
    assert overview.latest(overview.wait_points(newest), newest) == "p50 250 ms, p95 1 min 15 s"
    assert overview.latest(overview.throughput_points(newest), newest) == "submitted 0.50, completed 0.25, failed 0.00"
    assert overview.latest(overview.depth_points(past(span(0))), past(span(0))) == "nothing lately"


def test_an_hour_of_a_day_reads_well() -> None:
    assert words.day_and_hour(0.0) == "Thu 01 Jan 00:00"


@pytest.mark.parametrize(
    ("seconds", "width_s"), [(300, 10), (900, 10), (3600, 20), (21_600, 120), (86_400, 480), (604_800, 3360)]
)
def test_a_range_has_as_many_spans_as_a_chart_can_show(seconds: float, width_s: float) -> None:
    assert snapshot.span_width_s(seconds, 10.0) == width_s


class Counting:
    """Stands in for the store's method: counts, and answers as it is told."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[float]()

    def __call__(self, since_ts: float, width_s: float) -> list[WorkSpan]:
        self.asked.append(since_ts)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it to let time pass for the shared answers."""
    passed = [0.0]
    real = time.monotonic
    monkeypatch.setattr(snapshot.time, "monotonic", lambda: real() + passed[0])

    def wait(count: float) -> None:
        passed[0] += 60 * count

    return wait


def read(running: Runtime) -> Any:
    return snapshot.history(running, START + 0.5 * HOUR, WEEK)


def test_all_viewers_share_one_read_of_a_week_in_a_quarter_of_a_span(
    running: Runtime, monkeypatch: pytest.MonkeyPatch, minutes: Any
) -> None:
    asked = Counting([span(0, 3)])
    monkeypatch.setattr(running.queue.store, "work_history", asked)
    for _ in range(5):
        assert read(running).value.spans == (span(0, 3),)
    width_s = snapshot.span_width_s(WEEK, running.config.sample_interval)
    minutes(width_s / 4 / 60 - 1)
    read(running)
    assert asked.asked == [(START + 0.5 * HOUR - WEEK) // width_s * width_s]
    minutes(1.1)
    read(running)
    assert len(asked.asked) == 2


def test_a_read_that_failed_or_found_nothing_is_soon_tried_again(
    running: Runtime, monkeypatch: pytest.MonkeyPatch, minutes: Any
) -> None:
    asked = Counting([], StoreUnavailable("away"), [span(0, 3)])
    monkeypatch.setattr(running.queue.store, "work_history", asked)
    assert read(running) == snapshot.Answer(None)
    minutes(0.2)
    assert "away" in read(running).problem
    assert len(asked.asked) == 2
    minutes(0.2)
    assert read(running).value.spans == (span(0, 3),)
    minutes(0.2)
    read(running)
    assert len(asked.asked) == 3


def test_the_page_shows_the_curves_as_soon_as_there_is_a_sample(running: Runtime, show: Open) -> None:
    eventually(lambda: running.queue.store.work_history(0.0, HOUR))
    at = eventually(lambda: (page := show("overview")) and "Waiting time" in told(page) and page, timeout_s=30)
    assert len(at.get("vega_lite_chart")) + len(at.get("arrow_vega_lite_chart")) == 4
    assert not at.exception


def test_the_page_says_when_the_past_cannot_be_read(
    running: Runtime, show: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.queue.store, "work_history", Counting(StoreUnavailable("Snowflake: no answer")))
    assert "The past cannot be read just now" in told(show("overview"))
