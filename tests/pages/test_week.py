"""The days before on the Overview page, and how seldom the store is asked for them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fleetq_core.dashboard import snapshot
from fleetq_core.dashboard.views import overview, words
from fleetq_core.errors import StoreUnavailable
from fleetq_core.model import HourOfWork
from fleetq_core.runtime import Runtime
from tests.pages.conftest import Open
from tests.pages.conftest import words as told
from tests.support.waiting import eventually

HOUR = 3600.0
START = 1_800_000 * HOUR


def hour(n: int, submitted: int = 0, **worst: float | None) -> HourOfWork:
    figures = {"oldest_pending_s": None, "wait_p95_s": None, "run_p95_s": None} | worst
    return HourOfWork(START + n * HOUR, submitted, submitted // 2, 1, **figures)


def test_hours_without_a_sample_count_nothing_up_to_now() -> None:
    points = overview.hour_points([hour(0, 10), hour(2, 4)], START + 4 * HOUR + 1)
    assert [(ts, value) for ts, name, value in points if name == "submitted"] == [
        (START + n * HOUR, value) for n, value in enumerate((10, 0, 4, 0, 0))
    ]
    assert [value for _, name, value in points if name == "completed"] == [5, 0, 2, 0, 0]
    assert [value for _, name, value in points if name == "failed"] == [1, 0, 1, 0, 0]


def test_the_worst_of_an_hour_is_told_where_there_was_any() -> None:
    points = overview.worst_points([hour(0), hour(1, oldest_pending_s=12.0, run_p95_s=0.51239)])
    assert points == [(START + HOUR, "oldest pending", 12.0), (START + HOUR, "run p95", 0.512)]


def test_an_hour_of_a_day_reads_well() -> None:
    assert words.day_and_hour(0.0) == "Thu 01 Jan 00:00"


class Counting:
    """Stands in for the store's method: counts, and answers as it is told."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[float]()

    def __call__(self, since_ts: float) -> list[HourOfWork]:
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
    return snapshot.week(running, START + 0.5 * HOUR)


def test_all_viewers_share_one_read_in_five_minutes(
    running: Runtime, monkeypatch: pytest.MonkeyPatch, minutes: Any
) -> None:
    asked = Counting([hour(0, 3)])
    monkeypatch.setattr(running.queue.store, "hourly_history", asked)
    for _ in range(5):
        assert read(running).value.hours == (hour(0, 3),)
    minutes(4)
    read(running)
    assert asked.asked == [START - 7 * 24 * HOUR]
    minutes(1.1)
    read(running)
    assert len(asked.asked) == 2


def test_a_read_that_failed_or_found_nothing_is_soon_tried_again(
    running: Runtime, monkeypatch: pytest.MonkeyPatch, minutes: Any
) -> None:
    asked = Counting([], StoreUnavailable("away"), [hour(0, 3)])
    monkeypatch.setattr(running.queue.store, "hourly_history", asked)
    assert read(running) == snapshot.Answer(None)
    minutes(0.2)
    assert "away" in read(running).problem
    assert len(asked.asked) == 2
    minutes(0.2)
    assert read(running).value.hours == (hour(0, 3),)
    minutes(0.2)
    read(running)
    assert len(asked.asked) == 3


def test_the_page_shows_it_as_soon_as_there_is_a_sample(running: Runtime, show: Open) -> None:
    eventually(lambda: running.queue.store.hourly_history(0.0))
    at = eventually(
        lambda: (page := show("overview")) and "The worst of each hour" in told(page) and page, timeout_s=30
    )
    assert "7 days by hour" in told(at)
    assert not at.exception


def test_the_page_says_when_the_days_before_cannot_be_read(
    running: Runtime, show: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.queue.store, "hourly_history", Counting(StoreUnavailable("Snowflake: no answer")))
    assert "The days before cannot be read just now." in told(show("overview"))
