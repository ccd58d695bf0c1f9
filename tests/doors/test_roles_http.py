"""The HTTP routes of a process without a pod: what it tells of itself, and that a viewer refuses whatever acts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fleetq_core.config import Config
from fleetq_core.http_routes import ENDPOINTS
from fleetq_core.roles import Role
from fleetq_core.runtime import Runtime
from tests.doors.conftest import Api, quiet_config, variant
from tests.support.quiet_fleet import on_record, put_on_record

ApiOf = Callable[[Runtime], Api]
PLACES = {"name": "api", "step_id": "open-1"}
ACTING = [endpoint.path.format(**PLACES) for endpoint in ENDPOINTS if endpoint.method == "post"]
LOOKING = [endpoint.path.format(**PLACES) for endpoint in ENDPOINTS if endpoint.method == "get"]
BODIES: dict[str, dict[str, Any]] = {"/submit": {"payload": {"task_type": "echo"}}}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    put_on_record(quiet_config(tmp_path))
    return quiet_config(tmp_path)


def started(config: Config, role: Role) -> Iterator[Runtime]:
    runtime = Runtime(config.model_copy(update={"role": role}))
    runtime.start()
    yield runtime
    runtime.stop()


@pytest.fixture
def viewer(config: Config, api_of: ApiOf) -> Iterator[Api]:
    for runtime in started(config, Role.VIEWER):
        yield api_of(runtime)


@pytest.fixture
def dashboard(config: Config, api_of: ApiOf) -> Iterator[Api]:
    for runtime in started(config, Role.DASHBOARD):
        yield api_of(runtime)


@pytest.mark.parametrize("keyed", [False, True], ids=["no key", "right key"])
@pytest.mark.parametrize("path", ACTING)
def test_a_viewer_refuses_every_route_that_acts(
    viewer: Api, api_of: ApiOf, config: Config, path: str, keyed: bool
) -> None:
    before = on_record(config)
    headers = {}
    if keyed:
        with_key = viewer.runtime.config.model_copy(update={"api_key": SecretStr("4711")})
        viewer, headers = api_of(variant(viewer.runtime, config=with_key)), {"X-API-Key": "4711"}
    error = viewer.refuses(403, None, "POST", path, json=BODIES.get(path, {}), headers=headers)
    assert error == "this process is a viewer (FLEET_Q_ROLE=viewer): it shows the fleet and changes nothing"
    assert on_record(config) == before


@pytest.mark.parametrize("path", [*ACTING, "/admin/throttle/unknown/reset"])
def test_it_refuses_before_it_looks_at_what_was_sent(viewer: Api, path: str) -> None:
    assert "viewer" in viewer.refuses(403, None, "POST", path, content=b"{not json")


@pytest.mark.parametrize("path", ACTING)
def test_its_store_refuses_even_what_the_door_lets_through(
    viewer: Api, config: Config, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("fleetq_core.http_door.check_may_act", lambda role: None)
    before = on_record(config)
    assert "viewer" in viewer.refuses(403, None, "POST", path, json=BODIES.get(path, {}))
    assert on_record(config) == before


@pytest.mark.parametrize("path", LOOKING)
def test_without_a_pod_every_other_route_answers(viewer: Api, dashboard: Api, path: str) -> None:
    assert viewer("GET", path).status_code == dashboard("GET", path).status_code == 200


def test_health_says_that_there_is_no_pod(viewer: Api, api_of: ApiOf, dashboard: Api) -> None:
    assert api_of(viewer.runtime)("GET", "/health").json() == {"status": "ok", "pod": "none", "role": "viewer"}
    assert api_of(dashboard.runtime)("GET", "/health").json() == {"status": "ok", "pod": "none", "role": "dashboard"}


def test_metrics_say_that_there_is_no_pod(viewer: Api) -> None:
    told = viewer("GET", "/metrics").text.splitlines()
    assert {"fleetq_process_pod 0.0", "fleetq_store_up 1.0", "fleetq_pods_alive 1.0"} <= set(told)


def test_nothing_without_a_pod_is_on_record_or_on_disk(dashboard: Api, config: Config) -> None:
    before = on_record(config)
    dashboard.runtime.poke()
    dashboard("GET", "/metrics")
    assert on_record(config) == before
    assert not any("pod-here" in str(pod) for pod in dashboard.runtime.queue.store.list_pods())
    assert not config.data_dir.exists()


def test_the_leader_is_told_by_who_is_none(dashboard: Api) -> None:
    told = dashboard("GET", "/admin/leader").json()
    assert told == {
        "leader_pod_id": "pod-elsewhere", "this_pod_id": None, "is_leader": False, "total_alive_pods": 1,
        "alive_pods": ["pod-elsewhere"],
    }  # fmt: skip


def test_a_dashboard_orders_from_the_pods_what_it_cannot_do(dashboard: Api) -> None:
    answer = dashboard("POST", "/admin/recovery/run")
    assert answer.status_code == 202
    assert answer.json()["message"] == "Recovery ordered from pod pod-elsewhere"
    reset = dashboard("POST", "/admin/throttle/api/reset")
    assert reset.status_code == 202
    step_id = dashboard.submit(payload={"task_type": "echo"})
    assert dashboard.runtime.queue.get_step(step_id) is not None
    found = {record.command.command_id: record.command for record in dashboard.runtime.queue.store.list_commands(9)}
    ordered = [found[one.json()["command_id"]] for one in (answer, reset)]
    assert [(one.kind, one.target) for one in ordered] == [("run_recovery", "leader"), ("reset_throttle", "*")]


def test_a_recovery_that_nobody_could_run_is_not_ordered(tmp_path: Path, api_of: ApiOf) -> None:
    config = quiet_config(tmp_path)
    put_on_record(config, pod=False)
    for runtime in started(config, Role.DASHBOARD):
        answer = api_of(runtime)("POST", "/admin/recovery/run")
        assert (answer.status_code, answer.json()["leader_pod_id"]) == (409, None)
        assert runtime.queue.store.list_commands(9) == []
