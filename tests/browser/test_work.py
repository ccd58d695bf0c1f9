"""What an operator does: submit work, lose a pod, requeue a dead letter. Through the real server and a real browser."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from fleetq_core.model import Status, StepFilter
from tests.browser.conftest import Dashboard, row
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Visit = Callable[[str], Page]


def write_orders(path: Path, rows: int) -> Path:
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["order_id", "customer", "amount", "placed", "paid"])
        for number in range(rows):
            amount = "" if number % 4 == 0 else f"{number}.5"
            writer.writerow([number, f"c{number % 9}", amount, f"2026-01-{number % 28 + 1:02d}", number % 2 == 0])
    return path


def submit_and_read_profile(page: Page, rows: str) -> None:
    page.get_by_role("button", name="Submit", exact=True).click()
    main = page.get_by_test_id("stMain")
    expect(main.get_by_text("completed", exact=True).first).to_be_visible()
    expect(main.get_by_text(rows, exact=True)).to_be_visible()
    profile = main.get_by_test_id("stDataFrame").filter(has_text="order_id")
    for column in ("order_id", "customer", "amount", "placed", "paid"):
        expect(profile).to_contain_text(column)
    expect(row(page, "amount")).to_contain_text("double")


def test_a_file_is_profiled_by_upload_and_by_path(dashboard: Dashboard, visit: Visit, tmp_path: Path) -> None:
    page = visit(f"{dashboard.url}/new-step")
    page.get_by_role("combobox", name="Task type").click()
    page.get_by_role("option", name="process_data").click()
    page.locator("input[type=file]").set_input_files(write_orders(tmp_path / "uploaded.csv", 1200))
    expect(page.get_by_test_id("stFileUploader").get_by_text("uploaded.csv")).to_be_visible()
    submit_and_read_profile(page, "1,200")

    page = visit(f"{dashboard.url}/new-step")
    path = page.get_by_label("Or the path of a file on the pods' machine")
    path.fill(str(write_orders(tmp_path / "typed.csv", 2400)))
    path.press("Tab")
    submit_and_read_profile(page, "2,400")


def test_a_pod_that_is_killed_is_seen_and_loses_nothing(fresh: Dashboard, visit: Visit) -> None:
    fleet = fresh.fleet
    pods = {name: fleet.start(name) for name in ("pod-2", "pod-3")}
    page = visit(f"{fresh.url}/pods")
    for name in ("pod-web", *pods):
        expect(row(page, name)).to_contain_text("alive")
    ids = fleet.queue.submit_steps([{"task_type": "sleep", "seconds": 1} for _ in range(60)])
    eventually(lambda: fleet.queue.find_steps(StepFilter(status=Status.CLAIMED, claimed_by="pod-2")))
    pods["pod-2"].kill()
    expect(row(page, "pod-2")).to_contain_text("declared dead")
    eventually(lambda: fleet.queue.stats().completed == len(ids), timeout_s=60)
    assert {step.status for step in fleet.queue.store.get_steps(ids)} == {Status.COMPLETED}

    page = visit(f"{fresh.url}/pods?pod=pod-2")
    main = page.get_by_test_id("stMain")
    expect(main.get_by_text(re.compile(r"^pod-\w+ declared it dead at "))).to_be_visible()
    expect(
        main.get_by_text(re.compile(r"^\d+ steps? (was|were) taken from it\. Now: \d+ completed\.$"))
    ).to_be_visible()
    main.get_by_role("link", name="See that recovery run").click()
    expect(main.get_by_text(re.compile(r"^1 dead pod, \d+ orphans?"))).to_be_visible()
    expect(row(page, "pod-2")).to_contain_text("3 s")  # how long a pod may be silent
    main.get_by_role("link", name="All runs").click()
    expect(row(page, "pod-2")).to_contain_text("resubmitted")
    page = visit(fresh.url)
    expect(page.get_by_test_id("stMain").get_by_text("Nothing needs you.")).to_be_visible()
    expect(page.get_by_test_id("stSidebar").get_by_text("nothing needs you")).to_be_visible()


def test_a_dead_letter_is_requeued_after_a_question(dashboard: Dashboard, visit: Visit) -> None:
    queue = dashboard.fleet.queue
    step_id = queue.submit_step({"task_type": "sleep", "seconds": "no"}, step_id="letter-1")
    queue.wait(step_id, 20)
    count = queue.stats().dead_letters
    page = visit(f"{dashboard.url}/recovery")
    expect(row(page, step_id)).to_contain_text("payload.seconds is 'no'")
    page.get_by_role("button", name=f"Requeue {count}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"{count} failed step")
    expect(dialog).to_contain_text(step_id)
    dialog.get_by_role("button", name=f"Requeue {count}").click()
    expect(page.get_by_test_id("stToast")).to_contain_text(re.compile(rf"{count} of {count} steps? requeued\."))
    expect(dialog).to_have_count(0)
    attempts = eventually(lambda: (step := queue.get_step(step_id)) and step.is_dead_letter and step.history)
    assert [entry["outcome"] for entry in attempts].count("failed") == 2
