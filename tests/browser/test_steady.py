"""Nothing jumps or flickers while a page refreshes itself: what is drawn stays the same node, at the same place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Dashboard
from tests.browser.test_screens import PAGES
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow]
REFRESHES = 2
LEAST_SHIFT = 0.01  # of the screen: less is a figure that grew by a digit
WATCH = """() => {
    const main = document.querySelector('[data-testid=stMain]')
    const drawn = 'h1, h2, h3, input, textarea, button, [data-testid=stVegaLiteChart], [data-testid=stDataFrame]'
    main.scrollTop = 150
    window.watched = {main, nodes: [...main.querySelectorAll(drawn)], shift: 0, moved: []}
    main.addEventListener('scroll', () => watched.moved.push(main.scrollTop))
    new PerformanceObserver(list => list.getEntries().forEach(entry => {
        if (!entry.hadRecentInput) watched.shift += entry.value
    })).observe({type: 'layout-shift'})
    return main.scrollTop
}"""
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


@pytest.mark.parametrize("name", PAGES)
def test_a_refresh_moves_nothing(working: Dashboard, visit: Callable[[str], Page], name: str) -> None:
    page = visit(f"{working.url}/{PAGES[name]}")
    expect(page.get_by_test_id("stSidebar").get_by_text("store ok")).to_be_visible()
    page.wait_for_load_state("networkidle")
    eventually(lambda: page.evaluate(AS_OF), timeout_s=10)
    page.wait_for_function(f"before => ({AS_OF})() !== before", arg=page.evaluate(AS_OF))  # the first refresh is over
    top = page.evaluate(WATCH)
    for _ in range(REFRESHES):
        page.wait_for_function(f"before => ({AS_OF})() !== before", arg=page.evaluate(AS_OF))
    seen = page.evaluate(
        "() => ({gone: watched.nodes.filter(node => !node.isConnected).map(node => node.outerHTML.slice(0, 120)),"
        " shift: watched.shift, moved: watched.moved, top: watched.main.scrollTop})"
    )
    assert seen["gone"] == []
    assert seen["shift"] < LEAST_SHIFT
    assert [one for one in seen["moved"] if one != top] == []
    assert seen["top"] == top
