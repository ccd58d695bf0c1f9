"""Every page of the dashboard drawn in this process, timed: `python -m benchmarks.drawn_pages STORE_URL ROUNDS`.

Prints a JSON object: for each address, the milliseconds of each drawing. A drawing is one whole run of the script, with
nothing of the store at hand, as after a pause of all viewers; none shares an answer with the one before.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path

from streamlit.testing.v1 import AppTest

from fleetq_core import runtime

ROOT = Path(__file__).parents[1]
ADDRESSES: dict[str, dict[str, str]] = {
    "overview": {},
    "overview?range=7 d": {"range": "7 d"},
    "steps": {},
    "steps?status=completed": {"status": "completed"},
    "steps?status=pending": {"status": "pending"},
    "steps?status=dead letters": {"status": "dead letters"},
    "steps?text=nowhere": {"text": "zzzqq"},
    "steps?pod=nobody": {"pod": "nobody"},
    "steps?step=old-00001234": {"step": "old-00001234"},
    "submit": {},
    "pods": {},
    "pods?pod=pod-9": {"pod": "pod-9"},
    "recovery": {},
    "recovery?run=run-1999": {"run": "run-1999"},
    "throttles": {},
    "throttles?throttle=partner": {"throttle": "partner"},
    "cost": {},
    "audit": {},
}


def main(url: str, rounds: int) -> None:
    """Draw every address `rounds` times, all in turn."""
    os.environ |= {"FLEET_Q_STORE": url, "FLEET_Q_ROLE": "dashboard", "FLEET_Q_DEAD_POD_THRESHOLD": "3600"}
    logging.disable(logging.WARNING)  # Streamlit warns of every call that is made outside of a server
    app = runtime.get_runtime()
    took: dict[str, list[float]] = {address: [] for address in ADDRESSES}
    for _ in range(rounds):
        for address, query in ADDRESSES.items():
            viewer = AppTest.from_file(ROOT / "fleetq_core" / "dashboard" / "main.py", default_timeout=60).run()
            viewer.switch_page(str(ROOT / "pages" / f"{address.partition('?')[0]}.py"))
            viewer.query_params.update(query)
            app.cache.clear()
            started = time.perf_counter()
            viewer.run()
            took[address].append(1000 * (time.perf_counter() - started))
            if viewer.exception or viewer.error:
                raise RuntimeError(f"{address}: {viewer.exception or viewer.error}")
    runtime.shutdown()
    print(json.dumps(took))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
