"""Data that looks like HTML, Markdown, icons or formulas is text on every page: nothing of it runs or is formatted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from fleetq_core.model import Identity, Outcome, Status, StepRow
from tests.browser.conftest import Dashboard, ready
from tests.browser.test_screens import TOO_WIDE, WIDTHS
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow]

EVIL = (
    '<img src=x onerror="window.pwned=1"><b>fat</b> **bold** _slanted_ [here](javascript:alert(1)) '
    ":material/home: :red[red] $x^2$ `code` # Big"
)
LONG = "long-" + "x" * 200
ADDRESSES = (
    "", "steps", f"steps?step={quote(EVIL)}", f"steps?step={LONG}", f"steps?text={quote(EVIL)}&task={quote(EVIL)}",
    f"new-step?copy={quote(EVIL)}", "pods", f"pods?pod={quote(EVIL)}", "recovery", f"recovery?run={quote(EVIL)}",
    "throttles", f"throttles?throttle={quote(EVIL)}", "cost", "audit",
)  # fmt: skip
SPOILT = """() => {
    const all = selector => [...document.querySelectorAll('[data-testid=stApp] ' + selector)]
    const says = (node, words) => node.textContent.includes(words)
    return [
        window.pwned ? 'a script of the data ran' : null,
        ...all('img[src="x"]'), ...all('a[href^="javascript"]'), ...all('.katex'),
        ...all('b, strong').filter(node => says(node, 'fat') || says(node, 'bold')),
        ...all('em').filter(node => says(node, 'slanted')),
        ...all('h1, h2').filter(node => says(node, 'Big')),
        ...all('[data-testid=stIconMaterial]').filter(node => node.textContent === 'home'),
    ].filter(Boolean).map(found => found.outerHTML || found)
}"""


@pytest.fixture(scope="module")
def haunted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A fleet in which every name, payload, error and order is hostile. Its evil pod never beats again."""
    served = Dashboard(tmp_path_factory.mktemp("hostile"))
    queue = served.fleet.queue
    store, who = queue.store, Identity(EVIL, EVIL)
    queue.ask("pause", "pod-web", by=EVIL, timeout_s=20)  # or it would claim first
    figures = {"max_inflight": 3, "current_inflight": 1, "total_requests": 9, "total_throttles": 5}
    store.register_pod(
        who, {"state": EVIL, "version": EVIL, "host": EVIL, "tasks": [EVIL], "last_errors": [EVIL], "capacity": 4,
              "running": [{"step_id": EVIL, "task_type": EVIL, "seconds": 3}], "throttles": {EVIL: figures}},
    )  # fmt: skip
    payload = json.dumps({"task_type": EVIL, EVIL: [EVIL, {"deep": EVIL}]})
    store.insert_steps([StepRow(step_id, EVIL, payload, 0, 3) for step_id in (EVIL, LONG)])
    claimed = store.claim_steps(who, "t", 2, 60.0)
    assert len(claimed) == 2
    store.settle_steps([Outcome(one.step_id, "t", Status.FAILED, 0.1, error=f"{EVIL}\n{EVIL}") for one in claimed], 3)
    queue.ask("resume", "pod-web", by=EVIL, timeout_s=20)
    queue.ask("reset_throttle", "pod-web", by=EVIL, timeout_s=20, name=EVIL)
    eventually(lambda: store.list_recovery_runs(9))
    yield served
    served.stop()


@pytest.fixture
def wary(browser: Browser) -> Iterator[Page]:
    """A page on which no dialog may open and no script may fail."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, alarms = context.new_page(), list[str]()
    page.on("pageerror", lambda error: alarms.append(str(error)))
    page.on("dialog", lambda dialog: alarms.append(dialog.message))
    yield page
    context.close()
    assert alarms == []


def test_nothing_in_the_data_is_markup(haunted: Dashboard, wary: Page) -> None:
    for address in ADDRESSES:
        wary.set_viewport_size({"width": 1280, "height": 900})
        wary.goto(f"{haunted.url}/{address}")
        ready(wary)
        assert wary.evaluate(SPOILT) == [], address
        for width in WIDTHS:
            wary.set_viewport_size({"width": width, "height": 900})
            eventually(lambda: wary.evaluate(TOO_WIDE) == [], timeout_s=10)
        expect(wary.get_by_test_id("stException")).to_have_count(0)


@pytest.mark.parametrize("address", [f"steps?step={quote(EVIL)}", f"pods?pod={quote(EVIL)}"])
def test_what_the_data_says_can_be_read_to_the_letter(haunted: Dashboard, wary: Page, address: str) -> None:
    wary.goto(f"{haunted.url}/{address}")
    ready(wary)
    expect(wary.get_by_test_id("stMain").get_by_text(EVIL, exact=True).first).to_be_visible()
