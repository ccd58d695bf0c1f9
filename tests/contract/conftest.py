"""Every contract test runs on both stores; and twice: on the store itself, and with each write's first reply lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fleetq_core.config import Config
from fleetq_core.store import Store, open_store
from fleetq_core.store.snowflake import SnowflakeStore
from tests.support import emulator
from tests.support.clock import FakeClock
from tests.support.stores import LossyStore


@pytest.fixture(scope="session")
def snowflake_store(snowflake_settings: dict[str, Any]) -> Iterator[SnowflakeStore]:
    """One connection and one set of tables for all tests; each gets a clock and empty tables."""
    store = emulator.open_clocked(snowflake_settings, FakeClock())
    yield store
    store.close()


@pytest.fixture(params=["sqlite", pytest.param("snowflake", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, config: Config, clock: FakeClock) -> Iterator[Store]:
    if request.param == "snowflake":
        shared: SnowflakeStore = request.getfixturevalue("snowflake_store")
        yield emulator.fresh(shared, clock)
        return
    opened = open_store(config, clock)
    yield opened
    opened.close()


@pytest.fixture(params=["plain", "lossy"])
def any_store(request: pytest.FixtureRequest, store: Store) -> Any:
    return store if request.param == "plain" else LossyStore(store)
