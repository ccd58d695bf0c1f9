"""How a figure is made: contestants run as fresh processes, in alternating order, and their medians are compared.

Machines differ and drift by the minute, so a target is a ratio between two things measured in the same minutes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHILD_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with what it has to reach. `at_least` tells the direction; no target means it is for information."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = True

    @property
    def holds(self) -> bool:
        """Whether the target is reached."""
        if self.target is None:
            return True
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(slots=True)
class Report:
    """The figures of one benchmark and the raw values behind them."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float, unit: str, target: float | None = None, *, at_least: bool = True) -> None:
        """Add a figure."""
        self.figures.append(Figure(name, value, unit, target, at_least))

    def lines(self) -> Iterator[str]:
        """The report as text."""
        yield self.title
        for name, values in self.samples.items():
            shown = " ".join(f"{value:,.4g}" for value in values)
            yield f"    {name:<44} median {statistics.median(values):>12,.4g}   of {shown}"
        for figure in self.figures:
            bound = "at least" if figure.at_least else "at most"
            verdict = (
                "" if figure.target is None else f"   {bound} {figure.target:g}: {'ok' if figure.holds else 'MISSED'}"
            )
            yield f"  {figure.name:<46} {figure.value:>12,.3f} {figure.unit}{verdict}"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards, on the disk of the checkout: a temporary folder in memory has no fsync."""
    base = ROOT / "build"
    base.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def alternate(rounds: int, contestants: Mapping[str, Callable[[Path], float]]) -> dict[str, list[float]]:
    """Run every contestant once a round, each in a fresh folder, in an order that turns round with every round."""
    values: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            with scratch() as folder:
                values[name].append(contestants[name](folder))
    return values


def spawn(module: str, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `python -m <module> <args>` from the checkout, with its output to be read."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("FLEET_Q_", "SNOWFLAKE_"))}
    return subprocess.Popen(
        [sys.executable, "-m", module, *args], cwd=ROOT, env=clean | dict(env or {}), stdout=subprocess.PIPE, text=True
    )


def answer(process: subprocess.Popen[str]) -> dict[str, float]:
    """What a child printed as its last line, which is a JSON object."""
    out, _ = process.communicate(timeout=CHILD_TIMEOUT_S)
    if process.returncode:
        raise RuntimeError(f"{process.args!r} left with {process.returncode}")
    values: dict[str, float] = json.loads(out.splitlines()[-1])
    return values


def child(module: str, *args: str) -> dict[str, float]:
    """Run a child to its end and return its answer."""
    return answer(spawn(module, *args))


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def paired(values: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios round by round: the machine's drift is in both halves of a pair."""
    return statistics.median(value / other for value, other in zip(values, others, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def random_pauses(count: int, low_s: float, high_s: float) -> list[float]:
    """Pauses between events that keep no step with any polling interval."""
    return [random.uniform(low_s, high_s) for _ in range(count)]
