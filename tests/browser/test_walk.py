"""Every page, form, question and action, in light and in dark, on a live fleet of three pods of which one is killed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from fleetq_core.model import Status, StepFilter
from tests.browser.conftest import Dashboard, ready, row
from tests.browser.test_bulk import many, told
from tests.browser.test_screens import SCREENSHOTS, shoot
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow]


class Walk:
    """An operator at a browser: goes, presses, answers questions, and keeps a picture of each stage."""

    def __init__(self, page: Page, served: Dashboard, scheme: str) -> None:
        self.page, self.served, self.scheme = page, served, scheme
        self.queue = served.fleet.queue
        self.main = page.get_by_test_id("stMain")
        self._stage = 0

    def go(self, path: str, heading: str) -> None:
        self.page.goto(f"{self.served.url}/{path}")
        ready(self.page)
        expect(self.page.get_by_role("heading", level=1)).to_have_text(heading)

    def press(self, name: str | re.Pattern[str]) -> None:
        self.main.get_by_role("button", name=name).first.click()

    def answer(self, *told: str | re.Pattern[str], verb: str | re.Pattern[str]) -> None:
        """Read the question, leave it once, ask again, and say yes."""
        dialog = self.page.get_by_role("dialog")
        for words in told:
            expect(dialog).to_contain_text(words)
        dialog.get_by_role("button", name=verb).click()
        expect(dialog).to_have_count(0)

    def leave(self) -> None:
        self.page.get_by_role("dialog").get_by_role("button", name="Leave it").click()
        expect(self.page.get_by_role("dialog")).to_have_count(0)

    def sees(self, words: str | re.Pattern[str]) -> None:
        expect(self.main.get_by_text(words).first).to_be_visible()

    def hears(self, words: str | re.Pattern[str]) -> None:
        expect(self.page.get_by_test_id("stToast").filter(has_text=words).first).to_be_visible()

    def row(self, words: str) -> Locator:
        return row(self.page, words)

    def picture(self, name: str) -> None:
        self._stage += 1
        shoot(self.page, SCREENSHOTS / f"walk-{self._stage:02}-{name}-{self.scheme}.png", 1280)


@pytest.fixture(params=["light", "dark"])
def walk(request: pytest.FixtureRequest, browser: Browser, fresh: Dashboard) -> Iterator[Walk]:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    scheme: Any = request.param
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page, errors, hosts = context.new_page(), list[str](), set[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda one: hosts.add(urlsplit(one.url).hostname or "127.0.0.1"))
    page.on("websocket", lambda socket: hosts.add(urlsplit(socket.url).hostname or ""))
    yield Walk(page, fresh, scheme)
    context.close()
    assert errors == []
    assert hosts == {"127.0.0.1"}


def test_a_walk_through_everything(walk: Walk, tmp_path: Path) -> None:
    pods = {name: walk.served.fleet.start(name) for name in ("pod-2", "pod-3")}
    submit_one(walk)
    submit_a_file_twice(walk, tmp_path)
    submit_a_demo_load(walk)
    look_around(walk)
    pause_cancel_and_resume(walk)
    requeue_and_replay(walk)
    download(walk, tmp_path)
    run_a_recovery(walk)
    reset_a_throttle(walk)
    lose_a_pod(walk, pods["pod-2"])
    drain_a_pod(walk)
    read_the_record(walk)


def submit_one(walk: Walk) -> None:
    walk.go("new-step?task_type=echo", "Submit")
    area = walk.main.get_by_role("textbox", name="Payload (JSON)")
    area.fill('{"message": ')
    area.press("Control+Enter")
    walk.sees("This payload cannot be submitted yet.")
    area.fill('{"message": "by hand"}')
    area.press("Control+Enter")
    walk.main.get_by_role("textbox", name="Step id (optional)").fill(f"walk-{walk.scheme}")
    walk.main.get_by_role("textbox", name="Step id (optional)").press("Tab")
    walk.press("Submit")
    walk.sees("completed")
    walk.picture("submitted")
    walk.press("Submit")  # the same again is a no-op
    eventually(lambda: len(walk.queue.store.list_commands(9)) == 2)
    assert len(walk.queue.find_steps()) == 1


def submit_a_file_twice(walk: Walk, folder: Path) -> None:
    lines = [{"task_type": "echo", "message": f"line {n}", "step_id": f"file-{n}"} for n in range(40)]
    texts = [json.dumps({"payload": {k: v for k, v in one.items() if k != "step_id"}, "step_id": one["step_id"]})
            for one in lines]  # fmt: skip
    file = folder / "steps.jsonl"
    file.write_text("\n".join([*texts, "{broken"]))
    walk.go("new-step", "Submit")
    many(walk.page).locator("input[type=file]").set_input_files(file)
    expect(walk.row("41")).to_be_attached()  # the line that cannot be submitted, and why
    for new, known in (("40", "0"), ("0", "40")):
        walk.press("Submit 40 steps, leave out 1 line")
        eventually(lambda: told(walk.page) == {"New": new, "Already there": known, "Refused": "0"}, timeout_s=20)  # noqa: B023
    walk.picture("file")


def submit_a_demo_load(walk: Walk) -> None:
    walk.go("new-step", "Submit")
    many(walk.page)
    walk.press("Submit a demo load")
    walk.sees("200")
    walk.main.get_by_role("link", name="See the steps").click()
    expect(walk.page.get_by_role("heading", level=1)).to_have_text("Steps")


def look_around(walk: Walk) -> None:
    for path, heading in (("", "Overview"), ("pods", "Pods"), ("throttles", "Throttles"), ("cost", "Cost")):
        walk.go(path, heading)
        walk.picture(heading.lower())
    walk.go("?range=1+h", "Overview")
    expect(walk.main.get_by_role("radio", name="1 h")).to_be_checked()
    live = walk.page.get_by_test_id("stSidebar").get_by_text("Live", exact=True)
    live.click()
    still = walk.main.get_by_text(re.compile("^as of ")).first.inner_text()
    walk.queue.submit_step({"task_type": "echo"})
    live.click()
    expect(walk.main.get_by_text(re.compile("^as of ")).first).not_to_have_text(still)


def pause_cancel_and_resume(walk: Walk) -> None:
    walk.go("pods", "Pods")
    walk.press("Pause fleet")
    walk.leave()
    walk.press("Pause fleet")
    walk.answer("3 pods will claim no new step", "Nobody will be left to claim", verb="Pause 3 pods")
    walk.sees("3 of 3 pods answered")
    walk.picture("paused")
    walk.queue.submit_steps([{"task_type": "echo", "message": f"never {n}"} for n in range(7)])
    waits = walk.queue.find_steps(StepFilter(text="never 3"))[0].step_id
    walk.go(f"steps?step={waits}", "Steps")
    walk.sees("No living pod takes on work; they are paused.")
    walk.picture("why-not")
    walk.go("steps?status=pending&text=never&created=1+h", "Steps")
    walk.press("Cancel all pending…")
    walk.answer("with 'never' in id, payload or error", "7 pending steps will fail for good", verb="Cancel 7")
    walk.hears("7 of 7 steps cancelled.")
    walk.go("pods", "Pods")
    walk.press("Resume fleet")
    walk.answer("3 pods will claim steps again", verb="Resume 3 pods")
    walk.sees("3 of 3 pods answered")


def requeue_and_replay(walk: Walk) -> None:
    poison = walk.queue.submit_step({"task_type": "work", "fails": 99}, step_id="poison-1", max_retries=1)
    assert walk.queue.wait(poison, 30).is_dead_letter
    walk.go(f"steps?step={poison}", "Steps")
    walk.sees("RuntimeError: attempt 1 fails on purpose")
    walk.main.get_by_text("Traceback", exact=True).click()
    walk.sees(re.compile("in work"))
    expect(walk.main.get_by_text("Recovery runs that touched it, newest first")).to_be_visible()
    walk.picture("poison")
    walk.press("Requeue 1")
    walk.answer("1 failed step will go back to pending", "poison-1", verb="Requeue 1")
    walk.hears("1 of 1 step requeued.")
    again = eventually(lambda: (step := walk.queue.get_step(poison)) and len(step.history) > 3 and step)
    assert again.is_dead_letter or again.retry_count <= 1
    eventually(lambda: (step := walk.queue.get_step(poison)) and step.is_dead_letter, timeout_s=30)
    walk.go(f"steps?step={poison}", "Steps")
    walk.press("Replay 1")
    walk.answer("new steps with new ids", verb="Replay 1")
    walk.hears("1 of 1 step replayed.")
    walk.go(f"steps?step={poison}", "Steps")
    walk.main.get_by_role("link", name="Submit a changed copy").click()
    expect(walk.page.get_by_role("heading", level=1)).to_have_text("Submit")
    walk.main.get_by_role("textbox", name="Payload (JSON)").fill('{"fails": 0}')
    walk.main.get_by_role("textbox", name="Payload (JSON)").press("Control+Enter")
    walk.press("Submit")
    walk.sees("completed")


def download(walk: Walk, folder: Path) -> None:
    walk.go("steps?text=file-", "Steps")
    walk.press("Download")
    walk.page.get_by_role("button", name="Make JSON lines").click()
    with walk.page.expect_download() as waited:
        walk.page.get_by_role("button", name="Download JSON lines").click()
    waited.value.save_as(folder / "out.jsonl")
    assert len((folder / "out.jsonl").read_text().splitlines()) == 40


def run_a_recovery(walk: Walk) -> None:
    walk.go("recovery", "Recovery")
    walk.press("Run now")
    walk.sees("The leader ran a recovery.")
    walk.picture("recovery")


def reset_a_throttle(walk: Walk) -> None:
    walk.go("throttles?throttle=simulated_api", "Throttles")
    walk.press("Reset on all pods")
    walk.answer("simulated_api", verb=re.compile("Reset on"))
    walk.sees("3 of 3 pods answered")


def lose_a_pod(walk: Walk, victim: Any) -> None:
    ids = walk.queue.submit_steps([{"task_type": "sleep", "seconds": 1.5} for _ in range(45)])
    eventually(lambda: walk.queue.find_steps(StepFilter(status=Status.CLAIMED, claimed_by="pod-2", task_type="sleep")))
    victim.kill()
    walk.go("pods?pod=pod-2", "Pods")
    walk.sees(re.compile(r"^pod-\S+ declared it dead at "))
    walk.picture("dead-pod")
    eventually(lambda: all(step.status is Status.COMPLETED for step in walk.queue.store.get_steps(ids)), timeout_s=60)
    walk.sees(re.compile(r"^\d+ steps? (was|were) taken from it\. Now: \d+ completed\.$"))
    walk.main.get_by_role("link", name="See that recovery run").click()
    walk.sees(re.compile(r"^1 dead pod, \d+ orphans?"))
    expect(walk.row("its pod died")).to_be_attached()
    walk.picture("run")


def drain_a_pod(walk: Walk) -> None:
    walk.go("pods?pod=pod-3", "Pods")
    walk.press("Drain pod")
    walk.answer("will claim nothing more and then stop", verb="Drain 1 pod")
    eventually(lambda: walk.served.fleet.pid_of("pod-3") is None, timeout_s=30)
    walk.sees("1 of 1 pod answered")


def read_the_record(walk: Walk) -> None:
    walk.go("audit", "Audit")
    for order in ("pause", "resume", "drain", "run recovery", "reset throttle simulated_api", "cancel 7 steps",
                  "requeue 1 step", "replay 1 step", "submit 40 steps"):  # fmt: skip
        expect(walk.row(order)).to_be_attached()
    walk.picture("audit")
    walk.page.goto(f"{walk.served.url}/docs")
    expect(walk.page.get_by_role("heading", level=1)).to_contain_text("FLEET-Q")
