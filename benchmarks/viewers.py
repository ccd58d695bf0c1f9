"""Viewers: the dashboard of a store with a million steps, as it is really served and looked at with a real browser."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Browser, Page, expect, sync_playwright

from . import full_store, harness

STEPS, VISITS = 1_000_000, 10
WINDOW_S, WINDOWS = 40.0, (0, 1, 2, 2, 1, 0)  # how many viewers look on for so long
PAGES = ("", "steps", "steps?text=zzzqq", "pods", "throttles")
CHROMIUM = Path("/usr/bin/chromium")
START_S = 60.0


def run() -> harness.Report:
    """Seconds to the first screen of a viewer, and what a viewer who stays costs the server."""
    report = harness.Report(f"Viewers at {STEPS:,} steps")
    with harness.scratch() as folder:
        full_store.create(folder / "full.db", STEPS)
        with _served(folder / "full.db") as (url, process), _browser() as browser:
            _visit(browser, url)  # the first visitor of all warms the server up
            for path in PAGES:
                report.samples[f"first screen of /{path} (s)"] = [
                    _visit(browser, f"{url}/{path}") for _ in range(VISITS)
                ]
            looked = [(viewers, _share(browser, url, process.pid, viewers)) for viewers in WINDOWS]
    for path in PAGES:
        report.add(
            f"first screen of /{path}, p95", harness.percentile(report.samples[f"first screen of /{path} (s)"], 0.95),
            "s", 2.0, at_least=False,
        )  # fmt: skip
    for viewers in (0, 1, 2):
        name = f"{viewers} viewers of Overview (% of a core)"
        report.samples[name] = [share for number, share in looked if number == viewers]
    idle, one, two = (statistics.mean(report.samples[f"{n} viewers of Overview (% of a core)"]) for n in (0, 1, 2))
    report.add("the first viewer, with what all share", one - idle, "% of a core", 2.0, at_least=False)
    report.add("one more viewer", two - one, "% of a core", 2.0, at_least=False)
    return report


@contextmanager
def _served(store: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`streamlit run app.py` without a pod, so that all it does is for viewers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "FLEET_Q_STORE": f"sqlite:///{store}", "FLEET_Q_ROLE": "dashboard", "FLEET_Q_DEAD_POD_THRESHOLD": "3600",
        "FLEET_Q_DATA_DIR": str(store.parent / "data"),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
        cwd=harness.ROOT, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while not _answers(url):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError("the dashboard did not start")
            time.sleep(0.1)
        yield url, process
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    with suppress(OSError), urlopen(f"{url}/health", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


@contextmanager
def _browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = str(CHROMIUM) if CHROMIUM.exists() else None
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


def _visit(browser: Browser, url: str) -> float:
    """Seconds until everything of the page has been drawn for a viewer who has never been here."""
    context = browser.new_context()
    page = context.new_page()
    started = time.perf_counter()
    _open(page, url)
    took = time.perf_counter() - started
    context.close()
    return took


def _open(page: Page, url: str) -> None:
    page.goto(url, wait_until="commit")
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=40_000)
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_attached(timeout=40_000)
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0, timeout=40_000)


def _share(browser: Browser, url: str, pid: int, viewers: int) -> float:
    """Percent of a core that the server took while so many viewers looked on."""
    contexts = [browser.new_context() for _ in range(viewers)]
    for context in contexts:
        _open(context.new_page(), url)
    time.sleep(3)  # what the arrival itself cost is over
    before, started = _cpu_s(pid), time.monotonic()
    time.sleep(WINDOW_S)
    share = 100 * (_cpu_s(pid) - before) / (time.monotonic() - started)
    for context in contexts:
        context.close()
    time.sleep(3)
    return share


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
