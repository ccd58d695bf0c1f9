"""The simulation cannot stand still, its figures are right, and a run is told truly."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from benchmarks.throttle_rivals import AwsAdaptive
from fleetq_core.playground.api import Refused, SimulatedApi
from fleetq_core.playground.limiters import Fixed, LiteralAimd
from fleetq_core.playground.play import (
    LONGEST_S,
    MOST_CAPACITY,
    MOST_CLIENTS,
    MOST_MOMENTS,
    Kind,
    Moment,
    capacities_of,
    moments_of,
    play,
    scenario_of,
    slices_of,
)
from fleetq_core.playground.scenario import Mode, Move, Outcome, Scenario
from fleetq_core.playground.simulation import LEAST_LOOK_S, Simulation, limiters_of, shared
from tests.support.clock import FakeClock

# -- the simulation ---------------------------------------------------------------------------------------------------


class Promising(Fixed):
    """Says that it opens now, and does not."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked = 0

    def opens_at_s(self, now_s: float) -> float | None:
        self.asked += 1
        return now_s


def test_a_limiter_that_never_opens_when_it_says_cannot_stop_the_time() -> None:
    limiter = Promising()
    scenario = Scenario(((0.0, 1),), 3.0)
    out = Simulation(scenario, [limiter], 1).run()
    assert out.done[0]
    assert limiter.asked <= 4 * scenario.length_s / LEAST_LOOK_S


@pytest.mark.parametrize("mode", Mode)
def test_aws_adaptive_gets_to_the_end_while_all_its_workers_back_off(mode: Mode) -> None:
    scenario = Scenario(((0.0, 1),), 60.0, mode=mode, clients=4)
    out = Simulation(scenario, limiters_of(scenario, lambda _: AwsAdaptive(), 1), 1).run()
    assert out.limits[-1][0] == pytest.approx(59.0, abs=1.1)
    assert len(out.levels) < 100_000


@pytest.mark.parametrize("mode", Mode)
def test_the_same_seed_is_the_same_run(mode: Mode) -> None:
    scenario = Scenario(((0.0, 10), (30.0, 4)), 60.0, mode=mode, clients=3)

    def run(seed: int) -> Outcome:
        return Simulation(scenario, limiters_of(scenario, shared(), seed), seed).run()

    assert run(1).done == run(1).done
    assert run(1).done != run(2).done


def test_a_second_is_heard_of_each_second() -> None:
    heard: list[float] = []
    scenario = Scenario(((0.0, 2),), 5.0)
    Simulation(scenario, [Fixed(1)], 1).run(heard.append)
    assert heard == [1.0, 2.0, 3.0, 4.0]


def test_a_dead_leader_calls_no_more_and_the_others_go_on() -> None:
    scenario = Scenario(((0.0, 12),), 240.0, clients=3, leader_dies_s=60.0)
    out = Simulation(scenario, limiters_of(scenario, shared(), 1), 1).run()
    assert max(out.started[0]) <= 60.0
    assert min(max(times) for times in out.started[1:]) > 230
    assert out.utilisation() > 0.85


# -- figures ----------------------------------------------------------------------------------------------------------


def outcome(done: Sequence[list[float]], refused: Sequence[list[float]] = ([],), length_s: float = 20.0) -> Outcome:
    started = [sorted([*answered, *lost]) for answered, lost in zip(done, [*refused, *[[]] * len(done)], strict=False)]
    return Outcome(Scenario(((0.0, 2), (10.0, 1)), length_s, clients=len(done)), done, started, refused)


def test_utilisation_is_of_what_the_capacity_allowed() -> None:
    out = outcome([[0.5 * n for n in range(20)] + [10.0 + n for n in range(5)]])
    assert out.utilisation() == pytest.approx(25 / 30)
    assert out.utilisation(5.0) == pytest.approx(10 / 15)
    assert out.scenario.possible(8.0, 12.0) == 6


def test_refusals_are_of_the_calls_that_started() -> None:
    assert outcome([[1.0, 2.0, 3.0]], [[12.0]]).refusal_share() == 0.25
    assert outcome([[1.0, 2.0, 3.0]], [[12.0]]).refusal_share(5.0) == 0
    assert outcome([[]]).refusal_share() == 0


def test_fairness_is_one_where_all_are_served_alike() -> None:
    assert outcome([[1.0, 11.0], [2.0, 12.0]]).fairness() == 1
    assert outcome([[1.0, 11.0], [2.0]]).fairness() == 0.75
    assert outcome([[], []]).fairness() == 0


def test_seconds_to_adapt() -> None:
    out = outcome([[]], length_s=40.0)
    out.levels = [(9.0, 1), (10.0, 2), (11.5, 2), (12.5, 1)]
    assert out.seconds_down(10.0) == 2.5
    out.levels = [(11.0, 2)]
    assert out.seconds_down(10.0) == float("inf")
    assert outcome([[13.0 + n for n in range(27)]], length_s=40.0).seconds_up(10.0) == 2
    assert outcome([[]], length_s=40.0).seconds_up(10.0) == float("inf")


# -- a run, told ------------------------------------------------------------------------------------------------------


def test_slices_tell_the_whole_run_once() -> None:
    out = outcome([[1.0, 6.0, 11.0, 19.0]], [[6.5]])
    out.limits = [(float(second), second) for second in range(1, 20)]
    slices = slices_of(out, 6.0)
    assert [(part.at_s, part.until_s, part.capacity, part.limit) for part in slices] == [
        (0.0, 6.0, 2, 6), (6.0, 12.0, 2, 12), (12.0, 18.0, 1, 18), (18.0, 20.0, 1, 19),
    ]  # fmt: skip
    assert [part.answered_per_s * (part.until_s - part.at_s) for part in slices] == pytest.approx([1, 2, 0, 1])
    assert slices[1].lost_per_s == pytest.approx(1 / 6)


def test_small_changes_are_summed_up_and_great_ones_are_told() -> None:
    moves = [
        Move(1, 10, 20, "start"), Move(2, 20, 40, "start"), Move(5, 40, 41, "probe"), Move(6, 41, 40, "throttle"),
        Move(7, 40, 41, "probe"), Move(9, 41, 10, "throttle"),
    ]  # fmt: skip
    assert moments_of(moves) == [
        Moment(1, 2, 10, 40, "start", 2), Moment(5, 7, 40, 41, "small changes", 3), Moment(9, 9, 41, 10, "throttle", 1),
    ]  # fmt: skip
    assert moments_of([]) == []


def test_a_restless_limit_is_told_briefly() -> None:
    moves = [Move(n, 40 - n % 2 * 15, 25 + n % 2 * 15, "throttle" if n % 2 else "probe") for n in range(100)]
    assert len(moments_of([Move(0, 1, 40, "start"), *moves])) <= MOST_MOMENTS


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_played(kind: Kind) -> None:
    played = play(scenario_of([8, 4], Mode.HARD, 2, length_s=140.0), kind, seed=1)
    assert len(played.slices) == 30
    assert {part.capacity for part in played.slices} == {8, 4}
    assert 0.3 < played.utilisation <= 1.1
    assert played.steady_utilisation is not None
    assert played.fairness is not None
    (adaption,) = played.adaptions
    assert (adaption.at_s, adaption.before, adaption.after) == (70.0, 8, 4)
    assert bool(played.moments) is (kind is not Kind.LITERAL)


def test_what_cannot_be_said_is_not_said() -> None:
    played = play(scenario_of([4, 2], Mode.TIMEOUTS, 1, length_s=60.0), Kind.POD, seed=1)
    assert (played.steady_utilisation, played.fairness) == (None, None)


@pytest.mark.parametrize("text", ["", "40,", "4 0", "-1", "1.5", "x", "0", str(MOST_CAPACITY + 1), "9" * 5000, "²"])
def test_capacities_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a list of capacities"):
        capacities_of(text)


def test_capacities_are_read_and_share_the_time() -> None:
    assert scenario_of(capacities_of("40, 10,60"), Mode.HARD, 1).steps == ((0.0, 40), (300.0, 10), (600.0, 60))
    with pytest.raises(ValueError, match="too many"):
        capacities_of(",".join("1" * 21))


def test_a_run_that_would_take_long_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 200,000 are simulated"):
        scenario_of([500], Mode.HARD, 1)
    with pytest.raises(ValueError, match="fewer clients"):
        scenario_of([1], Mode.HARD, MOST_CLIENTS, LONGEST_S)


def test_literal_aimd_keeps_to_the_specification() -> None:
    limiter = LiteralAimd()
    for _ in range(10):
        limiter.success(0.0)
    assert limiter.limit == 11
    limiter.throttle(0.0)
    limiter.throttle(0.0)
    assert limiter.limit == 2
    limiter.limit = 10
    limiter.timeout(0.0)
    assert limiter.limit == 7


# -- the downstream in real time --------------------------------------------------------------------------------------


def test_a_simulated_api_takes_so_many_calls_at_once_and_its_capacity_steps_round() -> None:
    clock = FakeClock()
    api = SimulatedApi([(60, 2), (30, 0), (10, 5)], random.Random(1), clock)
    with api.call(0.5) as one, api.call(0.5) as two:
        assert one != two
        assert api.busy == 2
        with pytest.raises(Refused, match="takes 2 calls at once, and 2 are under way"), api.call(0.5):
            pass
    assert (api.busy, api.answered, api.refused) == (0, 2, 1)
    told = []
    for seconds in (59, 1, 29, 1, 9, 1):
        clock.advance(seconds)
        told.append(api.capacity)
    assert told == [2, 0, 0, 5, 5, 2]


def test_a_call_that_fails_is_over_and_not_answered() -> None:
    api = SimulatedApi([(60, 1)])
    with pytest.raises(KeyError), api.call(0.1):
        raise KeyError
    assert (api.busy, api.answered) == (0, 0)


def test_calls_last_as_long_as_their_mean() -> None:
    api = SimulatedApi([(60, 1)], random.Random(1))
    lengths = []
    for _ in range(2000):
        with api.call(2.0) as seconds:
            lengths.append(seconds)
    assert sum(lengths) / len(lengths) == pytest.approx(2.0, rel=0.03)
