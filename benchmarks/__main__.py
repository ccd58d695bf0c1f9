"""`make bench` or `python -m benchmarks [NAME…]`: run the benchmarks and print the figures with their targets.

Leaves with 1 if a target is missed.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from collections.abc import Callable

from . import (
    drain,
    footprint,
    history,
    pick_up,
    screens,
    slow_store,
    snowflake_fleet,
    snowflake_idle,
    snowflake_sets,
    throttle_overhead,
    throttle_simulation,
    throttle_threads,
    two_pods,
    viewers,
)
from .harness import Report

BENCHMARKS: dict[str, Callable[[], Report]] = {
    "drain": drain.run,
    "two_pods": two_pods.run,
    "pick_up": pick_up.run,
    "history": history.run,
    "screens": screens.run,
    "viewers": viewers.run,
    "footprint": footprint.run,
    "slow_store": slow_store.run,
    "snowflake_fleet": snowflake_fleet.run,
    "snowflake_idle": snowflake_idle.run,
    "snowflake_sets": snowflake_sets.run,
    "throttle_simulation": throttle_simulation.run,
    "throttle_threads": throttle_threads.run,
    "throttle_overhead": throttle_overhead.run,
}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores\n")
    missed = 0
    for name in names or BENCHMARKS:
        report = BENCHMARKS[name]()
        print("\n".join(report.lines()), flush=True)
        print()
        missed += sum(not figure.holds for figure in report.figures)
    print(f"{missed} targets missed" if missed else "every target holds")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
