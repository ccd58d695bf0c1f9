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

from playwright.sync_api import Browser, Page, sync_playwright

from . import full_store, harness

STEPS, VISITS = 1_000_000, 10
WINDOW_S, WINDOWS = 40.0, (0, 1, 2, 2, 1, 0)  # how many viewers look on for so long
PAGES = ("", "steps", "steps?text=zzzqq", "pods", "throttles")
CHROMIUM = Path("/usr/bin/chromium")
START_S = 60.0
# Asked with every frame that the browser draws: other ways of waiting look at times that are up to a second apart.
FIRST_SCREEN = """() => document.querySelector('[data-testid=stMain] h1') && [...document.querySelectorAll(
    '[data-testid=stSidebar] [data-testid=stCaptionContainer]')].some(box => box.innerText.startsWith('as of'))"""
ALL_DRAWN = """() => document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]')
    && !document.querySelector('[data-testid=stSkeleton]') && [...document.querySelectorAll(
    '[data-testid=stVegaLiteChart], [data-testid=stDataFrame]')].every(box => box.querySelector('canvas, svg'))"""


def run() -> harness.Report:
    """Seconds to the first screen of a viewer, and what a viewer who stays costs the server."""
    report = harness.Report(f"Viewers at {STEPS:,} steps")
    with harness.scratch() as folder:
        full_store.create(folder / "full.db", STEPS)
        with _served(folder / "full.db") as (url, process), _browser() as browser:
            _visit(browser, url)  # the first visitor of all warms the server up
            for path in PAGES:
                new, back = _visits(browser, f"{url}/{path}")
                report.samples |= {f"/{path}, a browser new to it (s)": new, f"/{path}, one that was here (s)": back}
            looked = [(viewers, _share(browser, url, process.pid, viewers)) for viewers in WINDOWS]
    for name, took in report.samples.items():
        target = 2.0 if name.endswith("one that was here (s)") else None
        report.add(f"first screen of {name}", harness.percentile(took, 0.95), "s at p95", target, at_least=False)
    for viewers in (0, 1, 2):
        name = f"{viewers} viewers of Overview (% of a core)"
        report.samples[name] = [share for number, share in looked if number == viewers]
    idle, one, two = (statistics.mean(report.samples[f"{n} viewers of Overview (% of a core)"]) for n in (0, 1, 2))
    report.add("the first viewer, with what all viewers share", one - idle, "% of a core")
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


def _visits(browser: Browser, url: str) -> tuple[list[float], list[float]]:
    """Seconds to the first screen: for browsers without anything of Streamlit, and for one that has been here."""
    new = [_visit(browser, url) for _ in range(VISITS)]
    context = browser.new_context()
    page = context.new_page()
    back = [_first_screen(page, url) for _ in range(VISITS + 1)][1:]
    context.close()
    return new, back


def _visit(browser: Browser, url: str) -> float:
    context = browser.new_context()
    took = _first_screen(context.new_page(), url)
    context.close()
    return took


def _first_screen(page: Page, url: str) -> float:
    """Seconds until the page has its heading and figures of the store; it is then left to draw the rest."""
    started = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_function(FIRST_SCREEN)
    took = time.perf_counter() - started
    page.wait_for_function(ALL_DRAWN)
    return took


def _share(browser: Browser, url: str, pid: int, viewers: int) -> float:
    """Percent of a core that the server took while so many viewers looked on."""
    contexts = [browser.new_context() for _ in range(viewers)]
    for context in contexts:
        page = context.new_page()
        page.goto(url)
        page.wait_for_function(ALL_DRAWN)
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
