"""Every contract test runs on each store; and twice: on the store itself, and with each write's first reply lost.

Snowflake's hybrid tables claim in another way, so the contract of the steps runs on them too. On a real account,
which `make test-snowflake` asks for, all of it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fleetq_core.config import Config
from fleetq_core.errors import StoreError
from fleetq_core.store import Store, open_store
from fleetq_core.store.snowflake import SnowflakeStore
from fleetq_core.store.snowflake_schema import Tables
from tests.support import account, emulator
from tests.support.clock import FakeClock
from tests.support.stores import LossyStore

ON_HYBRID = ("test_steps", "test_deferral")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store" in metafunc.fixturenames:
        steps = metafunc.module.__name__.endswith(ON_HYBRID)
        kinds = ["snowflake", "hybrid"] if steps or account.WANTED else ["snowflake"]
        marked = [pytest.param(kind, marks=[pytest.mark.slow, pytest.mark.account]) for kind in kinds]
        metafunc.parametrize("store", ["sqlite", *marked], indirect=True)


def opened(schemas: Callable[[], dict[str, str]], tables: Tables) -> Iterator[SnowflakeStore]:
    """One connection and one set of tables for all tests; each gets a clock and empty tables."""
    store = emulator.open_clocked(account.settings(schemas()), FakeClock(), tables)
    yield store
    store.close()


@pytest.fixture(scope="session")
def snowflake_store(snowflake_schemas: Callable[[], dict[str, str]]) -> Iterator[SnowflakeStore]:
    yield from opened(snowflake_schemas, "standard")


@pytest.fixture(scope="session")
def hybrid_store(snowflake_schemas: Callable[[], dict[str, str]]) -> Iterator[SnowflakeStore]:
    try:
        yield from opened(snowflake_schemas, "hybrid")
    except StoreError as exc:
        if not account.WANTED:
            raise
        pytest.skip(f"this account has no hybrid tables: {exc}")


@pytest.fixture
def store(request: pytest.FixtureRequest, config: Config, clock: FakeClock) -> Iterator[Store]:
    if request.param != "sqlite":
        shared: SnowflakeStore = request.getfixturevalue(f"{request.param}_store")
        yield emulator.fresh(shared, clock)
        return
    opened_here = open_store(config, clock)
    yield opened_here
    opened_here.close()


@pytest.fixture(params=["plain", "lossy"])
def any_store(request: pytest.FixtureRequest, store: Store) -> Any:
    return store if request.param == "plain" else LossyStore(store)
