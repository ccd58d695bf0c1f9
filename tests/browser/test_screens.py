"""How the screens behave in a browser: deep links, many tabs, light and dark, wide and narrow, and live refresh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import ROOT, Dashboard, ready
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Visit = Callable[[str], Page]
PAGES = {
    "overview": "", "steps": "steps", "submit": "new-step", "pods": "pods", "recovery": "recovery",
    "throttles": "throttles", "cost": "cost", "audit": "audit",
}  # fmt: skip
WIDTHS = (1280, 390)  # a laptop and a phone
# In dark one colour has to serve as text on dark, for what is chosen, and as the ground of white text, on these.
SPARED: dict[Literal["light", "dark"], str] = {"light": "", "dark": "[data-testid^=stBaseButton-primary]"}
SCREENSHOTS = ROOT / "artifacts" / "screenshots"
TOO_WIDE = """() => [
    ...[document.documentElement, document.querySelector('[data-testid=stMain]')]
        .filter(box => box.scrollWidth > box.clientWidth),
    ...[...document.querySelectorAll('[data-testid=stMain] [data-testid=stElementContainer]')]
        .filter(box => box.getBoundingClientRect().right > innerWidth + 1),
    ...[...document.querySelectorAll('[data-testid=stMain] [data-testid=stElementContainer] :is(button, input)')]
        .filter(box => box.getBoundingClientRect().right - 1 >
            box.closest('[data-testid=stElementContainer]').getBoundingClientRect().right),
].map(box => box.innerText.slice(0, 80))"""

# Text with less contrast than WCAG 2.2 asks for (1.4.3: 4.5, large text 3); what is disabled is exempt there, and the
# colours of code are Streamlit's.
FAINT = """spared => {
    const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true})
    const rgba = colour => {
        paint.clearRect(0, 0, 1, 1)
        paint.fillStyle = colour
        paint.fillRect(0, 0, 1, 1)
        const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data
        return [r, g, b, a / 255]
    }
    const over = (top, below) => top.slice(0, 3).map((part, i) => part * top[3] + below[i] * (1 - top[3]))
    const ground = node => {
        const layers = []
        for (let at = node; at; at = at.parentElement) layers.unshift(rgba(getComputedStyle(at).backgroundColor))
        return layers.reduce((below, top) => over(top, below), [255, 255, 255])
    }
    const light = colour => colour.map(part => part / 255)
        .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0)
    const own = node => [...node.childNodes].filter(one => one.nodeType === 3).map(one => one.data).join('').trim()
    return [...document.querySelectorAll('[data-testid=stSidebar] *, [data-testid=stMain] *')].filter(node =>
        own(node) && node.checkVisibility({visibilityProperty: true, opacityProperty: true})
        && !(spared && node.closest(spared)) && !node.closest('button:disabled, [aria-disabled=true], label:has(:disabled), canvas, svg, table, pre, [data-testid=stIconMaterial]'))
    .map(node => {
        const style = getComputedStyle(node), below = ground(node)
        const [a, b] = [light(over(rgba(style.color), below)), light(below)].sort((one, other) => other - one)
        const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700)
        const ratio = (a + 0.05) / (b + 0.05)
        return ratio < (large ? 3 : 4.5) ? `${own(node).slice(0, 40)}: ${ratio.toFixed(2)}` : null
    }).filter(Boolean)
}"""


def test_a_deep_link_as_the_first_request_gets_the_whole_shell(fresh: Dashboard, visit: Visit) -> None:
    step_id = fresh.fleet.queue.submit_step({"task_type": "echo", "message": "hello"}, step_id="first-link")
    page = visit(f"{fresh.url}/steps?step={step_id}")
    expect(page.get_by_test_id("stSidebarNav").get_by_role("link")).to_have_count(len(PAGES))
    expect(page.get_by_test_id("stSidebar").get_by_text("store ok")).to_be_visible()
    expect(page.get_by_test_id("stMain").get_by_text(step_id, exact=True)).to_be_visible()


def test_many_tabs_and_reruns_share_one_pod(dashboard: Dashboard, browser: Browser) -> None:
    def own() -> list[str]:
        pods = dashboard.fleet.queue.store.list_pods()
        return [pod.incarnation for pod in pods if pod.status == "up" and pod.meta.get("pid") == dashboard.process.pid]

    before = own()
    contexts = [browser.new_context() for _ in range(3)]
    try:
        tabs = [context.new_page() for context in contexts]
        for tab, path in zip(tabs, ("", "pods", "steps"), strict=True):
            tab.goto(f"{dashboard.url}/{path}")
        for tab in tabs:
            ready(tab)
            tab.get_by_test_id("stSidebar").get_by_text("Live", exact=True).click()
            tab.reload()
        for tab in tabs:
            ready(tab)
    finally:
        for context in contexts:
            context.close()
    assert own() == before
    assert len(before) == 1
    assert dashboard.output().count("is up:") == 1


def test_every_page_is_clean_and_fits(dashboard: Dashboard, quiet_page: Page) -> None:
    dashboard.fleet.queue.submit_steps([{"task_type": "sleep", "seconds": 5 + number} for number in range(9)])
    dashboard.fleet.queue.submit_step({"task_type": "sleep", "seconds": "no"}, step_id="letter-1")
    page, errors, hosts = quiet_page, list[str](), set[str]()
    # Streamlit probes its own routes below a page's address; their 404 is expected.
    page.on(
        "console",
        lambda m: errors.append(m.text) if m.type == "error" and "/_stcore/" not in m.location["url"] else None,
    )
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or "127.0.0.1"))
    page.on("websocket", lambda socket: hosts.add(urlsplit(socket.url).hostname or ""))
    for name, path in PAGES.items():
        for width in WIDTHS:
            enter(page, f"{dashboard.url}/{path}", width)
            shoot_both(page, name, width)
        for scheme, spared in SPARED.items():
            adopt(page, scheme)
            eventually(lambda spared=spared: page.evaluate(FAINT, spared) == [], timeout_s=5)
        expect(page.get_by_test_id("stException")).to_have_count(0)
    assert errors == []
    assert hosts == {"127.0.0.1"}


def enter(page: Page, url: str, width: int) -> None:
    """Open it in light on a screen of that width; a phone's sidebar folds away when the page is opened."""
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(url)
    ready(page)


def adopt(page: Page, scheme: Literal["light", "dark"]) -> None:
    """Streamlit takes on another scheme of the system without a new visit."""
    page.emulate_media(color_scheme=scheme)
    expect(page.get_by_test_id("stApp")).to_have_css("color-scheme", scheme)


def shoot_both(page: Page, name: str, width: int, *, whole: bool = True) -> None:
    """A picture in light, and one in dark."""
    for scheme in SPARED:
        adopt(page, scheme)
        shoot(page, SCREENSHOTS / f"{name}-{scheme}-{width}.png", width, whole=whole)


def shoot(page: Page, target: Path, width: int, *, whole: bool = True) -> None:
    """A picture of the whole page, or of what a screen shows of it; nothing may be wider than the screen."""
    ready(page)
    page.set_viewport_size({"width": width, "height": 900})
    if whole:
        _stretch(page, width)
    # Charts follow the width some frames later.
    eventually(lambda: page.evaluate(TOO_WIDE) == [], timeout_s=10)
    page.screenshot(path=target)


def _stretch(page: Page, width: int) -> None:
    height = page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(max(900, height), 3000)})
