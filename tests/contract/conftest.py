"""Every contract test runs twice: on the store itself, and with the first reply of each write lost."""

from __future__ import annotations

from typing import Any

import pytest

from fleetq_core.store import Store
from tests.support.stores import LossyStore


@pytest.fixture(params=["plain", "lossy"])
def any_store(request: pytest.FixtureRequest, store: Store) -> Any:
    return store if request.param == "plain" else LossyStore(store)
