"""Streamlit in Snowflake as far as it can be had here: its folder under plain `streamlit run`, over the Snowflake server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from fleetq_core.config import Config
from fleetq_core.store import open_snowflake
from tests.support.quiet_fleet import on_record, put_on_record
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
ASSEMBLE = ROOT / "deploy" / "streamlit-in-snowflake" / "assemble.py"

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def config(snowflake_settings: dict[str, Any]) -> Config:
    """A fleet on a Snowflake schema of this module's own."""
    told = {f"snowflake_{name}": value for name, value in snowflake_settings.items()} | {"snowflake_schema": "VIEWER"}
    made = Config(store="snowflake", pod_id="observer", **told)
    open_snowflake(made, create=True).close()
    put_on_record(made)
    return made


@pytest.fixture(scope="module")
def app(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the assembled app; its settings come from its secrets.toml, the token from a file."""
    folder = tmp_path_factory.mktemp("sis") / "app"
    subprocess.run([sys.executable, str(ASSEMBLE), str(folder)], check=True, timeout=60)
    token = folder.parent / "token"
    token.write_text("a token that the server takes")
    settings = {
        "FLEET_Q_STORE": "snowflake", "SNOWFLAKE_ACCOUNT": config.snowflake_account,
        "SNOWFLAKE_HOST": config.snowflake_host, "SNOWFLAKE_PORT": config.snowflake_port,
        "SNOWFLAKE_PROTOCOL": config.snowflake_protocol, "SNOWFLAKE_DATABASE": config.snowflake_database,
        "SNOWFLAKE_SCHEMA": config.snowflake_schema, "SNOWFLAKE_TOKEN_FILE_PATH": token,
        "FLEET_Q_ROLE": "pod",  # a setting does not make it anything but a viewer
    }  # fmt: skip
    lines = "".join(f'{name} = "{value}"\n' for name, value in settings.items())
    (folder / ".streamlit" / "secrets.toml").write_text(lines)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "streamlit", "run", "viewer/streamlit_app.py", "--server.port", str(port)]
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _answers(f"{url}/_stcore/health"), timeout_s=60, every_s=0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize(
    ("path", "title", "shown"),
    [("/", "Overview", "pod-elsewhere"), ("/steps?step=dead-1", "Steps", "dead letter"), ("/new-step", "Submit", "")],
)
def test_the_viewer_shows_the_fleet_and_offers_nothing(
    app: str, browser: Browser, config: Config, path: str, title: str, shown: str
) -> None:
    before = on_record(config)
    page = browser.new_page()
    page.goto(app + path)
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    expect(page.get_by_text("This process is a viewer (FLEET_Q_ROLE=viewer)").first).to_be_visible()
    expect(page.get_by_text("runs no pod")).to_be_visible()
    if shown:
        expect(page.get_by_text(shown).first).to_be_visible()
    if title == "Steps":
        expect(page.get_by_test_id("stMain").get_by_role("button", name="Requeue")).to_be_disabled()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    page.close()
    assert on_record(config) == before


def test_it_has_no_routes_of_ours(app: str) -> None:
    request = urllib.request.Request(f"{app}/submit", data=b"{}", headers={"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code in (404, 405)
    refused.value.close()
