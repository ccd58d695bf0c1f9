"""Every page in every state: an empty store, a busy one, and one that does not answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fleetq_core.errors import StoreUnavailable
from fleetq_core.model import Identity, Status
from fleetq_core.runtime import Runtime
from tests.pages.conftest import PAGES, Open, words
from tests.support.waiting import eventually

HOSTILE = "<script>alert(1)</script> **bold** :material/home:"


class SilentStore:
    """A store whose every answer is that it is away."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*args: object, **kwargs: object) -> object:
            raise StoreUnavailable("the database went away")

        return refuse


@pytest.fixture
def busy(running: Runtime) -> Runtime:
    queue = running.queue
    queue.submit_step({"task_type": "echo", "message": HOSTILE}, step_id="echo-1")
    queue.submit_step({"task_type": "sleep", "seconds": "no"}, step_id="dead-1")
    queue.submit_step({"task_type": "sleep", "seconds": 600}, step_id="long-1")
    queue.wait("echo-1", 20)
    queue.wait("dead-1", 20)
    eventually(
        lambda: any(run["step_id"] == "long-1" for pod in queue.store.list_pods() for run in pod.meta["running"])
    )
    eventually(lambda: len(queue.store.list_samples(0, 10)) >= 2)
    return running


@pytest.fixture
def down(busy: Runtime) -> Iterator[Runtime]:
    store = busy.queue.store
    busy.queue.store = SilentStore()  # type: ignore[assignment]
    yield busy
    busy.queue.store = store


@pytest.mark.parametrize("name", PAGES)
def test_an_empty_store_is_explained(running: Runtime, show: Open, name: str) -> None:
    at = show(name)
    assert not at.exception
    assert not at.error
    assert at.title[0].value == PAGES[name]
    expected = {
        "overview": "No pod reported a running step.",
        "steps": "There are no steps yet.",
        "submit": "Submit a step: it appears here",
        "pods": "Select a pod for its story",
        "recovery": "There are no dead letters",
        "throttles": "No living pod has a throttle.",
        "cost": "its statements cost nothing",
        "audit": "Nobody has ordered anything yet.",
    }
    assert expected[name] in words(at)


@pytest.mark.parametrize("nonsense", ["x", 7, [[7], "x"], {"x": {"y": 1}}, -1.5, True], ids=str)
def test_what_a_pod_of_another_version_publishes_breaks_no_page(running: Runtime, show: Open, nonsense: Any) -> None:
    assert running.pod is not None
    strange = dict.fromkeys(running.pod.meta(), nonsense)
    running.queue.store.register_pod(Identity("strange", "strange-1"), strange)
    for name in PAGES:
        assert not show(name).exception, name
    assert not show("pods", pod="strange").exception


STORIES = {
    "steps": [{"step": "echo-1"}, {"step": "dead-1"}, {"step": "long-1"}, {"text": HOSTILE}, {"created": "1 h"}],
    "pods": [{"pod": "pod-under-test"}, {"pod": HOSTILE}],
    "recovery": [{"run": HOSTILE}],
    "submit": [{"copy": "echo-1"}, {"copy": HOSTILE}],
    "throttles": [{"throttle": HOSTILE}],
}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_of_a_busy_fleet_works_and_takes_no_data_for_markup(busy: Runtime, show: Open, name: str) -> None:
    for query in [{}, *STORIES.get(name, [])]:
        at = show(name, **query)
        assert not at.exception, query
        assert at.title[0].value == PAGES[name]
        marked = [str(one.value) for kind in (at.markdown, at.caption, at.subheader, at.title) for one in kind]
        assert not any("<script" in text or "<b>" in text for text in marked), query


def test_overview_shows_what_is_there(busy: Runtime, show: Open) -> None:
    at = show("overview")
    assert not at.exception
    assert [metric.value for metric in at.metric] == ["0", "1", "1", "1"]
    assert "pod-under-test" in words(at)
    assert "1 dead letter waits for a decision" in words(at)
    loads, running = (table.value for table in at.dataframe)
    assert (loads["pod"].tolist(), loads["running"].tolist()) == (["pod-under-test"], [1])
    assert running["step_id"].tolist() == ["long-1"]
    assert "as of " in words(at)


def test_steps_are_listed_filtered_and_told(busy: Runtime, show: Open) -> None:
    at = show("steps")
    assert not at.exception
    assert at.dataframe[0].value["step_id"].tolist() == ["long-1", "dead-1", "echo-1"]
    assert show("steps", status="dead letters").dataframe[0].value["step_id"].tolist() == ["dead-1"]
    assert show("steps", task="echo").dataframe[0].value["step_id"].tolist() == ["echo-1"]
    assert show("steps", text="bold").dataframe[0].value["step_id"].tolist() == ["echo-1"]
    assert "No step matches" in words(show("steps", text="nothing has this"))


def test_one_step_is_told_whole(busy: Runtime, show: Open) -> None:
    at = show("steps", step="dead-1")
    assert not at.exception
    assert any("payload.seconds is 'no'" in code.value for code in at.code)
    attempts = at.dataframe[0].value
    assert attempts["outcome"].tolist() == ["failed"]
    assert attempts["pod"].tolist() == ["pod-under-test"]
    assert "There is no step with this id" in words(show("steps", step="unknown"))


def test_what_a_step_holds_is_never_markup(busy: Runtime, show: Open) -> None:
    at = show("steps", step="echo-1")
    assert any(HOSTILE in element.value for element in at.json)
    assert HOSTILE not in "\n".join(str(m.value) for kind in (at.markdown, at.caption, at.error) for m in kind)


def test_pods_and_their_leader(busy: Runtime, show: Open) -> None:
    at = show("pods")
    assert not at.exception
    row = at.dataframe[0].value.iloc[0]
    assert (row["pod"], list(row["life"]), list(row["look"])) == ("pod-under-test", ["alive", "leader"], [])
    assert row["running"] == 1


def test_recovery_runs_now_and_answers(busy: Runtime, show: Open) -> None:
    at = show("recovery")
    assert not at.exception
    at.button(key="run_recovery").click().run()
    answered = eventually(lambda: [c for c in busy.queue.store.list_commands(5) if c.answers])
    assert answered[0].command.kind == "run_recovery"
    eventually(lambda: "The leader ran a recovery." in words(at.run()))
    assert not at.exception


@pytest.mark.parametrize("name", PAGES)
def test_a_store_that_is_down_is_said_and_not_a_crash(down: Runtime, show: Open, name: str) -> None:
    at = show(name)
    assert not at.exception
    assert at.title[0].value == PAGES[name]
    assert "down" in words(at)
    if name != "submit":
        assert any("does not answer" in error.value for error in at.error)
        assert any("the database went away" in code.value for code in at.code)


def test_the_last_figures_stay_and_are_marked(busy: Runtime, show: Open) -> None:
    assert show("overview").metric[2].value == "1"
    store, busy.queue.store = busy.queue.store, SilentStore()  # type: ignore[assignment]
    try:
        at = eventually(lambda: (page := show("overview")) and page.error and page)
    finally:
        busy.queue.store = store
    assert at.metric[2].value == "1"
    assert "stale" in words(at)


def test_submit_checks_before_it_sends(running: Runtime, show: Open) -> None:
    at = show("submit")
    at.selectbox(key="task_type").select("echo").run()
    at.text_area(key="payload_echo").set_value("{not json").run()
    at.button(key="send").click().run()
    assert "Nothing was submitted." in words(at)
    assert running.queue.stats().by_status() == dict.fromkeys(Status, 0)
    at.text_area(key="payload_echo").set_value(json.dumps({"message": "hi"})).run()
    at.number_input(key="count").set_value(3).run()
    at.text_input(key="step_id").set_value("mine").run()
    at.button(key="send").click().run()
    assert not at.exception
    record = running.queue.wait("mine-1", 20)
    assert record.status is Status.COMPLETED
    assert {step.step_id for step in running.queue.find_steps()} == {"mine-1", "mine-2", "mine-3"}
    eventually(lambda: "Completed" in words(at.run()))
    assert "3 steps submitted" in words(at)


def test_a_start_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, running: Runtime, show: Open) -> None:
    from fleetq_core import runtime

    runtime.shutdown()
    monkeypatch.setenv("FLEET_Q_MAX_RETRIES", "many")
    at = show("overview")
    assert not at.exception
    assert "FLEET_Q_MAX_RETRIES" in words(at)
