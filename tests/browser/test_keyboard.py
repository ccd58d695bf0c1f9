"""Without a mouse: everything that can be pressed is reached by Tab, seen to be reached, and works from there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Dashboard, ready
from tests.browser.test_screens import PAGES

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Tools of a table appear when it is pointed at or focused: they are reached from within it. Of a group of choices
# one is reached, and the others from there with the arrows.
CONTROLS = """() => {
    const wanted = 'a[href], button, input, textarea, select, [role=combobox], [role=switch], [data-testid=stDataFrame] canvas'
    const seen = node => node.checkVisibility({visibilityProperty: true, opacityProperty: true}) && node.getClientRects().length
    const roots = [...document.querySelectorAll('[data-testid=stSidebar], [data-testid=stMain]')]
    const found = roots.flatMap(root => [...root.querySelectorAll(wanted)]).filter(node =>
        seen(node) && !node.disabled && !node.closest('[data-testid=stElementToolbar], [data-testid=stHeaderActionElements]')
        && !node.matches('[role=radio][aria-checked=false], [role=tab][aria-selected=false]') && node.tabIndex >= 0)
    found.forEach((node, number) => {
        const group = node.closest('[role=radiogroup], [role=tablist]')
        const members = group ? group.querySelectorAll('[role=radio], [role=tab]') : [node]
        members.forEach(member => { member.dataset.control = number })
    })
    return found.map(node => (node.ariaLabel || node.innerText || node.outerHTML).slice(0, 60))
}"""
FOCUSED = """() => {
    const node = document.activeElement
    const box = node.getBoundingClientRect()
    return node === document.body ? null : [node.dataset.control ?? '', box.width > 0 && box.bottom > 0 && box.top < innerHeight]
}"""
MOST_TABS = 150


@pytest.fixture(scope="module")
def fleet(dashboard: Dashboard) -> Dashboard:
    """Something to find on every page."""
    queue = dashboard.fleet.queue
    queue.submit_step({"task_type": "sleep", "seconds": "no"}, step_id="letter-1")
    queue.submit_steps([{"task_type": "echo", "n": n} for n in range(9)])
    queue.wait("letter-1", 20)
    return dashboard


@pytest.mark.parametrize("name", PAGES)
def test_every_control_is_reached_by_tab(fleet: Dashboard, visit: Callable[[str], Page], name: str) -> None:
    page = visit(f"{fleet.url}/{PAGES[name]}")
    page.get_by_test_id("stSidebar").get_by_text("Live", exact=True).click()  # so that the list below stays true
    ready(page)
    labels = page.evaluate(CONTROLS)
    assert len(labels) > len(PAGES)
    reached, hidden = set[int](), list[str]()
    page.evaluate("() => document.activeElement.blur()")
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if at is None:
            continue  # past the last one; then it begins again at the top
        control, visible = at
        if control:
            reached.add(int(control))
            if not visible:
                hidden.append(labels[int(control)])
        if len(reached) == len(labels):
            break
    assert [label for number, label in enumerate(labels) if number not in reached] == []
    assert hidden == []  # what has the focus has been scrolled into view


def test_an_order_is_given_without_a_mouse(fleet: Dashboard, visit: Callable[[str], Page]) -> None:
    page = visit(f"{fleet.url}/pods")
    pause = page.get_by_test_id("stMain").get_by_role("button", name="Pause fleet")
    pause.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(dialog.locator(":focus, :scope:focus")).to_have_count(1)  # the focus has gone to the question
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_test_id("stMain").get_by_role("button", name="Pause fleet").focus()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Pause 1 pod").focus()
    page.keyboard.press("Space")
    expect(page.get_by_test_id("stMain").get_by_text("1 of 1 pod answered")).to_be_visible()
    page.get_by_test_id("stMain").get_by_role("button", name="Resume fleet").focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Resume 1 pod").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("stMain").get_by_text("You ordered: resume.")).to_be_visible()


def test_a_filter_is_set_without_a_mouse(fleet: Dashboard, visit: Callable[[str], Page]) -> None:
    page = visit(f"{fleet.url}/steps")
    page.get_by_test_id("stMain").get_by_role("textbox", name="Text").focus()
    page.keyboard.type("letter-1")
    page.keyboard.press("Enter")
    page.wait_for_url("**text=letter-1**")
    page.get_by_test_id("stMain").get_by_role("radio", name="any").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.wait_for_url("**status=pending**")
    page.reload()
    ready(page)
    expect(page.get_by_test_id("stMain").get_by_text("No step matches these filters.")).to_be_visible()
