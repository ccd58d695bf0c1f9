"""The audit: what was ordered and what came of it, one order in full, and the settings, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from fleetq_core import Queue
from tests.browser.conftest import Dashboard, row
from tests.browser.test_screens import WIDTHS, enter, shoot_both

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Visit = Callable[[str], Page]
HOSTILE = "<img src=x onerror=alert(1)> **bold** :material/home:"


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard, a second pod, and a log with orders that were obeyed, refused and not heard."""
    served = Dashboard(tmp_path_factory.mktemp("audited"))
    try:
        served.fleet.start("pod-2")
        _order_things(served.fleet.queue)
        yield served
    finally:
        served.stop()


def _order_things(queue: Queue) -> None:
    queue.ask("pause", "*", by="ann@example.com", timeout_s=20)
    queue.ask("resume", "*", by="ann@example.com", timeout_s=20)
    queue.ask("run_recovery", "leader", by="cli", timeout_s=20)
    queue.requeue_steps([f"step-{number}" for number in range(40)], by="http")
    queue.ask("reset_throttle", "pod-2", by="bob@example.com", timeout_s=20, name=HOSTILE)
    queue.order("drain", "pod-long-gone", by="ann@example.com")


def test_an_order_is_found_and_told_in_full(audited: Dashboard, visit: Visit) -> None:
    page = visit(f"{audited.url}/audit")
    main = page.get_by_test_id("stMain")
    expect(page.get_by_test_id("stSidebarNav").get_by_role("link").last).to_have_text(re.compile("Audit"))
    expect(row(page, "pod-long-gone")).to_contain_text("open")
    expect(row(page, "requeue 40 steps")).to_contain_text("the store")
    expect(row(page, "bob@example.com")).to_contain_text("refused")
    _select(page, "bob@example.com")
    expect(main.get_by_role("heading", name="The selected order")).to_be_visible()
    expect(main.get_by_text("Nobody could do it.")).to_be_visible()
    expect(main.get_by_text("1 answer, 1 refused.")).to_be_visible()
    expect(main.get_by_test_id("stJson")).to_contain_text(HOSTILE)
    expect(main.locator("img")).to_have_count(0)

    # Another order comes: the rows stay where they are, and with them what is selected.
    audited.fleet.queue.order("resume", "pod-long-gone", by="late@example.com")
    expect(main.get_by_text("1 newer order will appear when no row is selected.")).to_be_visible()
    expect(main.get_by_text("1 answer, 1 refused.")).to_be_visible()


def test_the_filters_are_the_address(audited: Dashboard, visit: Visit) -> None:
    page = visit(f"{audited.url}/audit?person=cli")
    expect(row(page, "run recovery")).to_be_attached()
    expect(row(page, "ann@example.com")).to_have_count(0)
    page.get_by_test_id("stMain").get_by_role("combobox").first.click()
    page.get_by_role("option", name="pause", exact=True).click()
    page.wait_for_url(re.compile(r"order=pause"))
    expect(page.get_by_test_id("stMain").get_by_text("matches these filters")).to_be_visible()


def test_the_screen_fits_and_looks_right(audited: Dashboard, quiet_page: Page) -> None:
    page = quiet_page
    for width in WIDTHS:
        enter(page, f"{audited.url}/audit", width)
        expect(row(page, "refused")).to_be_attached()  # a phone's width holds no more columns
        shoot_both(page, "audit-log", width)
        _select(page, "refused")
        expect(page.get_by_text("1 answer, 1 refused.")).to_be_visible()
        expect(page.get_by_test_id("stCode")).to_have_count(2)
        expect(page.get_by_test_id("stJson")).to_contain_text("alert")
        shoot_both(page, "audit-order", width)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def _select(page: Page, text: str) -> None:
    table = page.get_by_test_id("stMain").get_by_test_id("stDataFrame").first
    lines = table.locator("tr").all_text_contents()  # the first is the head
    number = next(number for number, line in enumerate(lines) if text in line)
    table.locator(".dvn-scroller").click(position={"x": 16, "y": 35 * number + 17})
