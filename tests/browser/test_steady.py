"""Nothing jumps or flickers while a page refreshes itself: what is drawn stays the same node, at the same place."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import Dashboard, ready
from tests.browser.test_screens import PAGES
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow]
REFRESHES = 2
LEAST_SHIFT = 0.01  # of the screen: less is a figure that grew by a digit
WATCH = """() => {
    const main = document.querySelector('[data-testid=stMain]')
    const drawn = 'h1, h2, h3, input, textarea, button, [data-testid=stVegaLiteChart], [data-testid=stDataFrame]'
    main.scrollTop = 150
    window.stamps = () => [...main.querySelectorAll('[data-testid=stCaptionContainer]')]
        .map(box => box.innerText).filter(text => text.startsWith('as of'))
    window.watched = {main, stamps: stamps(), nodes: [...main.querySelectorAll(drawn)], shift: 0, moved: []}
    main.addEventListener('scroll', () => watched.moved.push(main.scrollTop))
    new PerformanceObserver(list => list.getEntries().forEach(entry => {
        if (!entry.hadRecentInput) watched.shift += entry.value
    })).observe({type: 'layout-shift'})
    return main.scrollTop
}"""
ALL_NEW = "() => !stamps().some(text => watched.stamps.includes(text))"
AS_OF = """() => [...document.querySelectorAll('[data-testid=stSidebar] [data-testid=stCaptionContainer]')]
    .map(box => box.innerText).find(text => text.startsWith('as of'))"""


@pytest.fixture(scope="module")
def working(dashboard: Dashboard) -> Dashboard:
    """A fleet that has work for as long as it is looked at, and a step that failed."""
    queue = dashboard.fleet.queue
    queue.submit_step({"task_type": "sleep", "seconds": "no"}, step_id="failed-1")
    queue.submit_steps([{"task_type": "sleep", "seconds": 600} for _ in range(40)])
    eventually(lambda: queue.stats().claimed and len(queue.store.list_samples(0, 10)) >= 3)
    return dashboard


def test_a_refresh_moves_nothing(working: Dashboard, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    pages = {name: context.new_page() for name in PAGES}  # side by side: each refreshes itself meanwhile
    for name, page in pages.items():
        page.goto(f"{working.url}/{PAGES[name]}")
    for page in pages.values():
        ready(page)
        page.wait_for_load_state("networkidle")
        eventually(lambda page=page: page.evaluate(AS_OF), timeout_s=10)
    _refresh(pages)  # what the first one adds may be new
    tops = {name: page.evaluate(WATCH) for name, page in pages.items()}
    for _ in range(REFRESHES):
        working.fleet.queue.submit_step({"task_type": "echo"})
        _refresh(pages)
    assert {name for name, page in pages.items() if not page.evaluate("watched.stamps")} == {"submit"}
    for page in pages.values():  # the panel of every two seconds, the curves, and what else a page refreshes
        page.wait_for_function(ALL_NEW)
    moved = {name: _moved(page, tops[name]) for name, page in pages.items()}
    context.close()
    assert {name: found for name, found in moved.items() if found} == {}


def _refresh(pages: dict[str, Page]) -> None:
    before = {name: page.evaluate(AS_OF) for name, page in pages.items()}
    for name, page in pages.items():
        page.wait_for_function(f"before => ({AS_OF})() !== before", arg=before[name])


def _moved(page: Page, top: float) -> dict[str, Any]:
    """What is not as it was."""
    seen = page.evaluate(
        "() => ({gone: watched.nodes.filter(node => !node.isConnected).map(node => node.outerHTML.slice(0, 120)),"
        " shift: watched.shift, moved: watched.moved, top: watched.main.scrollTop})"
    )
    still = {"gone": [], "shift": seen["shift"] if seen["shift"] < LEAST_SHIFT else 0, "top": top}
    seen["moved"] = [one for one in seen["moved"] if one != top]
    return {what: value for what, value in seen.items() if value != still.get(what, [])}
