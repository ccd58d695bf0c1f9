"""The pictures of README, from a live fleet: `make screenshots` (`python -m tests.browser.screenshots FOLDER`).

Three pods work for a minute and a half on the demo load; one of them is killed in between. Then the pages are opened.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from fleetq_core.demo import demo_steps
from fleetq_core.model import DecisionFilter, Status, StepFilter
from tests.browser.conftest import ARGS, CHROMIUM, Dashboard, ready
from tests.support.waiting import eventually

WIDTH, HEIGHT = 1280, 1150
WORK_S, KILL_S, EVERY_S, BATCH = 90.0, 40.0, 3.0, 12
FIRST_BATCH = 150


def main(target: Path) -> None:
    """Make every picture anew."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        served = Dashboard(Path(folder))
        try:
            _work(served)
            _shoot(served, target)
        finally:
            served.stop()


def _work(served: Dashboard) -> None:
    queue, fleet = served.fleet.queue, served.fleet
    victim = [fleet.start(f"pod-{number}") for number in (2, 3)][-1]
    began, turn, pause = time.monotonic(), 0, threading.Event()
    queue.submit_steps(demo_steps(FIRST_BATCH, seed=0))
    while (passed := time.monotonic() - began) < WORK_S:
        turn += 1
        queue.submit_steps(demo_steps(BATCH, seed=turn))
        if passed > KILL_S and victim.poll() is None:
            queue.submit_steps(demo_steps(FIRST_BATCH, seed=turn))  # more than the others take at once
            eventually(lambda: queue.find_steps(StepFilter(status=Status.CLAIMED, claimed_by="pod-3")))
            victim.kill()
            fleet.start("pod-4")
        pause.wait(EVERY_S)


def _shoot(served: Dashboard, target: Path) -> None:
    queue, store = served.fleet.queue, served.fleet.queue.store
    orphan = eventually(lambda: store.find_decisions(DecisionFilter(owner="pod-3", cause="orphan"), 1))[0]
    pictures = {
        "overview-light": ("light", "?range=5+min"),
        "overview-dark": ("dark", "?range=5+min"),
        "steps": ("light", "steps"),
        "step": ("light", f"steps?step={orphan.decision.step_id}"),
        "pods": ("dark", "pods?pod=pod-3"),
        "recovery": ("light", f"recovery?run={orphan.run_id}"),
        "throttles": ("dark", "throttles?throttle=simulated_api"),
    }
    with sync_playwright() as playwright:
        found = str(CHROMIUM) if CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=found, args=ARGS)
        for name, (scheme, address) in pictures.items():
            queue.submit_steps(demo_steps(3 * BATCH))  # so that there is work in the picture
            context = browser.new_context(color_scheme=scheme, viewport={"width": WIDTH, "height": HEIGHT})  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(f"{served.url}/{address}")
            _settle(page)
            page.screenshot(path=target / f"{name}.png")
            context.close()
        browser.close()


def _settle(page: Page) -> None:
    """Everything has been drawn, charts and tables too."""
    ready(page)
    page.wait_for_load_state("networkidle")
    charts = page.get_by_test_id("stVegaLiteChart")
    eventually(lambda: charts.locator("canvas, svg").count() >= charts.count(), timeout_s=20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
