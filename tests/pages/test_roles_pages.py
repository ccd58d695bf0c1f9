"""The screens of a process without a pod, and that a viewer changes nothing from any of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetq_core import runtime
from fleetq_core.commands import CommandKind
from fleetq_core.config import Config
from fleetq_core.dashboard import actions, shell, widgets
from fleetq_core.errors import NotAllowed
from fleetq_core.model import NewStep
from fleetq_core.roles import Role
from fleetq_core.runtime import Runtime
from tests.pages.conftest import PAGES, Open, words
from tests.support.quiet_fleet import on_record, put_on_record

# (page, query, button): every control that acts, on a screen where it is drawn.
CONTROLS = (
    ("pods", {}, "pause"),
    ("pods", {}, "resume"),
    ("pods", {"pod": "pod-elsewhere"}, "drain"),
    ("recovery", {}, "run_recovery"),
    ("recovery", {}, "dead_requeue"),
    ("recovery", {}, "dead_replay"),
    ("steps", {"step": "dead-1"}, "one_requeue"),
    ("steps", {"step": "dead-1"}, "one_replay"),
    ("steps", {"step": "open-1"}, "one_cancel"),
    ("steps", {}, "all_requeue"),
    ("steps", {}, "all_cancel"),
    ("steps", {}, "all_replay"),
    ("throttles", {"throttle": "api"}, "reset_throttle"),
    ("throttles", {}, "api_send"),
)
ACTS: dict[str, Callable[[Runtime], Any]] = {
    "requeue": lambda app: list(actions.requeue(app, ["dead-1"])),
    "cancel": lambda app: list(actions.cancel(app, ["open-1"])),
    "replay": lambda app: list(actions.replay(app, {"dead-1": "copy-1"})),
    "order": lambda app: actions.order(app, CommandKind.PAUSE),
    "reset_throttle": lambda app: actions.reset_throttle(app, "api"),
    "submit": lambda app: actions.submit(app, {"task_type": "echo"}),
    "submit_sets": lambda app: list(actions.submit_sets(app, [NewStep({"task_type": "echo"})])),
    "save_upload": lambda app: actions.save_upload(app, "a.csv", b"x"),
}


@pytest.fixture
def config(make_config: Callable[..., Config]) -> Config:
    put_on_record(make_config())
    return make_config()


@pytest.fixture
def start(config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Role], Runtime]]:
    """This process's runtime in a role, on a fleet whose pod is elsewhere."""
    monkeypatch.setenv("FLEET_Q_STORE", config.store)
    monkeypatch.setenv("FLEET_Q_DATA_DIR", str(config.data_dir))
    runtime.shutdown()

    def of(role: Role) -> Runtime:
        monkeypatch.setenv("FLEET_Q_ROLE", role.value)
        return runtime.get_runtime()

    yield of
    runtime.shutdown()


@pytest.mark.parametrize("role", [Role.DASHBOARD, Role.VIEWER])
@pytest.mark.parametrize("name", PAGES)
def test_every_page_works_without_a_pod(
    start: Callable[[Role], Runtime], show: Open, config: Config, name: str, role: Role
) -> None:
    before = on_record(config)
    app = start(role)
    at = show(name)
    assert not at.exception
    assert not at.error
    assert at.title[0].value == PAGES[name]
    assert "runs no pod" in words(at)
    assert ("This process is a viewer (FLEET_Q_ROLE=viewer)" in words(at)) is (role is Role.VIEWER)
    assert app.pod is None
    assert on_record(config) == before


@pytest.mark.parametrize(("page", "query", "key"), CONTROLS)
def test_a_viewers_controls_are_dead_and_say_why(
    start: Callable[[Role], Runtime], show: Open, page: str, query: dict[str, str], key: str
) -> None:
    start(Role.VIEWER)
    button = show(page, **query).button(key=key)
    assert button.disabled
    assert "FLEET_Q_ROLE=viewer" in button.help


@pytest.mark.parametrize(("page", "query", "key"), CONTROLS)
def test_a_control_that_somebody_forgot_changes_nothing_either(
    start: Callable[[Role], Runtime],
    show: Open,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    page: str,
    query: dict[str, str],
    key: str,
) -> None:
    start(Role.VIEWER)
    before = on_record(config)
    monkeypatch.setattr(shell, "refusal", lambda: None)
    monkeypatch.setattr(widgets, "confirm", _confirmed)
    at = show(page, **query).button(key=key).click().run()
    assert not at.exception
    assert any("it shows the fleet and changes nothing" in code.value for code in at.code)
    assert on_record(config) == before


def _confirmed(title: str, question: str, action: Callable[[], str], **_: object) -> None:
    try:
        widgets.flash(action())
    except NotAllowed as exc:
        widgets.problem("That did not work; nothing was changed by this attempt.", str(exc))


@pytest.mark.parametrize(("page", "query", "key"), CONTROLS)
def test_a_dashboards_controls_are_alive(
    start: Callable[[Role], Runtime], show: Open, page: str, query: dict[str, str], key: str
) -> None:
    start(Role.DASHBOARD)
    assert not show(page, **query).button(key=key).disabled


@pytest.mark.parametrize("what", ["One step", "A file of steps"])
def test_a_viewer_has_no_form_to_submit_with(start: Callable[[Role], Runtime], show: Open, what: str) -> None:
    start(Role.VIEWER)
    at = show("submit")
    at.segmented_control(key="what").set_value(what).run()
    assert not at.exception
    assert [button.key for button in at.button] == []
    assert not at.get("file_uploader")
    assert any("changes nothing" in info.value for info in at.info)


@pytest.mark.parametrize("name", ACTS)
def test_a_viewers_actions_are_refused_on_the_server(
    start: Callable[[Role], Runtime], config: Config, name: str
) -> None:
    app, before = start(Role.VIEWER), on_record(config)
    with pytest.raises(NotAllowed):
        ACTS[name](app)
    assert on_record(config) == before
    assert not (Path(config.data_dir) / actions.UPLOADS).exists()


def test_every_action_is_among_them() -> None:
    harmless = {"parse_payload", "check"}
    own = {
        name for name, one in inspect.getmembers(actions, inspect.isfunction)
        if one.__module__ == actions.__name__ and not name.startswith("_")
    }  # fmt: skip
    assert own - harmless == set(ACTS)


def test_a_dashboard_submits_tasks_that_only_pods_elsewhere_know(start: Callable[[Role], Runtime], show: Open) -> None:
    app = start(Role.DASHBOARD)
    at = show("submit")
    at.selectbox(key="task_type").select("their-task").run()
    assert "pods elsewhere know" in words(at)
    at.button(key="send").click().run()
    assert not at.exception
    assert [step.payload for step in app.queue.find_steps(limit=1)] == [{"task_type": "their-task"}]


def test_a_dashboard_takes_no_file_that_would_reach_no_pod(start: Callable[[Role], Runtime], show: Open) -> None:
    start(Role.DASHBOARD)
    at = show("submit")
    at.selectbox(key="task_type").select("process_data").run()
    assert at.text_input(key="path").label == "Path of a file on the pods' machine"
    assert not at.get("file_uploader")


def test_a_dashboard_runs_a_recovery_by_ordering_it(start: Callable[[Role], Runtime], show: Open) -> None:
    app = start(Role.DASHBOARD)
    at = show("recovery")
    at.button(key="run_recovery").click().run()
    assert not at.exception
    assert "The leader answers with its next heartbeat." in words(at)
    (record,) = app.queue.store.list_commands(5)
    assert (record.command.kind, record.command.target) == ("run_recovery", "leader")
