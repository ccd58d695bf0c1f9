"""The dashboard as it is really served, and a real browser that can reach nothing but it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.support.fleet import Fleet
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
ARGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip

expect.set_options(timeout=20_000)


class Dashboard:
    """`streamlit run app.py` on a store of its own; `fleet` starts more pods on that store and looks into it.

    `settings` are this process's own; so is the environment that `prepare` makes of its address.
    """

    def __init__(
        self, folder: Path, *, prepare: Callable[[str], dict[str, str]] | None = None, **settings: str
    ) -> None:
        self.fleet = Fleet(
            folder, FLEET_Q_HEARTBEAT_INTERVAL="0.3", FLEET_Q_DEAD_POD_THRESHOLD="3", FLEET_Q_RECOVERY_INTERVAL="0.5",
            FLEET_Q_SAMPLE_INTERVAL="0.5", FLEET_Q_STOP_GRACE="0.5",
        )  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._pods = 1 if settings.get("FLEET_Q_ROLE", "pod") == "pod" else 0
        own = (
            {"FLEET_Q_POD_ID": "pod-web", "TEST_LOG": str(self.fleet.log)}
            | settings
            | (prepare(self.url) if prepare else {})
        )
        self._out = folder / "dashboard.out"
        with self._out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
                cwd=ROOT, env=os.environ | self.fleet.settings | own, stdout=out, stderr=out,
            )  # fmt: skip
        eventually(self._answers, timeout_s=60, every_s=0.1)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.output()
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def output(self) -> str:
        """What the process has printed."""
        return self._out.read_text()

    def stop(self) -> None:
        """SIGTERM, and the pod must have left in order."""
        try:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
            own = [pod.status for pod in self.fleet.queue.store.list_pods() if pod.pod_id == "pod-web"]
            assert own == ["down"] * self._pods, self.output()
        finally:
            self.process.kill()
            self.process.wait(10)
            self.fleet.close()


# Playwright keeps an event loop running on this thread until it is closed: no longer than this folder needs it.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = str(CHROMIUM) if CHROMIUM.exists() else None
        launched = playwright.chromium.launch(executable_path=found, args=ARGS)
        yield launched
        launched.close()


@pytest.fixture
def quiet_page(browser: Browser) -> Iterator[Page]:
    """A page on which no script may fail."""
    context = browser.new_context()
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield page
    finally:
        context.close()
    assert errors == []


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """The one that tests share which do not mind each other's steps."""
    served = Dashboard(tmp_path_factory.mktemp("dashboard"))
    yield served
    served.stop()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Dashboard]:
    """One that nobody has visited yet."""
    served = Dashboard(tmp_path)
    yield served
    served.stop()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture
def visit(page: Page) -> Callable[[str], Page]:
    """Open an address and wait until its script has run."""

    def go(url: str) -> Page:
        page.goto(url)
        ready(page)
        return page

    return go


def ready(page: Page) -> None:
    """The first heading is there, the script rests, and everything that it drew has arrived."""
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=40_000)
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_attached()
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0)


def row(page: Page, text: str) -> Locator:
    """The row of a table that holds `text`: tables are drawn on a canvas and repeated as a table for screen readers."""
    return page.locator("[data-testid=stDataFrame] tr", has_text=text).first
