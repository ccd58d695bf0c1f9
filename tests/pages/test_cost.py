"""The Cost screen: on the embedded store, and with the figures of a fleet on Snowflake."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleetq_core.config import Config
from fleetq_core.dashboard import snapshot
from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.dashboard.views import cost as views
from fleetq_core.runtime import Runtime
from fleetq_core.store import tally
from fleetq_core.store.metered import KINDS
from fleetq_core.store.tally import StoreMeter
from tests.pages.conftest import Open, words
from tests.support.waiting import eventually

TOLD = {
    "kinds": {"claim": [10, 0, 30, 1000, 2, 4.0], "beat": [90, 1, 180, 90, 0, 9.0], "odd": [1, 0, 0, 0, 0, 0.0]},
    "hour": {"seconds": 1800, "statements": 105, "awake_s": 450},
}


@pytest.fixture
def snap(running: Runtime) -> Snapshot:
    """A fleet of a living pod and a resting one, which publish the same, and one that stopped."""
    eventually(lambda: running.pod.leads)
    found = snapshot.fleet(running).value
    assert found is not None
    (pod,) = found.pods
    pod = replace(pod, meta=pod.meta | {"store": TOLD, "completed": 900, "failed": 100})
    rests = replace(pod, pod_id="rests", status="down", meta=pod.meta | {"state": "resting"})
    return replace(found, pods=(pod, rests, replace(pod, pod_id="stopped", status="down")))


def test_what_the_tiles_say(snap: Snapshot) -> None:
    config = Config(store="snowflake", warehouse_credits=2.0)
    told = {fact.label: fact.value for fact in views.facts(views.cost_of(snap), snap, config)}
    assert told == {
        "Credits a day": "12.0 – 24.0",
        "Warehouse awake": "25 – 50 %",
        "Statements an hour": "420",
        "Statements per 1,000 steps": "30",
        "Idle, by the settings": "48.0 credits a day",
    }


def test_the_kinds_come_by_their_statements(snap: Snapshot) -> None:
    lines = views.kind_lines(views.cost_of(snap))
    assert [(line.kind, line.statements, line.retries, line.errors) for line in lines] == [
        ("beat", 360, 0, 2), ("claim", 60, 4, 0), ("odd", 0, 0, 0),
    ]  # fmt: skip
    assert lines[0].share == pytest.approx(360 / 420)
    assert lines[0].mean_ms == pytest.approx(100.0)


def test_every_kind_is_explained() -> None:
    assert set(views.NOTE) == set(KINDS)


def test_what_one_pod_would_cost_alone(snap: Snapshot) -> None:
    line = views.pod_lines(views.cost_of(snap), Config(warehouse_credits=2.0))[0]
    assert (line.statements_an_hour, line.awake_share, line.credits_a_day) == (210.0, 0.25, 12.0)


def test_a_dashboard_without_a_pod_counts_itself(snap: Snapshot) -> None:
    cost = views.cost_of(replace(snap, pods=()), TOLD)  # type: ignore[arg-type]
    assert [(pod.pod_id, pod.statements_an_hour) for pod in cost.pods] == [(views.OWN, 210.0)]


def test_a_fleet_that_has_not_worked_says_so(snap: Snapshot) -> None:
    idle = replace(snap, pods=())
    told = {fact.label: fact.value for fact in views.facts(views.cost_of(idle), idle, Config(store="snowflake"))}
    assert (told["Credits a day"], told["Statements per 1,000 steps"]) == ("0.0", "no work yet")


def test_the_page_shows_what_this_process_asks_of_the_file(running: Runtime, show: Open) -> None:
    eventually(lambda: running.queue.store.list_pods()[0].meta["store"]["kinds"].get("beat", [0])[0] > 2)
    at = show("cost")
    table = at.dataframe[0].value
    assert set(table["kind"]) >= {"beat", "claim", "recover", "sample"}
    assert "Credits a day" not in words(at)


def test_on_snowflake_the_page_shows_credits(running: Runtime, show: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "config", running.config.model_copy(update={"store": "snowflake"}))
    eventually(lambda: bool(running.queue.store.list_pods()[0].meta["store"]["kinds"]))
    at: Any = show("cost")
    assert not at.exception
    assert "Credits a day" in words(at)
    assert [table.value.columns[0] for table in at.dataframe] == ["kind", "pod", "page"]


def test_what_the_screens_ask_is_told_by_page(running: Runtime, show: Open) -> None:
    show("steps")
    at = show("cost")
    table = at.dataframe[-1].value
    assert set(table["page"]) >= {"Overview", "Steps"}  # each visit begins on Overview; Cost shares what those read
    assert (table["calls"] > 0).all()
    assert "a page that nobody looks at asks nothing" in words(at)


def test_the_cost_of_the_screens_alone(times: Any) -> None:
    meter = StoreMeter(("dashboard", "claim"))
    hour = meter.screens = tally.LastHour(60, times)
    seen, claims = (
        tally.timed(work, meter.of(kind)) for kind, work in (("dashboard", statement), ("claim", statement))
    )
    claims()
    with tally.asking_for("Steps"):
        seen()
        seen()
    times.now += 3000.0
    assert {page: (asked.calls, asked.statements) for page, asked in meter.pages().items()} == {"Steps": (2, 2)}
    config = Config(store="snowflake", warehouse_credits=2.0)
    told = {fact.label: fact.value for fact in views.screen_facts(hour.read(), config)}
    assert told == {"Statements an hour": "2", "Warehouse awake": "2 %", "Credits a day": "1.0"}
    assert [(line.page, line.share) for line in views.page_lines(meter.pages())] == [("Steps", 1.0)]


def statement() -> None:
    tally.ran(1.0, 1, 0)


@pytest.fixture
def times() -> Any:
    class Times:
        now = 1000.0

        def __call__(self) -> float:
            return self.now

    return Times()
