"""Clients that always have work against a server whose capacity steps 40 → 10 → 60: the package's own simulation.

FLEET-Q's rules beside a fixed limit, AIMD taken literally from the specification, Netflix Gradient2, Palantir's CIAD
and AWS adaptive mode. The seeds are not those that any setting was chosen with (1 to 5).
"""

from __future__ import annotations

import multiprocessing
import os
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from benchmarks.throttle_rivals import AwsAdaptive, Gradient2, PalantirCiad
from fleetq_core.playground.limiters import Fixed, Limiter, LiteralAimd
from fleetq_core.playground.scenario import Mode, Scenario
from fleetq_core.playground.simulation import WORKERS, Simulation, limiters_of, shared
from fleetq_core.throttle import LimitRule, ThrottleConfig

from . import harness

SEEDS = (301, 302, 303, 304, 305)
SETTLED_S = 60.0  # "steady" is without the first minute after each step of the capacity
DOWN_S, UP_S = 300.0, 600.0
POD, FLEET = "FLEET-Q, pod scope", "FLEET-Q, fleet scope"

LIMITERS: dict[str, Callable[[random.Random], Limiter]] = {
    POD: lambda rng: LimitRule(ThrottleConfig(), rng),
    FLEET: shared(),
    "AIMD, literal": lambda _: LiteralAimd(),
    "Gradient2": lambda _: Gradient2(),
    "Gradient2, drops ignored": lambda _: Gradient2(drops=False),
    "Palantir CIAD": lambda _: PalantirCiad(),
    "AWS adaptive": lambda _: AwsAdaptive(),
    "fixed 10": lambda _: Fixed(10),
    "no limiter": lambda _: Fixed(WORKERS),
}


@dataclass(frozen=True, slots=True)
class Case:
    """What is run with every seed: a limiter by name, and the scenario."""

    limiter: str
    scenario: Scenario


@dataclass(frozen=True, slots=True)
class Run:
    """What is kept of one run; shares from 0 to 1, seconds infinite where it never happened."""

    utilisation: float
    lost: float
    steady: float
    steady_lost: float
    fairness: float
    down_s: float
    up_s: float


# (clients, mode, limiter) → least utilisation, most refused or timed out, over the run
TARGETS: Mapping[tuple[int, Mode, str], tuple[float, float | None]] = {
    (1, Mode.HARD, POD): (0.94, 0.006),
    (1, Mode.RATE, POD): (0.95, 0.01),
    (1, Mode.TIMEOUTS, POD): (0.92, None),
    (4, Mode.TIMEOUTS, FLEET): (0.92, None),
    (16, Mode.HARD, FLEET): (0.92, 0.015),
    (16, Mode.TIMEOUTS, FLEET): (0.92, None),
}
# clients → least steady utilisation, most refused, least fairness (fleet scope, hard)
STEADY: Mapping[int, tuple[float, float, float | None]] = {4: (0.93, 0.006, None), 16: (0.96, 0.01, 0.98)}
LEADER_DIES_S, LEAST_WITHOUT_LEADER = 450.0, 0.90


def simulate(name: str, scenario: Scenario, seed: int) -> Run:
    """One run of a named limiter."""
    out = Simulation(scenario, limiters_of(scenario, LIMITERS[name], seed), seed).run()
    return Run(
        out.utilisation(), out.refusal_share(), out.utilisation(SETTLED_S), out.refusal_share(SETTLED_S),
        out.fairness(SETTLED_S), out.seconds_down(DOWN_S), out.seconds_up(UP_S),
    )  # fmt: skip


def cases() -> list[Case]:
    """Every limiter with 1, 4 and 16 clients and each kind of server; a dying leader; exponential calls for ours."""
    table = [
        Case(name, Scenario(mode=mode, clients=clients))
        for clients in (1, 4, 16)
        for mode in Mode
        for name in LIMITERS
        # One client has no fleet; where both Gradient2 differ, one client shows it.
        if name not in ((FLEET,) if clients == 1 else ("Gradient2, drops ignored",))
    ]
    dying = [Case(FLEET, Scenario(clients=clients, leader_dies_s=LEADER_DIES_S)) for clients in (4, 16)]
    exponential = [
        Case(name, Scenario(mode=mode, clients=clients, spread=None))
        for clients, names in ((1, (POD, "AIMD, literal")), (4, (FLEET,)), (16, (FLEET,)))
        for mode in Mode
        for name in names
    ]
    return table + dying + exponential


def run_all(todo: Sequence[Case], seeds: Sequence[int], processes: int = 1) -> dict[Case, list[Run]]:
    """Each case with each seed."""
    jobs = [(case.limiter, case.scenario, seed) for case in todo for seed in seeds]
    if processes == 1:
        runs = [simulate(*job) for job in jobs]
    else:
        # Not a fork: a copy of a process with threads may hang.
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            runs = list(pool.map(simulate, *zip(*jobs, strict=True)))
    return {case: runs[n * len(seeds) : (n + 1) * len(seeds)] for n, case in enumerate(todo)}


@dataclass(slots=True)
class TableReport(harness.Report):
    """A report that prints a table before its figures."""

    table: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The report as text."""
        title, *rest = harness.Report.lines(self)
        yield title
        yield from self.table
        yield from rest


def run(seeds: Sequence[int] = SEEDS) -> harness.Report:
    """Means over the seeds, and medians for the seconds to adapt."""
    return report_of(run_all(cases(), seeds, processes=os.cpu_count() or 1))


def report_of(found: Mapping[Case, Sequence[Run]]) -> TableReport:
    """The table, and the figures with a target."""
    report = TableReport(
        "Capacity 40 → 10 → 60 at 300 and 600 of 900 s, mean call 1 s; lost: refused or timed out; steady: without the "
        f"first {SETTLED_S:g} s after each step"
    )
    heading = ""
    for case, runs in found.items():
        if (said := _heading(case.scenario)) != heading:
            heading = said
            report.table += [f"  {heading}", f"    {'':<26} util   lost %   steady   lost %   Jain   down s   up s"]
        report.table.append(_row(case, runs))
        _add_targets(report, case, runs)
    return report


def _heading(scenario: Scenario) -> str:
    clients = "1 client" if scenario.clients == 1 else f"{scenario.clients} clients"
    dies = f", the leader dies at {scenario.leader_dies_s:g} s" if scenario.leader_dies_s else ""
    return f"{clients}, {scenario.mode.value}{dies}{', exponential calls' if scenario.spread is None else ''}"


def _row(case: Case, runs: Sequence[Run]) -> str:
    def mean(value: Callable[[Run], float]) -> float:
        return statistics.fmean(map(value, runs))

    def middle(value: Callable[[Run], float]) -> str:
        seconds = statistics.median(map(value, runs))
        return "never" if seconds == float("inf") else f"{seconds:.1f}"

    several = case.scenario.clients > 1 and case.scenario.leader_dies_s is None
    fairness = f"{mean(lambda r: r.fairness):.3f}" if several else "–"
    return (
        f"    {case.limiter:<26}{mean(lambda r: r.utilisation):5.3f} {100 * mean(lambda r: r.lost):8.2f} "
        f"{mean(lambda r: r.steady):8.3f} {100 * mean(lambda r: r.steady_lost):8.2f} {fairness:>6} "
        f"{middle(lambda r: r.down_s):>8} {middle(lambda r: r.up_s):>6}"
    )


def _add_targets(report: harness.Report, case: Case, runs: Sequence[Run]) -> None:
    scenario, what = case.scenario, f"{_heading(case.scenario)}: "
    if scenario.spread is None:
        return
    utilisation = statistics.fmean(run.utilisation for run in runs)
    if scenario.leader_dies_s:
        report.add(f"{what}utilisation", utilisation, "", LEAST_WITHOUT_LEADER)
        return
    key = (scenario.clients, scenario.mode, case.limiter)
    if key in TARGETS:
        least, most = TARGETS[key]
        report.add(f"{what}utilisation", utilisation, "", least)
        if most is not None:
            lost = 100 * statistics.fmean(run.lost for run in runs)
            report.add(f"{what}refused", lost, "%", 100 * most, at_least=False)
    if key == (1, Mode.HARD, POD):
        down, up = (statistics.median(getattr(run, name) for run in runs) for name in ("down_s", "up_s"))
        report.add(f"{what}under after a step down", down, "s", 3.0, at_least=False)
        report.add(f"{what}90 % after a step up", up, "s", 35.0, at_least=False)
    if scenario.clients in STEADY and (scenario.mode, case.limiter) == (Mode.HARD, FLEET):
        least, most, fair = STEADY[scenario.clients]
        report.add(f"{what}steady", statistics.fmean(run.steady for run in runs), "", least)
        lost = 100 * statistics.fmean(run.steady_lost for run in runs)
        report.add(f"{what}steady, refused", lost, "%", 100 * most, at_least=False)
        if fair is not None:
            report.add(f"{what}Jain", statistics.fmean(run.fairness for run in runs), "", fair)


if __name__ == "__main__":
    print("\n".join(run().lines()))
