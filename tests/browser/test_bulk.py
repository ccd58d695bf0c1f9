"""Many steps at once, in a real browser: a file with bad lines, the same file again, a demo load."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from fleetq_core.demo import STEPS
from tests.browser.conftest import ROOT, Dashboard, row
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Visit = Callable[[str], Page]
SCREENSHOTS = ROOT / "artifacts" / "screenshots"
MANY = "A file of steps"


def write_steps(path: Path, count: int) -> Path:
    lines = [{"payload": {"task_type": "echo", "n": n}, "step_id": f"bulk-{n}"} for n in range(count)]
    texts = [json.dumps(line) for line in lines]
    texts.insert(2, '{"payload": {"task_type": "echo"}, "prio": 1}')
    path.write_text("\n".join(texts))
    return path


def many(page: Page) -> Page:
    """Turn from one step to a file of them."""
    page.get_by_test_id("stButtonGroup").get_by_text(MANY).click()
    expect(page.get_by_text("For example:")).to_be_visible()
    return page


def told(page: Page) -> dict[str, str]:
    """The facts of the summary, as far as they are drawn."""
    text = [line.strip() for line in page.get_by_test_id("stMain").inner_text().splitlines() if line.strip()]
    return {name: fact for name, fact in pairwise(text) if name in ("New", "Already there", "Refused")}


def test_a_file_is_checked_sent_and_sent_again(dashboard: Dashboard, visit: Visit, tmp_path: Path) -> None:
    page = many(visit(f"{dashboard.url}/new-step"))
    page.locator("input[type=file]").set_input_files(write_steps(tmp_path / "steps.jsonl", 1200))
    expect(row(page, "prio: is not a field")).to_contain_text("3")
    send = page.get_by_role("button", name="Submit 1,200 steps, leave out 1 line")
    send.click()
    eventually(lambda: told(page) == {"New": "1,200", "Already there": "0", "Refused": "0"}, timeout_s=20)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "bulk-submit.png")
    send.click()
    eventually(lambda: told(page) == {"New": "0", "Already there": "1,200", "Refused": "0"}, timeout_s=20)
    eventually(lambda: dashboard.fleet.queue.get_step("bulk-1199").status == "completed", timeout_s=30)


def test_an_id_of_another_step_is_named(dashboard: Dashboard, visit: Visit, tmp_path: Path) -> None:
    dashboard.fleet.queue.submit_step({"task_type": "echo", "n": "mine"}, step_id="taken")
    (tmp_path / "steps.csv").write_text("task_type,step_id,n\necho,taken,yours\necho,free,yours\n")
    page = many(visit(f"{dashboard.url}/new-step"))
    page.locator("input[type=file]").set_input_files(tmp_path / "steps.csv")
    page.get_by_role("button", name="Submit 2 steps").click()
    expect(page.get_by_test_id("stCode").get_by_text("taken")).to_be_visible()
    assert told(page) == {"New": "1", "Already there": "0", "Refused": "1"}


def test_a_demo_load_is_a_click(dashboard: Dashboard, visit: Visit) -> None:
    before = dashboard.fleet.queue.stats()
    page = many(visit(f"{dashboard.url}/new-step"))
    page.get_by_role("button", name="Submit a demo load").click()
    eventually(lambda: told(page) == {"New": str(STEPS), "Already there": "0", "Refused": "0"}, timeout_s=20)
    after = dashboard.fleet.queue.stats()
    assert sum(after.by_status().values()) == sum(before.by_status().values()) + STEPS
