"""The dashboard in process: a pod on a temporary store, and the real main script under AppTest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from fleetq_core import runtime
from fleetq_core.runtime import Runtime

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "fleetq_core" / "dashboard" / "main.py"
PAGES = {
    "overview": "Overview", "steps": "Steps", "submit": "Submit", "pods": "Pods", "recovery": "Recovery",
    "throttles": "Throttles", "cost": "Cost", "audit": "Audit",
}  # fmt: skip

Open = Callable[[str], AppTest]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Runtime]:
    """This process's runtime, on a store of its own."""
    for name, value in {
        "STORE": f"sqlite:///{tmp_path}/fleetq.db",
        "DATA_DIR": str(tmp_path / "data"),
        "POD_ID": "pod-under-test",
        "HEARTBEAT_INTERVAL": "0.2",
        "DEAD_POD_THRESHOLD": "5",
        "RECOVERY_INTERVAL": "0.3",
        "SAMPLE_INTERVAL": "0.1",
        "STOP_GRACE": "0",
    }.items():
        monkeypatch.setenv(f"FLEET_Q_{name}", value)
    runtime.shutdown()
    yield runtime.get_runtime()
    runtime.shutdown()


@pytest.fixture
def show() -> Open:
    """Open a page by its name."""

    def open_page(name: str, **query: str) -> AppTest:
        at = AppTest.from_file(MAIN, default_timeout=30).run()  # the first run tells which address a page has
        at.switch_page(str(ROOT / "pages" / f"{name}.py"))
        at.query_params.update(query)
        return at.run()

    return open_page


def words(at: AppTest) -> str:
    """All that a person reads on the screen, outside tables."""
    kinds = (at.title, at.subheader, at.text, at.caption, at.code, at.error, at.info, at.success, at.markdown)
    return "\n".join(str(element.value) for kind in kinds for element in kind)
