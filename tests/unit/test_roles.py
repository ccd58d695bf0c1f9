"""FLEET_Q_ROLE: what it may say, and that the store of a viewer refuses everything that is not a question."""

from __future__ import annotations

import inspect
import logging
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleetq_core import Pod, connect, load_config
from fleetq_core.cli import main
from fleetq_core.config import Config
from fleetq_core.errors import ConfigError, NotAllowed, SchemaMismatch
from fleetq_core.roles import Role
from fleetq_core.store import open_store
from fleetq_core.store.look_only import READS, look_only
from fleetq_core.store.protocol import Store
from tests.support.quiet_fleet import on_record, put_on_record

MakeConfig = Callable[..., Config]
METHODS = sorted(
    name for name, _ in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_") and name != "reopen"
)
WRITES = [name for name in METHODS if name not in READS]


def test_the_role_is_one_of_three() -> None:
    assert load_config({}).role is Role.POD
    assert load_config({"FLEET_Q_ROLE": "viewer"}).role is Role.VIEWER
    with pytest.raises(ConfigError) as refused:
        load_config({"FLEET_Q_ROLE": "Viewer"})
    assert refused.value.problems == ["FLEET_Q_ROLE='Viewer': must be 'pod', 'dashboard' or 'viewer'"]


def test_every_question_of_a_viewer_is_one_of_the_store() -> None:
    assert set(METHODS) >= READS
    assert {"insert_steps", "beat", "register_pod", "insert_command", "purge"} <= set(WRITES)


@pytest.mark.parametrize("reopened", [False, True], ids=["opened", "reopened"])
@pytest.mark.parametrize("name", WRITES)
def test_a_viewers_store_refuses_every_write(store: Store, name: str, reopened: bool) -> None:
    guarded = look_only(store)
    if reopened:
        guarded = guarded.reopen("dashboard")
    with pytest.raises(NotAllowed, match="FLEET_Q_ROLE=viewer"):
        getattr(guarded, name)()
    if reopened:
        guarded.close()


def test_what_connect_gives_a_viewer_changes_nothing(make_config: MakeConfig) -> None:
    put_on_record(make_config())
    before = on_record(make_config())
    queue = connect(make_config(role=Role.VIEWER))
    assert [step.step_id for step in queue.find_steps()] == ["open-1", "dead-1"]
    for act in (
        lambda: queue.submit_step({"task_type": "echo"}),
        lambda: queue.claim_steps(1),
        lambda: queue.requeue_step("dead-1"),
        lambda: queue.cancel_steps(["open-1"]),
        lambda: queue.order("pause", "*", by="me"),
    ):
        with pytest.raises(NotAllowed):
            act()
    queue.close()
    assert on_record(make_config()) == before


def test_a_viewer_makes_no_database_and_migrates_none(make_config: MakeConfig, tmp_path: Path) -> None:
    viewer, path = make_config(role=Role.VIEWER), tmp_path / "fleetq.db"
    with pytest.raises(SchemaMismatch, match="is not there, and a viewer makes none"):
        connect(viewer)
    assert not path.exists()
    open_store(make_config()).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(SchemaMismatch, match="has schema version 1, this program knows"):
        connect(viewer)
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (1,)


@pytest.mark.parametrize("role", [Role.DASHBOARD, Role.VIEWER])
def test_a_pod_does_not_start_where_none_is_meant_to_run(
    make_config: MakeConfig, role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    put_on_record(make_config())
    before = on_record(make_config())
    config = make_config(role=role)
    queue = connect(config)
    with pytest.raises(ConfigError, match=f"FLEET_Q_ROLE={role.value}"):
        Pod(queue, config).start()
    queue.close()
    assert on_record(make_config()) == before


COMMANDS = (
    ["submit", '{"task_type": "echo"}'],
    ["demo", "--count", "1"],
    ["requeue", "dead-1"],
    ["cancel", "open-1"],
    ["pause", "--all"],
    ["resume", "--all"],
    ["drain", "pod-elsewhere"],
    ["throttle-reset", "api"],
    ["recover"],
    ["recover", "--ask"],
    ["pod"],
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_no_command_changes_anything_in_a_viewers_environment(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("fleetq_core.pod.on_stop", lambda ask: None)
    # An earlier test may have sent the log to an output of its own.
    monkeypatch.setattr(logging.getLogger("fleetq_core"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("fleetq_core"), "propagate", False)
    # `recover` leads by itself only where nobody else does.
    put_on_record(make_config(), pod=arguments != ["recover"])
    before = on_record(make_config())
    monkeypatch.setenv("FLEET_Q_STORE", make_config().store)
    monkeypatch.setenv("FLEET_Q_DATA_DIR", str(make_config().data_dir))
    monkeypatch.setenv("FLEET_Q_ROLE", "viewer")
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "FLEET_Q_ROLE=viewer" in done.output
    assert len(done.output.strip().splitlines()) == 1, done.output
    assert on_record(make_config()) == before


def test_every_command_that_acts_is_among_them() -> None:
    looking = {"status", "queue", "pods", "leader", "commands", "throttles", "schema", "alive", "throttle-sim"}
    assert {name for name in main.commands if name not in looking} == {arguments[0] for arguments in COMMANDS}
