"""The Recovery page: runs over time, one run told whole, refusals, and dead letters that hold still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from fleetq_core import runtime
from fleetq_core.config import Config
from fleetq_core.dashboard import recovery_board, snapshot, tables
from fleetq_core.dashboard.colours import EFFECT_BADGES
from fleetq_core.dashboard.views import recovery
from fleetq_core.model import Decision, Identity, RecoveryRun, StepRecord, Verdict
from fleetq_core.roles import Role
from fleetq_core.runtime import Runtime
from tests.pages.conftest import Open, words
from tests.pages.fleets import NOW, fleet, pod, run


@pytest.mark.parametrize(
    ("one", "effect"),
    [
        (run(moved=3, terminal_failures=1), "failed for good"),
        (run(moved=3, held_off=True), "resubmitted"),
        (run(held_off=True), "held off"),
        (run(dead=(Verdict("a", "a", 16.0),)), "moved nothing"),
        (run(finished_ts=None, duration_s=None), "interrupted"),
        (run(finished_ts=None, duration_s=None, ago_s=2), "under way"),
    ],
)
def test_a_run_is_named_by_what_it_did(one: RecoveryRun, effect: str) -> None:
    assert recovery.effect_of(one, NOW) == effect
    assert recovery.run_lines([one], NOW)[0].did == [effect]
    points = recovery.run_points([one], NOW)
    assert [point.effect for point in points] == ([] if effect == "under way" else [effect])


def test_every_effect_has_a_colour() -> None:
    assert set(EFFECT_BADGES) == {*recovery.EFFECTS, recovery.UNDER_WAY}


def test_runs_of_a_range_say_where_a_limit_cuts_them() -> None:
    runs = [run(f"r{n}", ago_s=10.0 * n) for n in range(1, 6)]
    assert recovery.reaching(runs, NOW - 35, 5) == (runs[:3], None)
    assert recovery.reaching(runs, NOW - 99, 6) == (runs, None)
    assert recovery.reaching(runs, NOW - 99, 5) == (runs, NOW - 50)
    assert recovery.reaching([], NOW - 99, 5) == ([], None)


def test_who_was_judged_dead_is_told_with_what_he_held() -> None:
    judged = run(dead=(Verdict("b", "b-1", 16.2), Verdict("c", "c-1", 70.0)))
    found = [Decision(f"s{n}", "orphan", "requeued", "b", 1, "") for n in range(3)]
    found.append(Decision("f", "failed", "requeued", "c", 1, ""))
    lines = recovery.verdict_lines(judged, found, 15.0)
    assert [(line.pod, line.silent, line.limit, line.held) for line in lines] == [
        ("b", "16 s", "15 s", 3), ("c", "1 min 10 s", "15 s", 0),
    ]  # fmt: skip


def test_decisions_are_grouped_and_found() -> None:
    found = [Decision(f"s{n}", "orphan", "requeued", "b", 1, "pod b was restarted") for n in range(3)]
    found.append(Decision("poison", "failed", "terminal", None, 3, "Boom"))
    groups = recovery.group_lines(found)
    assert [(line.steps, line.action, line.cause) for line in groups] == [
        (3, ["requeued"], "its pod died"), (1, ["terminal"], "its retry was due"),
    ]  # fmt: skip
    assert recovery.matching(found, "terminal", "") == found[3:]
    assert recovery.matching(found, None, " BOOM ") == found[3:]
    assert recovery.matching(found, None, "restarted") == found[:3]
    assert recovery.matching(found, "terminal", "restarted") == []
    assert recovery.matching(found, None, "s1") == [found[1]]


def test_refused_results_are_counted_by_pod() -> None:
    snap = fleet(pod("a", stale_refused=1), pod("b"), pod("c", stale_refused=7))
    assert [(line.pod, line.refused) for line in recovery.refused_lines(snap)] == [("c", 7), ("a", 1)]
    assert {fact.label: fact.value for fact in recovery.tiles(snap)}["Late results"] == "8"


def test_nobody_leads_is_told_from_a_rest() -> None:
    assert recovery.nobody_leads(fleet(pod("a"))) is None
    assert recovery.nobody_leads(fleet(pod("a", status="down", state="resting"))) is None
    assert "No living pod leads" in (recovery.nobody_leads(fleet(pod("a", silent_s=20))) or "")


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def app(make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """A dashboard without a pod, on a store in which nobody lives."""
    config = make_config()
    for name, value in {"STORE": config.store, "DATA_DIR": str(config.data_dir), "ROLE": Role.DASHBOARD}.items():
        monkeypatch.setenv(f"FLEET_Q_{name}", value)
    runtime.shutdown()
    yield runtime.get_runtime()
    runtime.shutdown()


def keep(app: Runtime, run_id: str, ago_s: float, *decisions: Decision, **other: object) -> None:
    started = app.queue.store.now() - ago_s
    figures = {"started_ts": started, "finished_ts": started + 0.1} | other
    told = replace(run(run_id), **figures)  # type: ignore[arg-type]
    app.queue.store.save_recovery_run(told, decisions)


def test_an_order_that_nobody_would_carry_out_is_refused(app: Runtime, show: Open) -> None:
    at = show("recovery")
    at.button(key="run_recovery").click().run()
    assert not at.exception
    assert "Nothing was ordered." in words(at)
    assert "No living pod leads" in words(at)
    assert app.queue.store.list_commands(5) == []


def test_the_range_decides_which_runs_are_listed(app: Runtime, show: Open) -> None:
    keep(app, "run-now", 60)
    keep(app, "run-today", 7200)
    keep(app, "run-old", 100_000)

    def listed(**query: str) -> list[str]:
        at = show("recovery", **query)
        assert not at.exception
        return list(at.dataframe[0].value["run_id"])

    assert listed(runs_range="1 h") == ["run-now"]
    assert listed() == ["run-now", "run-today"]
    assert listed(runs_range="7 d") == ["run-now", "run-today", "run-old"]


def test_older_runs_are_read_only_where_the_snapshot_does_not_reach(
    app: Runtime, show: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery_board, "RECENT_RUNS", 2)
    monkeypatch.setattr(snapshot, "RECENT_RUNS", 2)
    for number in range(4):
        keep(app, f"run-{number}", 100.0 + 3000 * number)
    asked: list[int] = []
    read = app.queue.store.list_recovery_runs
    monkeypatch.setattr(
        app.queue.store, "list_recovery_runs", lambda limit, run_id=None: asked.append(limit) or read(limit, run_id)
    )
    app.cache.clear()
    assert list(show("recovery", runs_range="1 h").dataframe[0].value["run_id"]) == ["run-0", "run-1"]
    assert snapshot.MOST_RUNS in asked  # two runs in the hour, and there may be more
    asked.clear()
    app.cache.clear()
    keep(app, "run-9", 1.0)
    keep(app, "run-ancient", 1_000_000)
    monkeypatch.setattr(recovery_board, "RECENT_RUNS", 9)
    monkeypatch.setattr(snapshot, "RECENT_RUNS", 9)
    show("recovery", runs_range="7 d")
    assert set(asked) == {9}


def test_a_linked_run_is_found_however_old_it_is(app: Runtime, show: Open) -> None:
    found = [Decision(f"s{n}", "orphan", "requeued", "ghost", 1, "pod ghost sent no heartbeat") for n in range(3)]
    keep(app, "run-old", 100_000, *found, dead_pods=("ghost",), verdicts=(Verdict("ghost", "g-1", 61.0),),
         total_orphans=3, resubmitted=3, statements=5)  # fmt: skip
    for number in range(snapshot.RECENT_RUNS + 5):
        keep(app, f"run-{number}", 10.0)
    at = show("recovery", run="run-old")
    assert not at.exception
    told = words(at)
    assert "1 dead pod, 3 orphans, 0 due for a retry: 3 resubmitted" in told
    verdicts, groups, decisions = (table.value for table in at.dataframe)
    assert verdicts[["pod", "silent", "limit", "held"]].values.tolist() == [["ghost", "1 min 1 s", "1 min", 3]]
    assert groups["steps"].tolist() == [3]
    assert decisions["step_id"].tolist() == ["s0", "s1", "s2"]
    at.text_input(key="run_find").set_value("s1").run()
    assert at.dataframe[2].value["step_id"].tolist() == ["s1"]
    at.segmented_control(key="run_action").set_value("terminal").run()
    assert len(at.dataframe) == 2
    assert "0 decisions" in words(at)


def test_thousands_of_decisions_are_bounded_and_it_is_said(app: Runtime, show: Open) -> None:
    found = [Decision(f"s{n:04d}", "orphan", "requeued", "ghost", 1, "gone") for n in range(1200)]
    keep(app, "run-big", 60, *found, total_orphans=1200, resubmitted=1200)
    at = show("recovery", run="run-big")
    assert len(at.dataframe[1].value) == recovery_board.MOST_LINES
    assert f"1,200 decisions, the first {recovery_board.MOST_LINES} listed" in words(at)


def test_a_run_that_was_cut_short_and_one_that_never_was(app: Runtime, show: Open) -> None:
    keep(app, "run-cut", 600, finished_ts=None, duration_s=None)
    at = show("recovery", run="run-cut")
    assert not at.exception
    assert "Interrupted: the leader stopped in the middle of this run." in words(at)
    assert "None was written, for the run did not end." in words(at)
    unknown = show("recovery", run="run-never")
    assert not unknown.exception
    assert "There is no recovery run with this id." in words(unknown)


def test_dead_letters_hold_still_while_some_are_selected(app: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def letters() -> list[StepRecord]:
        return app.queue.find_steps(limit=10)

    monkeypatch.setattr(recovery_board.st, "session_state", {})
    app.queue.submit_step({"task_type": "echo"}, step_id="first")
    before = letters()
    assert recovery_board._held(before) == before
    monkeypatch.setattr(tables, "picked", lambda key: ["first"])
    app.queue.submit_step({"task_type": "echo"}, step_id="second")
    assert recovery_board._held(letters()) == before
    monkeypatch.setattr(tables, "picked", lambda key: [])
    assert {step.step_id for step in recovery_board._held(letters())} == {"first", "second"}


def test_late_results_are_told_with_their_pods(app: Runtime, show: Open) -> None:
    app.queue.store.register_pod(Identity("frozen", "f-1"), {"state": "running", "stale_refused": 4})
    at = show("recovery")
    assert "4 late results refused" in words(at)
    assert at.dataframe[-1].value[["pod", "refused"]].values.tolist() == [["frozen", 4]]
