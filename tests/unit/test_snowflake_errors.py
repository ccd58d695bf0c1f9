"""What a number of the Snowflake driver means, and the line that a person reads."""

from __future__ import annotations

import pytest

from fleetq_core.errors import StoreError, StoreUnavailable
from fleetq_core.store.snowflake_errors import After, message, no_answer, verdict


@pytest.mark.parametrize("status", [400, 403, 405, 408, 429, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("added", [290_000, 580_000])
def test_what_a_gateway_answers_instead_of_the_service_passes(status: int, added: int) -> None:
    found = verdict(added + status)
    assert (found.error, found.after) == (StoreUnavailable, After.DOUBT)
    assert message(added + status, f"HTTP {status}").startswith(f"Snowflake: 290{status}: HTTP {status} (")


@pytest.mark.parametrize("errno", [290_404, 540_001])
def test_where_no_account_answers_no_repeat_helps(errno: int) -> None:
    assert verdict(errno).error is StoreError
    assert "SNOWFLAKE_ACCOUNT" in message(errno, "Not Found")


@pytest.mark.parametrize("errno", [290_302, 290_000, 290_600, 0, None, -1])
def test_a_number_that_nobody_knows_is_not_tried_again(errno: int | None) -> None:
    found = verdict(errno)
    assert (found.error, found.after) == (StoreError, After.GIVE_UP)


def test_the_line_says_what_comes_behind_the_first_line_too() -> None:
    line = message(2003, "002003 (42S02): SQL compilation error:\nObject 'STEP_TRACKER' does not exist")
    assert line.startswith("Snowflake: 002003 (42S02): SQL compilation error: Object 'STEP_TRACKER' does not exist (")
    assert len(message(2003, "x" * 10_000)) < 600


def test_a_broken_connection_is_one_line() -> None:
    line = no_answer(ConnectionResetError(104, "reset\nby peer"))
    assert line.startswith("Snowflake: no answer: ConnectionResetError: [Errno 104] reset by peer (check SNOWFLAKE_")
