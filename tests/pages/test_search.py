"""Looking for steps where no index helps: a slice at a time, as far back as the viewer asks, and never all at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from fleetq_core import runtime
from fleetq_core.dashboard import search, snapshot
from fleetq_core.model import PageKey, StepFilter
from fleetq_core.runtime import Runtime
from tests.pages.conftest import Open, words

SLICE, STEPS, PAGE = 20, 95, 5
ADDRESS, POD = {"text": "needle"}, {"pod": "nobody"}


@pytest.fixture
def hay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Runtime]:
    """A dashboard without a pod; s-07 and s-66 hold what is sought."""
    monkeypatch.setenv("FLEET_Q_STORE", f"sqlite:///{tmp_path}/fleetq.db")
    monkeypatch.setenv("FLEET_Q_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FLEET_Q_ROLE", "dashboard")
    monkeypatch.setattr(search, "SLICE", SLICE)
    runtime.shutdown()
    app = runtime.get_runtime()
    for n in range(STEPS):
        note = "needle" if n in (7, 66) else "hay"
        app.queue.submit_step({"task_type": "echo", "note": note}, step_id=f"s-{n:02}")
    yield app
    runtime.shutdown()


def ids(page: search.Page | None) -> list[str]:
    assert page is not None
    return [step.step_id for step in page.steps]


def test_a_look_by_text_stops_after_a_slice_and_goes_on_when_it_is_asked(hay: Runtime) -> None:
    where, looked = StepFilter(text="needle"), list[float]()
    first = search.page(hay, where, None, PAGE).value
    assert first is not None
    assert ids(first) == []  # s-94 to s-75
    assert first.older is not None
    assert first.looked_to == hay.queue.get_step("s-75").created_ts  # type: ignore[union-attr]
    second = search.further(hay, where, first.older, looked.append)
    assert ids(search.page(hay, where, second, PAGE).value) == ["s-66"]
    assert looked == [hay.queue.get_step("s-55").created_ts]  # type: ignore[union-attr]
    rest = search.page(hay, where, second, PAGE).value
    assert rest is not None
    assert rest.older is not None
    last = search.page(hay, where, search.further(hay, where, rest.older, looked.append), PAGE).value
    assert ids(last) == ["s-07"]
    assert len(looked) == 3  # two slices without a match lay between
    assert last is not None
    assert (last.older, last.looked_to) == (None, None)


def test_where_nothing_matches_the_look_ends_with_the_last_slice(hay: Runtime) -> None:
    where = StepFilter(text="no such thing")
    first = search.page(hay, where, None, PAGE).value
    assert first is not None
    assert first.older is not None
    looked: list[float] = []
    end = search.further(hay, where, first.older, looked.append)
    last = search.page(hay, where, end, PAGE).value
    assert last == search.Page([], None, None)
    assert len(looked) == STEPS // SLICE - 1


def test_pages_within_a_slice_go_on_by_key_and_no_step_is_left_out(hay: Runtime) -> None:
    where, seen, after = StepFilter(text="hay"), list[str](), None
    while True:
        page = search.page(hay, where, after, PAGE).value
        assert page is not None
        seen += ids(page)
        if page.older is None:
            break
        after = page.older
    assert seen == [f"s-{n:02}" for n in reversed(range(STEPS)) if n not in (7, 66)]


def test_what_has_an_index_or_lies_within_the_slice_is_not_cut(hay: Runtime) -> None:
    since = hay.queue.get_step("s-80").created_ts  # type: ignore[union-attr]
    for where in (StepFilter(), StepFilter(dead_letters=True), StepFilter(text="needle", created_from=since)):
        page = search.page(hay, where, None, PAGE).value
        assert page is not None
        assert page.looked_to is None
    assert search.page(hay, StepFilter(), None, PAGE).value.older == PageKey(  # type: ignore[union-attr]
        hay.queue.get_step("s-90").created_ts,
        "s-90",  # type: ignore[union-attr]
    )


def test_the_page_says_how_far_it_looked_and_goes_on(hay: Runtime, show: Open) -> None:
    at = show("steps", **ADDRESS)
    assert "No match among them. Looked through the newest 20 steps, back to " in words(at)
    at = press(at)
    assert not at.exception
    assert [frame.value["step_id"].tolist() for frame in at.dataframe] == [["s-66"]]
    at = press(at)
    assert "s-07" in str([frame.value for frame in at.dataframe])
    assert not [button for button in at.button if button.label == "Look further back"]
    assert [button.disabled for button in at.button if button.label == "Older"] == [True]


def test_a_pod_that_is_nowhere_is_said_to_be_nowhere(hay: Runtime, show: Open) -> None:
    at = press(show("steps", **POD))
    assert "No older step matches these filters." in words(at)


def press(at: AppTest) -> AppTest:
    next(button for button in at.button if button.label == "Look further back").click()
    return at.run()


def test_an_answer_that_takes_much_of_a_core_is_read_less_often(hay: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    class Time:
        now = cpu = 100.0

        def monotonic(self) -> float:
            return self.now

        def thread_time(self) -> float:
            return self.cpu

    time = Time()
    monkeypatch.setattr(snapshot, "time", time)

    def read() -> float:
        time.cpu += 0.1  # a tenth of a second each time
        return time.now

    for time.now, answer in ((100.0, 100.0), (109.9, 100.0), (110.1, 110.1)):
        assert snapshot.shared(hay, "heavy", read, ttl_s=1.5).value == answer
