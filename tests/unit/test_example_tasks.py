"""The worked example of docs/tasks.md does what the page says, as a user would run it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from docs.example_tasks import check_links, invoice, total
from fleetq_core import Step, TerminalError, Throttled
from fleetq_core.tasks import default_registry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")


def step(**payload: Any) -> Step:
    return Step("s1", {"task_type": "t", **payload}, 0, 0, "token", "pod-a")


@pytest.fixture
def shop() -> Iterator[str]:
    class Shop(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if self.path == "/open" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_total_adds_up(tmp_path: Path) -> None:
    orders = tmp_path / "orders.csv"
    orders.write_text("order,amount\n1,19.90\n2,5.10\n")
    assert total(step(file=str(orders))) == {"orders": 2, "total": 25.0}


def test_a_missing_file_may_come_but_a_missing_column_never_will(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        total(step(file="nowhere.csv"))
    (tmp_path / "other.csv").write_text("order\n1\n")
    with pytest.raises(TerminalError, match="`amount` is missing"):
        total(step(file=str(tmp_path / "other.csv")))


def test_links_are_checked(shop: str) -> None:
    urls = [f"{shop}/open", f"{shop}/closed", "http://127.0.0.1:1/"]
    assert asyncio.run(check_links(step(urls=urls))) == dict(zip(urls, (200, 404, "ConnectError"), strict=True))
    with pytest.raises(TerminalError):
        asyncio.run(check_links(step(urls="x")))


def test_an_invoice_is_written_once(tmp_path: Path) -> None:
    order = {"customer": "Ann", "total": 25.0}
    first = invoice(step(order=order, folder=str(tmp_path)))
    assert first["written"]
    assert json.loads(Path(first["invoice"]).read_text()) == {"invoice_id": "s1", **order}
    assert not invoice(step(order={"customer": "Bob"}, folder=str(tmp_path)))["written"]
    assert [path.name for path in tmp_path.iterdir()] == ["s1.json"]
    assert json.loads(Path(first["invoice"]).read_text())["customer"] == "Ann"


def test_the_page_shows_how_to_hand_a_step_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_registry, "_tasks", {})
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "step.defer(" in b)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/tasks.md", "exec"), names)
    assert default_registry.get("shop.describe").throttle == "bedrock"
    assert names["describe"](step()) == "a red bicycle"
    names["QUOTA"]["left"] = 0
    with pytest.raises(Throttled) as caught:
        names["describe"](step())
    assert (caught.value.retry_after_s, str(caught.value)) == (3600, "the day's quota is used up")


def test_the_commands_of_the_page_work(tmp_path: Path) -> None:
    """As a user: the installed command, a module found from the working directory."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / "orders.csv").write_text("order,amount\n1,19.90\n2,5.10\n")
    submits = re.findall(r"fleetq submit(?: --step-id (\S+) \\\n)? *'(\{.*?\})'", PAGE)
    submits = [(step_id, payload) for step_id, payload in submits if "shop." in payload]
    assert len(submits) == 2
    env = {**os.environ, "FLEET_Q_HANDLERS": "docs.example_tasks", "FLEET_Q_STORE": f"sqlite:///{tmp_path}/q.db"}
    fleetq = str(Path(sys.executable).with_name("fleetq"))

    def run(*args: str) -> str:
        done = subprocess.run([fleetq, *args], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    ids = [run("submit", payload, *(["--step-id", name] if name else [])).strip() for name, payload in submits]
    run("pod", "--drain")
    results = [json.loads(run("status", step_id, "--json")) for step_id in ids]
    assert [found["status"] for found in results] == ["completed", "completed"]
    assert results[0]["result"] == {"orders": 2, "total": 25.0}
    assert (tmp_path / results[1]["result"]["invoice"]).exists()
