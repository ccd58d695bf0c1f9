"""Fixtures that every test may use. Nothing here reads the developer's own environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetq_core.config import Config
from fleetq_core.queue import Queue
from fleetq_core.store import Store, open_store
from fleetq_core.tasks import TaskRegistry
from fleetq_core.throttle.registry import forget_throttles
from tests.support.clock import FakeClock


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FLEET_Q_", "SNOWFLAKE_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def fresh_throttles() -> None:
    """The registry belongs to the process: each test starts with an empty one."""
    forget_throttles()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    """A config on a temporary store; keyword arguments override."""

    def make(**override: Any) -> Config:
        values: dict[str, Any] = {
            "store": f"sqlite:///{tmp_path}/fleetq.db",
            "data_dir": tmp_path / "data",
            "pod_id": "pod-a",
        }
        return Config(**(values | override))

    return make


@pytest.fixture
def config(make_config: Callable[..., Config]) -> Config:
    return make_config()


@pytest.fixture
def store(config: Config, clock: FakeClock) -> Iterator[Store]:
    opened = open_store(config, clock)
    yield opened
    opened.close()


@pytest.fixture
def queue(store: Store, config: Config) -> Queue:
    return Queue(store, config)


@pytest.fixture
def tasks() -> TaskRegistry:
    return TaskRegistry()


@pytest.fixture(scope="session")
def snowflake_settings() -> Iterator[dict[str, Any]]:
    """How to connect to a Snowflake of this session's own, on loopback; it starts with the first test that asks."""
    from tests.support import emulator

    with emulator.server() as settings:
        yield settings


@pytest.fixture(scope="session")
def snowflake_schemas(request: pytest.FixtureRequest) -> Iterator[Callable[[], dict[str, str]]]:
    """Call it for the SNOWFLAKE_* variables of a new schema: on this session's server, or on the account asked for."""
    from tests.support import account

    if account.WANTED:
        environ = account.VARIABLES
    else:
        settings = request.getfixturevalue("snowflake_settings")
        environ = {f"SNOWFLAKE_{name.upper()}": str(value) for name, value in settings.items()}
    with account.schemas(environ) as make:
        yield make
