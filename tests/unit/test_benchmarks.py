"""The benchmarks stay true to the code: their contestants run, with a few steps, and their verdicts are right."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import contestants, harness, throttle_simulation, throttle_threads
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.throttle_simulation import FLEET, POD, Case
from fleetq_core.playground.scenario import Mode, Scenario

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
