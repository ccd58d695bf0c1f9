"""What a process counts of its store, and how long it thinks that keeps a warehouse awake."""

from __future__ import annotations

from typing import Any

import pytest

from fleetq_core.store import tally
from fleetq_core.store.tally import LastHour, StoreMeter


class Times:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def times() -> Times:
    return Times()


def awake(hour: LastHour, times: Times, *statements: tuple[float, float]) -> float:
    """The warehouse seconds when all is quiet again after statements that each end at a time and take so long."""
    for end, seconds in statements:
        times.now = 1000.0 + end
        hour.add(seconds, 1, True)
    times.now += 3000.0
    return hour.read()[2]


@pytest.mark.parametrize(
    ("suspend_s", "statements", "billed_s"),
    [
        (60, [(10.0, 1.0)], 61.0),  # it runs on for AUTO_SUSPEND
        (0, [(10.0, 1.0)], 60.0),  # a minute at least
        (0, [(90.0, 90.0)], 90.0),
        (60, [(10.0, 1.0), (40.0, 1.0)], 91.0),  # the second finds it awake
        (60, [(10.0, 1.0), (40.0, 1.0), (40.5, 30.0)], 91.5),  # side by side
        (60, [(10.0, 1.0), (200.0, 1.0)], 122.0),  # asleep in between
        (30, [(10.0, 1.0), (69.0, 1.0)], 90.0),  # within the minute that the first start is billed for
    ],
)
def test_a_warehouse_is_awake_from_a_statement_until_it_was_idle_for_long(
    times: Times, suspend_s: float, statements: list[Any], billed_s: float
) -> None:
    assert awake(LastHour(suspend_s, times), times, *statements) == pytest.approx(billed_s)


def test_what_the_result_cache_answers_wakes_no_warehouse(times: Times) -> None:
    hour = LastHour(60, times)
    for _ in range(10):
        times.now += 5
        hour.add(0.1, 1, False)
    assert hour.read() == (50.0, 10, 0.0)


def test_only_the_last_hour_counts(times: Times) -> None:
    hour = LastHour(60, times)
    for _ in range(90):
        times.now += 60
        hour.add(0.5, 2, True)
    seconds, statements, awake_s = hour.read()
    assert (seconds, statements) == (3600.0, 120)
    assert awake_s == pytest.approx(3600.0)
    times.now += 7200
    assert hour.read() == (3600.0, 0, 0.0)


def test_a_process_that_is_new_has_kept_nothing_awake_for_longer_than_it_lives(times: Times) -> None:
    hour = LastHour(600, times)
    times.now += 5
    hour.add(1.0, 1, True)
    assert hour.read() == (5.0, 1, 5.0)


def test_statements_belong_to_the_call_under_way_on_their_thread() -> None:
    meter = StoreMeter(["claim", "beat"])

    def claim() -> str:
        tally.ran(0.1, 5, 2)
        tally.timed(beat, meter.of("beat"))()
        tally.ran(0.1, 0, 0, awake=False)
        return "claimed"

    def beat() -> None:
        tally.ran(0.1, 1, 0)
        raise OSError

    with pytest.raises(OSError):
        tally.timed(claim, meter.of("claim"))()
    tally.ran(9.0, 9, 9)  # outside of any call
    read = meter.read()
    assert (read["claim"].statements, read["claim"].rows, read["claim"].retries, read["claim"].errors) == (3, 5, 2, 1)
    assert (read["beat"].statements, read["beat"].rows, read["beat"].errors) == (1, 1, 1)
    assert meter.hour.read()[1] == 4


def test_what_is_published_is_json_and_leaves_out_what_never_happened() -> None:
    meter = StoreMeter(["claim", "beat"])
    tally.timed(lambda: tally.ran(0.1, 5, 1), meter.of("claim"))()
    told: Any = meter.publication()
    assert list(told["kinds"]) == ["claim"]
    assert told["kinds"]["claim"][:5] == [1, 0, 2, 5, 1]
    assert told["hour"]["statements"] == 2
