"""People who signed in: what a stranger, a viewer and an operator see, and that only an operator acts, on the server."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from fleetq_core import runtime
from fleetq_core.config import Config
from fleetq_core.dashboard import actions, person, shell, widgets
from fleetq_core.errors import NotAllowed
from fleetq_core.queue import Queue
from fleetq_core.runtime import Runtime
from tests.pages.conftest import MAIN, PAGES, ROOT, words
from tests.pages.test_roles_pages import ACTS, CONTROLS, _confirmed
from tests.support.quiet_fleet import on_record, put_on_record

Visit = Callable[..., AppTest]
OPERATOR = {"is_logged_in": True, "email": "Ann@Example.com", "email_verified": True}
VIEWER = {"is_logged_in": True, "email": "vic@example.com"}
STRANGER = {"is_logged_in": True, "email": "eve@elsewhere.org"}
UNVERIFIED = OPERATOR | {"email_verified": False}
NAMELESS = {"is_logged_in": True}
ANONYMOUS = {"is_logged_in": False}
NO_SIGN_IN: dict[str, Any] = {}
SHUT_OUT = {
    "anonymous": (ANONYMOUS, "This fleet is for people who have signed in."),
    "stranger": (STRANGER, "Ask whoever runs it to name this address"),
    "unverified": (UNVERIFIED, "is not verified"),
    "nameless": (NAMELESS, "somebody without an e-mail address"),
    "no auth section": (NO_SIGN_IN, "there is no [auth] section"),
}


@pytest.fixture
def config(make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Config:
    config = make_config()
    put_on_record(config)
    monkeypatch.setenv("FLEET_Q_STORE", config.store)
    monkeypatch.setenv("FLEET_Q_DATA_DIR", str(config.data_dir))
    monkeypatch.setenv("FLEET_Q_ROLE", "dashboard")
    monkeypatch.setenv("FLEET_Q_OPERATORS", "ann@example.com")
    monkeypatch.setenv("FLEET_Q_VIEWERS", "*@example.com")
    return config


@pytest.fixture
def app(config: Config) -> Iterator[Runtime]:
    runtime.shutdown()
    yield runtime.get_runtime()
    runtime.shutdown()


@pytest.fixture
def visit(app: Runtime) -> Visit:
    """Open a page as somebody."""

    def open_page(user: dict[str, Any], name: str, **query: str) -> AppTest:
        at = AppTest.from_file(MAIN, default_timeout=30)
        at.user = dict(user)
        at.run()
        at.switch_page(str(ROOT / "pages" / f"{name}.py"))
        at.query_params.update(query)
        return at.run()

    return open_page


@pytest.mark.parametrize("who", SHUT_OUT)
@pytest.mark.parametrize("name", PAGES)
def test_who_is_not_let_in_sees_no_page(visit: Visit, name: str, who: str) -> None:
    user, reason = SHUT_OUT[who]
    at = visit(user, name)
    assert not at.exception
    assert [title.value for title in at.title] == ["FLEET-Q"]
    assert reason in words(at)
    assert not at.dataframe
    assert not at.sidebar.text
    assert {button.key for button in at.button} <= {"sign_in", "sign_out"}
    assert not any(word in words(at) for word in ("pod-elsewhere", "open-1", "dead-1"))


def test_without_a_list_nobody_is_let_in(
    config: Config, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.delenv("FLEET_Q_OPERATORS")
    monkeypatch.delenv("FLEET_Q_VIEWERS")
    at = request.getfixturevalue("visit")(OPERATOR, "overview")
    assert "Nobody has been given access yet" in words(at)
    assert [title.value for title in at.title] == ["FLEET-Q"]


@pytest.mark.parametrize("user", [VIEWER, OPERATOR], ids=["viewer", "operator"])
@pytest.mark.parametrize("name", PAGES)
def test_who_is_let_in_sees_every_page_and_their_own_name(visit: Visit, name: str, user: dict[str, Any]) -> None:
    at = visit(user, name)
    assert not at.exception
    assert at.title[0].value == PAGES[name]
    assert user["email"] in [text.value for text in at.sidebar.text]
    assert at.sidebar.button(key="sign_out").label == "Sign out"


@pytest.mark.parametrize(("page", "query", "key"), CONTROLS)
def test_controls_are_dead_for_a_viewer_and_alive_for_an_operator(
    visit: Visit, page: str, query: dict[str, str], key: str
) -> None:
    button = visit(VIEWER, page, **query).button(key=key)
    assert button.disabled
    assert "signed in as a viewer" in button.help
    assert not visit(OPERATOR, page, **query).button(key=key).disabled


@pytest.mark.parametrize(("page", "query", "key"), CONTROLS)
def test_a_control_that_somebody_forgot_changes_nothing_for_a_viewer(
    visit: Visit, config: Config, monkeypatch: pytest.MonkeyPatch, page: str, query: dict[str, str], key: str
) -> None:
    before = on_record(config)
    monkeypatch.setattr(shell, "refusal", lambda: None)
    monkeypatch.setattr(widgets, "confirm", _confirmed)
    at = visit(VIEWER, page, **query).button(key=key).click().run()
    assert not at.exception
    assert any("vic@example.com may look and not act" in code.value for code in at.code)
    assert on_record(config) == before


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("user", [ANONYMOUS, STRANGER, UNVERIFIED, NAMELESS, NO_SIGN_IN, VIEWER])
def test_every_action_is_refused_on_the_server_to_whoever_is_no_operator(
    app: Runtime, config: Config, monkeypatch: pytest.MonkeyPatch, name: str, user: dict[str, Any]
) -> None:
    before = on_record(config)
    monkeypatch.setattr(person, "st", _Session(user))
    with pytest.raises(NotAllowed, match=r"sign in as an operator|may look and not act"):
        ACTS[name](app)
    assert on_record(config) == before
    assert not (Path(config.data_dir) / actions.UPLOADS).exists()


@pytest.mark.parametrize("name", ACTS)
def test_an_operator_does_each_and_the_log_has_the_name(
    app: Runtime, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(person, "st", _Session(OPERATOR))
    ACTS[name](app)
    names = {record.command.issued_by for record in app.queue.store.list_commands(10)}
    assert names == ({"Ann@Example.com"} if name not in ("save_upload",) else set())


class _Session:
    """Streamlit as far as it tells who the session's person is."""

    def __init__(self, user: dict[str, Any]) -> None:
        self.user = user


def test_the_screens_change_the_store_through_their_actions_alone() -> None:
    """No other module of the dashboard calls what writes: the check of the person would be missing there."""
    reads = {"find_steps", "get_step", "check", "command", "close"}
    writes = {name for name, one in vars(Queue).items() if callable(one) and not name.startswith("_")} - reads
    own = {"submit_steps", "requeue_steps", "cancel_steps", "order", "submit_sets"}
    assert own <= writes
    used = [
        (path.name, node.value.attr, node.attr)
        for folder in ("fleetq_core/dashboard", "pages") for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute)
    ]  # fmt: skip
    looks = ("list_", "find_", "get_", "stats", "now", "held_by_pod", "work_history", "created_behind")
    assert {place for place, owner, name in used if owner == "queue" and name in writes} == {"actions.py"}
    assert [one for one in used if one[1] == "store" and not one[2].startswith(looks)] == []
    importers = [p.name for p in (ROOT / "fleetq_core/dashboard").rglob("*.py") if "import many_steps" in p.read_text()]
    assert importers == ["actions.py"]


def test_streamlit_tells_nobody_of_a_person_where_no_sign_in_is_set_up() -> None:
    assert st.user.get("is_logged_in") is None
