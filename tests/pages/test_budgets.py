"""What the screens ask of the store: as much for twenty viewers as for one, and no more than each page's budget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from fleetq_core import runtime
from fleetq_core.dashboard import shell, snapshot
from fleetq_core.model import NewStep
from fleetq_core.runtime import Runtime
from tests.pages.conftest import MAIN, ROOT

TICK_S = 2.0
# Calls of the store: (of the first viewer's first screen, in the minute after it at a refresh every two seconds).
# On Snowflake a call is a statement. The fleet's snapshot is 4 of them, at most 30 times a minute.
BUDGETS = {
    "overview": (5, 135),
    "steps": (6, 150),
    "submit": (5, 120),
    "pods": (6, 130),
    "recovery": (6, 150),
    "throttles": (5, 120),
    "cost": (5, 120),
    "audit": (6, 150),
}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Runtime]:
    """A dashboard without a pod, so that nobody but the screens asks anything, with a few steps in its store."""
    monkeypatch.setenv("FLEET_Q_STORE", f"sqlite:///{tmp_path}/fleetq.db")
    monkeypatch.setenv("FLEET_Q_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FLEET_Q_ROLE", "dashboard")
    runtime.shutdown()
    app = runtime.get_runtime()
    app.queue.submit_steps([NewStep({"task_type": "echo", "n": n}) for n in range(60)])
    yield app
    runtime.shutdown()


class Played:
    """Viewers of one page, whose time passes only in `tick`."""

    def __init__(self, app: Runtime, page: str, viewers: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._app, self._now = app, 1000.0
        app.cache.clear()
        monkeypatch.setattr(snapshot, "time", SimpleNamespace(monotonic=lambda: self._now, thread_time=lambda: 0.0))
        self._sessions = [AppTest.from_file(MAIN, default_timeout=30) for _ in range(viewers)]
        before = self._calls()
        for session in self._sessions:
            session.run().switch_page(str(ROOT / "pages" / f"{page}.py"))
            assert not session.run().exception
        self.first = self._calls() - before

    def tick(self, times: int) -> int:
        """Let every viewer refresh `times` times, TICK_S apart; returns the calls of the store."""
        before = self._calls()
        for _ in range(times):
            self._now += TICK_S
            for session in self._sessions:
                session.run()
        return self._calls() - before

    def _calls(self) -> int:
        assert self._app.meter is not None
        return sum(figures.cumulative[-1] for figures in self._app.meter.read().values())


def test_every_page_has_a_budget() -> None:
    assert set(BUDGETS) == {name for name, *_ in shell._PAGES}


@pytest.mark.parametrize("page", BUDGETS)
def test_a_page_keeps_to_its_budget(app: Runtime, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = Played(app, page, 1, monkeypatch)
    minute = viewer.tick(30)
    print(f"{page}: {viewer.first} calls at first, {minute} a minute")
    first, a_minute = BUDGETS[page]
    assert viewer.first <= first
    assert minute <= a_minute


@pytest.mark.parametrize("page", BUDGETS)
def test_twenty_viewers_cost_what_one_costs(app: Runtime, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Played(app, page, 1, monkeypatch)
    one = (alone.first, alone.tick(3))
    crowd = Played(app, page, 20, monkeypatch)
    assert (crowd.first, crowd.tick(3)) == one


def test_nobody_who_looks_costs_nothing(app: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Played(app, "overview", 0, monkeypatch).tick(30) == 0
