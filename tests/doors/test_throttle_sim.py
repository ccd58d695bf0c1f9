"""`fleetq throttle-sim`: a run told in a terminal and as JSON, and nonsense refused in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleetq_core.cli import main


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder without a store, and one that must not be opened."""
    monkeypatch.setenv("FLEET_Q_STORE", "sqlite:////nowhere/at/all.db")
    monkeypatch.chdir(tmp_path)


def run(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["throttle-sim", *args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result


def test_the_default_run_is_told_with_its_figures(tmp_path: Path) -> None:
    told = run().stdout
    assert told.startswith("1 client that always has work, scope pod.")
    rows = [line.split() for line in told.splitlines() if re.match(r" +\d+ +\d+ +\d+ +\d+\.\d\d", line)]
    assert [row[1] for row in rows] == ["40"] * 10 + ["10"] * 10 + ["60"] * 10
    assert all(re.fullmatch("█*░*", row[-1]) for row in rows)
    assert "slow start" in told
    found = re.search(r"utilisation  (0\.\d+)   refused  (0\.\d+) %", told)
    assert found is not None
    assert float(found[1]) > 0.9
    assert float(found[2]) < 1
    assert re.search(r"40 → 10 +no more than that under way: after [0-3]\.\d s", told)
    assert re.search(r"10 → 60 +90 % of it used: after \d+\.\d s", told)
    assert "fairness" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scope", ["pod", "fleet", "literal"])
@pytest.mark.parametrize("mode", ["hard", "rate", "timeouts"])
def test_every_scope_and_mode_is_told(scope: str, mode: str) -> None:
    told = run("--scope", scope, "--mode", mode, "--clients", "3", "--steps", "9,3", "--length", "130").stdout
    assert "fairness" in told
    assert "steady" in told
    assert ("timed out" in told) is (mode == "timeouts")


def test_a_short_run_says_nothing_steady() -> None:
    assert "steady" not in run("--steps", "6,3", "--length", "60", "--mean-call", "0.2").stdout


def test_the_same_seed_is_the_same_json() -> None:
    options = ("--steps", "6,3", "--length", "60", "--clients", "2", "--json")
    one, again, other = (run(*options, "--seed", seed).stdout for seed in ("7", "7", "8"))
    assert one == again != other
    value = json.loads(one)
    assert len(value["slices"]) == 30
    assert value["scenario"]["steps"] == [[0, 6], [30, 3]]
    assert (value["kind"], value["seed"]) == ("pod", 7)
    assert 0 < value["utilisation"] <= 1.1


def test_json_has_no_infinity() -> None:
    told = run("--scope", "literal", "--steps", "4,400", "--length", "60", "--json").stdout
    value = json.loads(told, parse_constant=lambda name: pytest.fail(name))
    assert value["adaptions"][0]["seconds"] is None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--steps", "40,x"), "'40,x' is not a list of capacities such as 40,10,60"),
        (("--steps", ""), "is not a list of capacities"),
        (("--clients", "0"), "0 is not in the range"),
        (("--clients", "51"), "51 is not in the range"),
        (("--length", "nan"), "nan"),
        (("--length", "10"), "10.0 is not in the range"),
        (("--mean-call", "0"), "is not in the range"),
        (("--mean-call", "nan"), "nan"),
        (("--mode", "soft"), "'soft' is not one of"),
        (("--scope", "world"), "'world' is not one of"),
        (("--seed", "-1"), "-1 is not in the range"),
        (("--steps", "1000"), "at most 200,000 are simulated"),
        (("--clients", "50", "--length", "7200"), "fewer clients"),
    ],
)
def test_nonsense_is_refused_in_one_line(args: tuple[str, ...], said: str) -> None:
    lines = [line for line in run(*args, code=2).stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert said in lines[0]
