"""A throttle that is squeezed: seen at a glance, chosen, explained by its log, and reset, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Dashboard, ready, row
from tests.browser.test_screens import WIDTHS, enter, shoot_both
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Visit = Callable[[str], Page]
SCROLL_ON = """box => {
    const end = box.scrollTop + box.clientHeight >= box.scrollHeight - 1
    box.scrollTop = end ? 0 : box.scrollTop + box.clientHeight / 2
}"""


@pytest.fixture(scope="module")
def squeezed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard, and two pods whose tasks press on stand-ins of services with small capacities."""
    # Pods that press as hard as these beat late on a loaded machine; nobody shall look dead for it.
    patient = {"FLEET_Q_DEAD_POD_THRESHOLD": "30"}
    served = Dashboard(tmp_path_factory.mktemp("squeezed"), **patient)
    try:
        for pod in ("pod-2", "pod-3"):
            served.fleet.start(pod, FLEET_Q_HANDLERS="tests.support.squeezed", SQUEEZED="1", **patient)
        store = served.fleet.queue.store
        # The leader has planned for the fleet's throttle, refusals are in the log, and the curves have begun.
        eventually(lambda: any(c.pod_id == "*" for c in store.list_throttle_changes(50, name="shared")), timeout_s=40)
        eventually(lambda: any(c.reason == "throttle" for c in store.list_throttle_changes(50, name="strict")))
        eventually(lambda: len(store.list_throttle_samples(0, 500, "shared")) > 20, timeout_s=40)
        yield served
    finally:
        served.stop()


def test_the_squeezed_throttle_is_seen_chosen_and_reset(squeezed: Dashboard, visit: Visit) -> None:
    page = visit(f"{squeezed.url}/throttles")
    main = page.get_by_test_id("stMain")
    expect(main.get_by_text(re.compile("all slots are taken|of calls refused")).first).to_be_visible()
    expect(row(page, "strict")).to_be_attached()

    page = visit(f"{squeezed.url}/throttles?throttle=strict")
    expect(main.locator("[data-testid=stCode]", has_text="strict").first).to_be_visible()
    expect(main.get_by_test_id("stVegaLiteChart")).to_have_count(4)
    expect(row(page, "the downstream refused a call")).to_be_attached()
    expect(main.get_by_text("this is for 2 pods")).to_be_visible()
    main.get_by_role("button", name="Reset on all pods").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("On 2 pods it starts again")
    expect(dialog).to_contain_text("pod-3")
    dialog.get_by_role("button", name="Reset on 2 pods").click()
    expect(dialog).to_have_count(0)
    expect(main.get_by_text("2 of 2 pods answered")).to_be_visible()
    expect(main.get_by_text("pod-2: throttle strict reset")).to_be_visible()
    log = main.locator("[data-testid=stDataFrame]", has=page.locator("th", has_text="Why")).last
    eventually(lambda: _is_met(log, "reset by an operator"), timeout_s=20, every_s=0.2)
    (record,) = squeezed.fleet.queue.store.list_commands(1)
    assert (record.command.kind, record.command.issued_by) == ("reset_throttle", "dashboard")


def _is_met(table: Locator, text: str) -> bool:
    """Whether `text` is in the rows in view; else scroll on: newer moves push a line out of sight within seconds."""
    if table.locator("tr", has_text=text).count():
        return True
    table.locator(".dvn-scroller").evaluate(SCROLL_ON)
    return False


def test_a_row_that_is_selected_becomes_the_address(squeezed: Dashboard, visit: Visit) -> None:
    page = visit(f"{squeezed.url}/throttles?throttle=strict")
    table = page.get_by_test_id("stMain").get_by_test_id("stDataFrame").first
    expect(row(page, "roomy")).to_be_attached()
    page.get_by_test_id("stSidebar").get_by_text("Live", exact=True).click()  # nobody moves the rows meanwhile
    ready(page)
    lines = table.locator("tr").all_text_contents()  # the first is the head
    roomy = next(number for number, text in enumerate(lines) if "roomy" in text)
    table.locator(".dvn-scroller").click(position={"x": 16, "y": 35 * roomy + 17})
    page.wait_for_url(re.compile(r"throttle=roomy"))
    expect(page.get_by_test_id("stMain").locator("[data-testid=stCode]", has_text="roomy")).to_be_visible()


def test_the_screen_fits_and_looks_right(squeezed: Dashboard, quiet_page: Page) -> None:
    page = quiet_page
    for name in ("strict", "shared"):
        for width in WIDTHS:
            enter(page, f"{squeezed.url}/throttles?throttle={name}", width)
            expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(4)
            shoot_both(page, f"throttles-{name}", width)
    enter(page, squeezed.url, WIDTHS[0])
    shoot_both(page, "overview-throttle", WIDTHS[0])
    expect(page.get_by_test_id("stException")).to_have_count(0)
