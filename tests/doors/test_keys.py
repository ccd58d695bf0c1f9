"""API keys: every route × {nobody, a wrong key, a viewer's, an operator's} × what is set, and whose name is on record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fleetq_core.config import Config, load_config
from fleetq_core.errors import ConfigError
from fleetq_core.http_routes import ENDPOINTS
from fleetq_core.roles import Role
from fleetq_core.runtime import Runtime
from tests.doors.conftest import Api, quiet_config, variant
from tests.doors.test_roles_http import ACTING, BODIES, PLACES
from tests.support.quiet_fleet import on_record, put_on_record

CI, GRAFANA, OLD = "0123456789abcdef-ci", "0123456789abcdef-grafana", "the old one"
KEYS = {"api_keys": SecretStr(f"ci:operator:{CI}, grafana:viewer:{GRAFANA}")}
ONE_KEY = {"api_key": SecretStr(OLD)}
PEOPLE = {"operators": ("ann@example.com",)}
SETTINGS: dict[str, dict[str, Any]] = {
    "nothing": {}, "one key": ONE_KEY, "keys": KEYS, "both": KEYS | ONE_KEY, "people": PEOPLE, "people and keys": PEOPLE | KEYS
}  # fmt: skip
SENT = {
    "nobody": {}, "wrong": {"Authorization": "Bearer 0123456789abcdef-xx"}, "viewer": {"Authorization": f"Bearer {GRAFANA}"},
    "operator": {"X-API-Key": CI}, "the one key": {"Authorization": f"bearer {OLD}"},
}  # fmt: skip
READING = [one.path.format(**PLACES) for one in ENDPOINTS if one.method == "get" and not one.operation.public]
PUBLIC = [one.path.format(**PLACES) for one in ENDPOINTS if one.operation.public]


def expected(settings: str, sent: str, *, acts: bool) -> int:
    """The status of a refusal, or 200 where it is let in."""
    named = "keys" in settings or settings == "both"
    known = {"viewer": named, "operator": named, "the one key": settings in ("one key", "both")}.get(sent, False)
    if acts:
        if settings == "nothing":
            return 200
        return 401 if not known else 403 if sent == "viewer" else 200
    return 200 if settings in ("nothing", "one key") or known else 401


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    config = quiet_config(tmp_path_factory.mktemp("keys"), role=Role.DASHBOARD)
    put_on_record(config)
    runtime = Runtime(config)
    runtime.start()
    yield runtime
    runtime.stop()


@pytest.fixture
def with_settings(dashboard: Runtime, api_of: Callable[[Runtime], Api]) -> Callable[[str], Api]:
    def of(settings: str) -> Api:
        return api_of(variant(dashboard, config=dashboard.config.model_copy(update=SETTINGS[settings])))

    return of


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("path", ACTING)
def test_who_may_write(
    with_settings: Callable[[str], Api], dashboard: Runtime, path: str, sent: str, settings: str
) -> None:
    before = on_record(dashboard.config)
    wanted = expected(settings, sent, acts=True)
    answer = with_settings(settings)("POST", path, json=BODIES.get(path, {}), headers=SENT[sent])
    assert (answer.status_code if answer.status_code >= 400 else 200) == wanted, answer.text
    assert (on_record(dashboard.config) == before) is (wanted != 200)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("path", READING)
def test_who_may_read(with_settings: Callable[[str], Api], path: str, sent: str, settings: str) -> None:
    answer = with_settings(settings)("GET", path, headers=SENT[sent])
    assert answer.status_code == expected(settings, sent, acts=False), answer.text
    assert (answer.headers.get("www-authenticate") == "Bearer") is (answer.status_code == 401)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("path", PUBLIC)
def test_what_anybody_may_read(with_settings: Callable[[str], Api], path: str, settings: str) -> None:
    assert with_settings(settings)("GET", path).status_code == 200


def test_only_health_and_the_document_are_public() -> None:
    assert set(PUBLIC) == {"/health", "/openapi.json", "/docs"}


def test_the_record_has_the_name_of_the_key(with_settings: Callable[[str], Api], dashboard: Runtime) -> None:
    api = with_settings("both")
    for sent in ("operator", "the one key"):
        command_id = api("POST", "/admin/throttle/api/reset", headers=SENT[sent]).json()["command_id"]
        record = dashboard.queue.command(command_id)
        assert record is not None
        assert record.command.issued_by == {"operator": "key ci", "the one key": "http"}[sent]


def test_people_without_keys_say_what_programs_need(with_settings: Callable[[str], Api]) -> None:
    error = with_settings("people").refuses(401, "Authorization", "GET", "/admin/queue")
    assert "none is set in FLEET_Q_API_KEYS" in error


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ci", "entry 1 must be name:operator:key or name:viewer:key"),
        (f"ci:admin:{CI}", "entry 1 must be name:operator:key"),
        (f"a:viewer:{CI},b b:viewer:{CI}", "entry 2 must be"),
        ("ci:operator:tooshort", "the key of entry 1 must have at least 16 characters"),
        (f"ci:operator:{CI},ci:viewer:{GRAFANA}", "entry 2 has the name of another one"),
    ],
)
def test_a_wrong_list_of_keys_is_named_without_them(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"FLEET_Q_API_KEYS": text}, env_file=tmp_path / "none")
    assert told in str(caught.value)
    assert "(hidden)" in str(caught.value)
    assert CI not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["ann", "ann@", "@example.com", "a b@example.com", "*@*", "ann@example.com;bob@example.com"]
)
def test_a_wrong_address_is_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not an address such as"):
        load_config({"FLEET_Q_OPERATORS": text}, env_file=tmp_path / "none")


def test_keys_are_in_no_text_of_the_settings() -> None:
    config = Config(**KEYS, operators=("ann@example.com",))
    assert CI not in repr(config) + repr(config.keys) + str(config.model_dump())
