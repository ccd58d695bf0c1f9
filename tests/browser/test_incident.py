"""An incident as an operator lives it, without a shell: what is wrong is seen, explained and repaired on the screens.

The dashboard runs no pod, as in a fleet; whoever restarts dead pods in a fleet is played by the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from playwright.sync_api import Browser, expect

from fleetq_core.model import Status, StepFilter
from tests.browser.conftest import Dashboard
from tests.browser.test_screens import SCREENSHOTS
from tests.browser.test_walk import Walk
from tests.support.downstream import Downstream
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Dashboard]:
    dashboard = Dashboard(tmp_path, FLEET_Q_ROLE="dashboard")
    yield dashboard
    dashboard.stop()


@pytest.fixture
def operator(browser: Browser, served: Dashboard) -> Iterator[Walk]:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(color_scheme="dark", viewport={"width": 1280, "height": 900})
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield Walk(page, served, "incident")
    context.close()
    assert errors == []


@pytest.fixture
def partner() -> Iterator[Downstream]:
    running = Downstream(capacity=50, call_s=0.02)
    yield running
    running.close()


def three_pods(operator: Walk, **settings: str) -> dict[str, Popen[str]]:
    return {name: operator.served.fleet.start(name, **settings) for name in ("pod-1", "pod-2", "pod-3")}


def test_a_downstream_starts_to_refuse(operator: Walk, partner: Downstream) -> None:
    queue = operator.queue
    three_pods(operator)
    payload = {"task_type": "http_request", "url": partner.url, "throttle": "partner"}
    queue.submit_steps([payload for _ in range(60)])
    eventually(lambda: queue.stats().completed == 60, timeout_s=30)
    operator.go("", "Overview")
    operator.sees("Nothing needs you.")

    partner.capacity = 0  # it begins to answer 429
    ids = queue.submit_steps([payload for _ in range(60)])
    operator.sees("1 throttle had more than")  # without a reload, on the screen that stands open
    operator.picture("refused-seen")
    operator.main.get_by_role("link", name="See why").click()
    expect(operator.page.get_by_role("heading", level=1)).to_have_text("Throttles")
    expect(operator.row("the downstream refused a call")).to_be_attached()
    expect(operator.main.locator("[data-testid=stCode]", has_text="partner").first).to_be_visible()
    operator.picture("refused-explained")
    waits = eventually(lambda: [step for step in queue.store.get_steps(ids) if step.deferrals])
    operator.go(f"steps?step={waits[0].step_id}", "Steps")
    operator.sees(re.compile("429|throttle"))
    assert all(step.retry_count == 0 for step in queue.store.get_steps(ids))  # a refusal uses no retry

    partner.capacity = 50  # the partner says that it is well again
    operator.go("throttles?throttle=partner", "Throttles")
    operator.press("Reset on all pods")
    operator.answer("partner", verb=re.compile("Reset on"))
    operator.sees(re.compile(r"Reset ordered: 3 of 3 pods answered"))
    eventually(lambda: all(s.status is Status.COMPLETED for s in queue.store.get_steps(ids)), timeout_s=60)
    operator.go("", "Overview")
    operator.picture("refused-repaired")


def test_a_pod_dies_holding_work(operator: Walk) -> None:
    queue = operator.queue
    pods = three_pods(operator, FLEET_Q_RECOVERY_INTERVAL="600")  # so long that the operator has to
    operator.go("", "Overview")
    ids = queue.submit_steps([{"task_type": "sleep", "seconds": 2} for _ in range(30)])
    eventually(lambda: queue.find_steps(StepFilter(status=Status.CLAIMED, claimed_by="pod-2")))
    pods["pod-2"].kill()
    operator.sees("1 pod fell silent")  # on the screen that stands open; before, a run would judge it late at most
    operator.picture("died-seen")
    operator.go("recovery", "Recovery")
    operator.press("Run now")
    expect(operator.row("pod-2")).to_be_attached()
    operator.go("pods?pod=pod-2", "Pods")
    operator.sees(re.compile(r"^pod-\S+ declared it dead at "))
    operator.picture("died-explained")
    eventually(lambda: all(step.status is Status.COMPLETED for step in queue.store.get_steps(ids)), timeout_s=60)
    operator.sees(re.compile(r"^\d+ steps? (was|were) taken from it\. Now: \d+ completed\.$"))
    operator.go("", "Overview")
    operator.sees("Nothing needs you.")


def test_a_poison_step_kills_whoever_takes_it(operator: Walk) -> None:
    queue, fleet = operator.queue, operator.served.fleet
    three_pods(operator)
    queue.submit_step({"task_type": "kill_me"}, step_id="poison", max_retries=1)
    step = eventually(lambda: (found := queue.get_step("poison")) and found.is_dead_letter and found, timeout_s=60)
    assert len({entry["pod_id"] for entry in step.history}) == 2
    for number, dead in enumerate({str(entry["pod_id"]) for entry in step.history}):
        fleet.start(f"{dead}-again-{number}")
    operator.go("", "Overview")
    operator.sees("1 dead letter waits for a decision")
    operator.picture("poison-seen")
    operator.main.get_by_role("link", name="Look and requeue").click()
    expect(operator.row("poison")).to_be_attached()
    operator.go("steps?step=poison", "Steps")
    operator.sees("dead letter")
    expect(operator.main.get_by_role("link", name="See run 2")).to_be_visible()  # two runs took it from two dead pods
    operator.picture("poison-explained")
    operator.main.get_by_role("link", name="Submit a changed copy").click()
    expect(operator.page.get_by_role("heading", level=1)).to_have_text("Submit")
    area = operator.main.get_by_role("textbox", name="Payload (JSON)")
    area.fill('{"spared": true}')
    area.press("Control+Enter")
    operator.press("Submit")
    (copy,) = eventually(lambda: queue.find_steps(StepFilter(status=Status.COMPLETED)))
    assert copy.payload == {"task_type": "kill_me", "spared": True}
    assert queue.get_step("poison").is_dead_letter  # type: ignore[union-attr]  # it stays on record
