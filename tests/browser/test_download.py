"""The download of steps in a real browser: made with a bar while the page is live, saved, and read again."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Dashboard
from tests.browser.test_screens import WIDTHS, enter, shoot_both

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Visit = Callable[[str], Page]


def test_steps_are_made_into_a_file_and_saved(fresh: Dashboard, visit: Visit, tmp_path: Path) -> None:
    fresh.fleet.queue.order("pause", "*", by="test")
    queue = fresh.fleet.queue
    for _ in range(3):
        queue.submit_steps([{"task_type": "echo", "message": "=1+1"} for _ in range(4_000)])
    page = visit(f"{fresh.url}/steps?task=echo")
    main = page.get_by_test_id("stMain")
    main.get_by_role("button", name="Download", exact=True).click()
    popover = page.get_by_test_id("stPopoverBody")
    expect(popover.get_by_text("Those of 12,000 steps that match are read")).to_be_visible()
    popover.get_by_role("button", name="Make CSV").click()
    expect(
        popover.get_by_test_id("stProgress").or_(popover.get_by_text("10,000 steps in the file")).first
    ).to_be_visible()
    expect(popover.get_by_text("10,000 steps in the file; older ones are left out")).to_be_visible()
    with page.expect_download() as waiting:
        popover.get_by_role("button", name="Download CSV").click()
    assert re.fullmatch(r"fleetq-steps-\d{8}-\d{6}Z\.csv", waiting.value.suggested_filename)
    waiting.value.save_as(tmp_path / "steps.csv")
    with (tmp_path / "steps.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len({row["step_id"] for row in rows}) == len(rows) == 10_000
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_the_download_fits_and_looks_right(dashboard: Dashboard, quiet_page: Page) -> None:
    dashboard.fleet.queue.submit_steps([{"task_type": "echo"} for _ in range(12)])
    page = quiet_page
    for width in WIDTHS:
        enter(page, f"{dashboard.url}/steps", width)
        page.get_by_test_id("stMain").get_by_role("button", name="Download", exact=True).click()
        popover = page.get_by_test_id("stPopoverBody")
        popover.get_by_role("button", name="Make JSON lines").click()
        expect(popover.get_by_role("button", name="Download JSON lines")).to_be_visible()
        expect(popover.get_by_test_id("stCode")).to_be_visible()
        shoot_both(page, "download", width, whole=False)
