"""An outage of the store in the log: one line when it begins and one when it is over, however many loops feel it."""

from __future__ import annotations

import logging

import pytest

from fleetq_core.errors import StoreUnavailable
from fleetq_core.loop import Outage


def test_an_outage_is_two_lines_for_all_loops_together(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fleetq_core")
    outage = Outage()
    for _ in range(2):
        caplog.clear()
        outage.felt("claim", StoreUnavailable("away"))
        outage.felt("settle", StoreUnavailable("away too"))
        outage.over("claim")
        assert caplog.messages == ["claim: away; trying again"]
        outage.over("settle")
        assert caplog.messages == ["claim: away; trying again", "settle: the store is back"]
