"""The playground: a run is watched to its end, nonsense is refused, and simulated calls are submitted."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from fleetq_core.builtin import simulated_api
from fleetq_core.dashboard import playground
from fleetq_core.playground.play import Kind, play, scenario_of
from fleetq_core.playground.scenario import Mode
from fleetq_core.runtime import Runtime
from tests.pages.conftest import words


def page() -> None:
    """What AppTest runs."""
    from fleetq_core.dashboard import playground, widgets

    widgets.show_question()
    playground.draw()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The section on a page of its own, where a run is over at once."""
    monkeypatch.setattr(playground, "WATCHED_S", 1e-6)
    return AppTest.from_function(page, default_timeout=30).run()


def test_nothing_is_simulated_before_it_is_asked_for(at: AppTest) -> None:
    assert not at.exception
    assert at.subheader[0].value == "Playground"
    assert [tab.label for tab in at.tabs] == ["What would it do?", "On this fleet"]
    assert "Utilisation" not in words(at)


def test_a_run_ends_with_its_figures_and_its_log(at: AppTest) -> None:
    at.button(key="play_run").click().run()
    assert not at.exception
    told = words(at)
    assert playground.TITLES[Kind.POD] in told
    assert playground.TITLES[Kind.LITERAL] in told
    assert told.count("Utilisation") == 2
    assert "10 → 60" in told
    log = at.dataframe[0].value
    assert log["why"].tolist()[0] == "slow start"
    assert at.button(key="play_skip").disabled


def test_a_fleet_is_told_with_its_fairness(at: AppTest) -> None:
    at.number_input(key="play_clients").set_value(4)
    at.selectbox(key="play_scope").select("One limit for the fleet")
    at.selectbox(key="play_mode").select("Never refuses, calls time out")
    at.checkbox(key="play_beside").uncheck()
    at.button(key="play_run").click().run()
    assert not at.exception
    told = words(at)
    assert playground.TITLES[Kind.LITERAL] not in told
    assert "Fairness" in told
    assert "Timed out" in told
    assert "What moved the limit of the fleet" in told


@pytest.mark.parametrize(
    ("capacities", "said"),
    [("40, many", "'40, many' is not a list"), ("<b>1</b>", "'<b>1</b>' is not"), ("900", "at most 200,000")],
)
def test_capacities_that_are_none_are_named_as_text(at: AppTest, capacities: str, said: str) -> None:
    at.text_input(key="play_capacities").set_value(capacities)
    at.button(key="play_run").click().run()
    assert not at.exception
    assert [error.value for error in at.error] == ["That cannot be simulated."]
    assert any(said in code.value for code in at.code)
    assert "Utilisation" not in words(at)


def test_a_run_is_watched_and_can_be_skipped(at: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground, "WATCHED_S", 1e6)
    at.button(key="play_run").click().run()
    assert not at.exception
    assert "Utilisation" not in words(at)
    at.button(key="play_skip").click().run()
    assert not at.exception
    assert "Utilisation" in words(at)


def test_a_frame_shows_what_has_happened_by_now() -> None:
    run = play(scenario_of([8, 4], Mode.HARD, 1, playground.LENGTH_S), Kind.POD, 1, playground.SLICE_S)
    half = playground._frame(run, 450.0)
    assert half[half["series"] == playground.CAPACITY]["second"].max() == 900.0
    assert half[half["series"] == playground.LIMIT]["second"].max() == 445.0
    assert len(playground._frame(run, 0.0)) == len(run.slices) + 1
    shown = playground._spec([run])["encoding"]["color"]["scale"]["domain"]
    assert set(playground._frame(run, 900.0)["series"]) == set(shown)


def test_calls_are_submitted_to_this_fleet(running: Runtime) -> None:
    assert playground.submit(3, 0.01) == "3 steps of simulated_api submitted."
    found = running.queue.find_steps(limit=10)
    assert {step.task_type for step in found} == {simulated_api.NAME}
    done = [running.queue.wait(step.step_id, 20) for step in found]
    assert {step.status.value for step in done} == {"completed"}


def test_submitting_asks_first(at: AppTest) -> None:
    at.number_input(key="api_count").set_value(20)
    at.button(key="api_send").click().run()
    assert not at.exception
    assert "Submits 20 steps of task simulated_api" in words(at)
