"""The page of the HTTP API: it renders the whole document, in both looks, from this server alone."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Dashboard
from tests.doors.conformance import DOCUMENT

OPERATIONS = [found for methods in DOCUMENT["paths"].values() for found in methods.values()]


@pytest.mark.browser
@pytest.mark.parametrize(("look", "width"), [("light", 1280), ("dark", 1280), ("dark", 390)])
def test_the_page_of_the_api(
    dashboard: Dashboard, browser: Browser, look: Literal["light", "dark"], width: int
) -> None:
    page = browser.new_page(color_scheme=look, viewport={"width": width, "height": 800})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{dashboard.url}/docs#recover")
    expect(page.locator("details.route")).to_have_count(len(OPERATIONS))
    expect(page.locator("#recover")).to_have_attribute("open", "")
    for found in OPERATIONS:
        route = page.locator(f"#{found['operationId']}")
        if route.get_attribute("open") is None:
            route.locator("> summary").click()
        expect(route).to_contain_text(found["summary"])
        for status, reply in found["responses"].items():
            expect(route.locator("details.answer", has_text=status).first).to_contain_text(reply["description"])
    text = page.locator("main").inner_text()
    assert "[object" not in text
    assert "undefined" not in text
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") is (
        look == "light"
    )
    assert asked == [f"{dashboard.url}/docs", f"{dashboard.url}/openapi.json"]
    assert said == []
    page.close()
