"""The benchmarks stay true to the code: their contestants run, with a few steps, and their verdicts are right."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import contestants, harness
from benchmarks.__main__ import BENCHMARKS, main

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
