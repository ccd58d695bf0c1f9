"""The benchmarks stay true to the code: their contestants run, with a few steps, and their verdicts are right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks import (
    contestants,
    drawn_pages,
    full_store,
    harness,
    screens,
    slow_store,
    snowflake_fleet,
    snowflake_sets,
    throttle_simulation,
    throttle_threads,
)
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.throttle_simulation import FLEET, POD, Case
from fleetq_core.config import Config
from fleetq_core.model import Identity, Outcome, Status
from fleetq_core.playground.scenario import Mode, Scenario
from fleetq_core.store import Store, open_store

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("contestant", [contestants.fleetq, contestants.huey, contestants.raw])
def test_every_contestant_does_all_its_steps(contestant: object, tmp_path: Path) -> None:
    assert contestant(tmp_path, 200) > 0  # type: ignore[operator]  # each leaves with an error if a step is missing


def test_the_order_of_contestants_turns_round(tmp_path: Path) -> None:
    ran: list[str] = []

    def note(name: str) -> float:
        ran.append(name)
        return float(len(ran))

    values = harness.alternate(3, {"a": lambda _: note("a"), "b": lambda _: note("b")})
    assert "".join(ran) == "abbaab"
    assert values == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}
    assert harness.paired(values["b"], values["a"]) == 1.2


def test_a_missed_target_is_said() -> None:
    report = harness.Report("t")
    report.add("fast", 6.0, "×", 5.0)
    report.add("slow", 4.0, "×", 5.0)
    report.add("big", 90.0, "MB", 80.0, at_least=False)
    assert [figure.holds for figure in report.figures] == [True, False, False]
    assert [line.split(": ")[-1] for line in list(report.lines())[1:]] == ["ok", "MISSED", "MISSED"]


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drian"]) == 2
    assert "there is no benchmark drian; there are drain" in capsys.readouterr().err


def test_every_benchmark_is_a_module_of_its_own() -> None:
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} >= set(BENCHMARKS)


# -- a slow store and Snowflake ---------------------------------------------------------------------------------------


def test_a_slow_store_waits_for_as_many_statements_as_snowflake_runs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(slow_store, "pause", waited.append)
    slow = cast(Store, slow_store.SlowStore(store, 0.2))

    def took(call: Callable[[], object]) -> float:
        waited.clear()
        call()
        return sum(waited)

    me = Identity("pod-a", "inc-a")
    large = [Outcome(f"s{n}", "t", Status.COMPLETED, 0.1, "x" * 1000) for n in range(600)]
    assert took(lambda: slow.register_pod(me, {})) == pytest.approx(0.4)
    assert took(lambda: slow.claim_steps(me, "t", 5, 60.0)) == pytest.approx(0.4)
    assert took(lambda: slow.claim_steps(me, "u", 5, 60.0)) == pytest.approx(0.6)  # it looks first, after an empty one
    assert took(lambda: slow.settle_steps(large[:10], 3)) == pytest.approx(0.2)
    assert took(lambda: slow.settle_steps(large, 3)) == pytest.approx(0.4)  # more than one statement's values


@pytest.mark.parametrize("kind", slow_store.KINDS)
def test_the_busy_share_of_a_pod_is_measured(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_store, "LEAST_WARM_UP_S", 0.3)
    found = slow_store.busy_share(tmp_path, kind, 0.005, 0.05, 0.5)
    assert 0 < found["busy"] <= 1.01
    assert found["slots"] == Config(max_parallelism=slow_store.MAX_PARALLELISM).capacity
    assert 0 < found["rate"] <= 1.1 * found["slots"] / 0.05
    assert found["held"] >= found["slots"] / 2


@pytest.mark.slow
def test_a_fleet_on_snowflake_is_counted() -> None:
    found = snowflake_fleet.drain(2, 60, 0.0)
    assert found["twice"] == 0
    assert found["claims"] >= 2
    assert found["empty claims"] <= found["claims"]
    assert found["statements for 1,000"] >= 1000 * (1 + 2 + 1) / 60  # one submit, one claim, one settle at least
    assert found["all statements"] > 60 * found["statements for 1,000"] / 1000  # beats


@pytest.mark.slow
def test_sets_on_snowflake_are_compared(snowflake_settings: dict[str, Any]) -> None:
    report = harness.Report("sets")
    bench = snowflake_sets.Bench(snowflake_settings | {"schema": "BENCHMARK_SETS"})
    bench.compare(report, 300, "2 kB", 1)
    bench.close()
    assert [figure.value for figure in report.figures[:3]] == [2, 2, 1]  # 600 kB are two requests in either form


def test_bound_rows_go_in_sets_as_long_as_one_json_value_may_be() -> None:
    steps = snowflake_sets._steps(500, 2_000)
    sets = list(snowflake_sets._array_sets(steps))
    assert [row for rows in sets for row in rows] == steps
    lengths = [sum(len(str(value)) for row in rows for value in row) for rows in sets]
    assert all(0.9 * snowflake_sets.MOST_JSON < length <= snowflake_sets.MOST_JSON for length in lengths[:-1])
    assert len(sets) == 3


@pytest.mark.slow
def test_every_page_is_drawn_and_every_read_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_store, "SAMPLED_S", 3600.0)
    monkeypatch.setattr(full_store, "THROTTLED_S", 600.0)
    monkeypatch.setattr(full_store, "COMMANDS", 20)
    monkeypatch.setattr(full_store, "PENDING", 200)
    path = tmp_path / "full.db"
    full_store.create(path, 2_000)
    store = open_store(Config(store=f"sqlite:///{path}"))
    found = {name: read() for name, read in screens.reads(store).items()}
    store.close()
    assert (found["stats"].pending, found["stats"].failed) == (200, 1_800)  # type: ignore[attr-defined]
    assert len(found["steps: pending"]) == screens.PAGE  # type: ignore[arg-type]
    assert found["steps: text that is nowhere"] == []
    drawn: Any = harness.child("benchmarks.drawn_pages", f"sqlite:///{path}", "1")
    assert set(drawn) == set(drawn_pages.ADDRESSES)
    assert all(ms > 0 for took in drawn.values() for ms in took)


# -- throttles --------------------------------------------------------------------------------------------------------


def test_every_limiter_is_run_on_every_server_and_every_target_is_asked_for() -> None:
    cases = throttle_simulation.cases()
    assert len(set(cases)) == len(cases)
    asked = {(case.scenario.clients, case.scenario.mode, case.limiter) for case in cases}
    assert set(throttle_simulation.TARGETS) <= asked
    for name in throttle_simulation.LIMITERS:
        assert {(mode, name) for mode in Mode} <= {(mode, limiter) for _, mode, limiter in asked}
    assert {case.scenario.clients for case in cases if case.scenario.leader_dies_s} == {4, 16}


def test_throttle_figures_are_means_with_their_targets() -> None:
    short = ((0.0, 8), (65.0, 4), (130.0, 8))
    todo = [
        Case(POD, Scenario(short, 200.0)),
        Case("AIMD, literal", Scenario(short, 200.0)),
        Case(FLEET, Scenario(short, 200.0, clients=4)),
        Case(FLEET, Scenario(short, 200.0, clients=4, leader_dies_s=100.0)),
        Case(POD, Scenario(short, 200.0, spread=None)),
    ]
    report = throttle_simulation.report_of(throttle_simulation.run_all(todo, (1, 2)))
    assert [figure.name for figure in report.figures] == [
        "1 client, hard: utilisation",
        "1 client, hard: refused",
        "1 client, hard: under after a step down",
        "1 client, hard: 90 % after a step up",
        "4 clients, hard: steady",
        "4 clients, hard: steady, refused",
        "4 clients, hard, the leader dies at 100 s: utilisation",
    ]
    assert report.figures[0].value > 0.85
    assert report.figures[0].target == 0.94
    lines = list(report.lines())
    assert len([line for line in lines if "FLEET-Q" in line]) == 4
    assert any("never" in line for line in lines)  # the steps of 300 and 600 s do not happen here


def test_processes_find_what_one_finds() -> None:
    todo = [Case(POD, Scenario(((0.0, 4),), 20.0)), Case("fixed 10", Scenario(((0.0, 4),), 20.0))]
    assert throttle_simulation.run_all(todo, (1,), processes=2) == throttle_simulation.run_all(todo, (1,))


@pytest.mark.parametrize("contestant", [throttle_threads.threads, throttle_threads.coroutines])
def test_the_real_throttle_is_driven_in_real_time(contestant: object) -> None:
    meter, api = contestant(0.2, 20)  # type: ignore[operator]
    assert 0.1 < meter.share <= 1
    assert api.answered > 20
    assert api.busy == 0
