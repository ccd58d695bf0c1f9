"""The Pods page: what is odd about a pod, what an order will do, what was answered, and a dead pod's story."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from fleetq_core import runtime
from fleetq_core.commands import CommandKind
from fleetq_core.config import Config
from fleetq_core.dashboard import widgets
from fleetq_core.dashboard.views import orders, pods
from fleetq_core.model import (
    Command,
    CommandAnswer,
    CommandRecord,
    Decision,
    Identity,
    Outcome,
    RecoveryRun,
    Status,
    Verdict,
)
from fleetq_core.roles import Role
from fleetq_core.runtime import Runtime
from tests.pages.conftest import Open, words
from tests.pages.fleets import NOW, fleet, pod, run
from tests.support.waiting import eventually

PAUSE, RESUME, DRAIN = CommandKind.PAUSE, CommandKind.RESUME, CommandKind.DRAIN


# -- the table --------------------------------------------------------------------------------------------------------


def test_the_leader_stands_first_and_the_dead_last() -> None:
    snap = fleet(pod("young", age_s=5), pod("old", age_s=900), pod("dead", silent_s=20, age_s=2000))
    lines = pods.pod_lines(snap)
    assert [(line.pod, line.life) for line in lines] == [
        ("old", ["alive", "leader"]), ("young", ["alive"]), ("dead", ["dead"]),
    ]  # fmt: skip


@pytest.mark.parametrize(("offset", "off"), [(0.99, False), (-0.99, False), (1.0, True), (-3.0, True), (None, False)])
def test_a_clock_that_is_off_by_a_second_is_odd(offset: float | None, off: bool) -> None:
    snap = fleet(pod("a", clock_offset_s=offset))
    assert (pods.looks(snap.pods[0], snap) == ["clock off"]) is off
    assert bool(pods.oddities(snap)) is off


def test_the_worst_clock_is_told_with_its_direction() -> None:
    (told,) = pods.oddities(fleet(pod("a", clock_offset_s=1.5), pod("b", clock_offset_s=-75.0)))
    assert "The clock of 2 pods is off, by up to 1 min 15 s behind the database's." in told


def test_a_version_that_few_run_is_odd() -> None:
    snap = fleet(pod("a"), pod("b", version="2"), pod("c", version="2"), pod("gone", status="down", version="0"))
    assert {one.pod_id: pods.looks(one, snap) for one in snap.pods[:3]} == {"a": ["other version"], "b": [], "c": []}
    assert pods.oddities(snap) == ["The living pods run 2 versions: 2 on 2 pods, 1 on 1 pod."]
    half = fleet(pod("a"), pod("b", version="2"))
    assert [pods.looks(one, half) for one in half.pods] == [["other version"], []]


def test_a_dead_pod_is_not_odd_as_well() -> None:
    (line,) = pods.pod_lines(fleet(pod("a", silent_s=20, clock_offset_s=9.0, stuck=1, running_count=3)))
    assert (line.look, line.running, line.load) == ([], 0, 0.0)


# -- orders -----------------------------------------------------------------------------------------------------------


def asked(kind: CommandKind, chosen: list[Any], *others: Any, own: str | None = None) -> str:
    return orders.question(kind, chosen, fleet(*chosen, *others), own)


def test_an_order_says_how_many_pods_and_steps_it_touches() -> None:
    busy = [pod("a", running_count=3, buffered=2), pod("b", running_count=1)]
    assert asked(PAUSE, busy, pod("c")) == (
        "2 pods will claim no new step until somebody resumes. The 6 steps there will be finished."
    )
    assert asked(RESUME, busy) == "2 pods will claim steps again."
    assert "The 1 step there will be finished first, however long it takes." in asked(DRAIN, busy[1:], pod("c"))


def test_it_warns_where_nobody_is_left_to_claim() -> None:
    nobody = "Nobody will be left to claim"
    assert nobody in asked(DRAIN, [pod("a")])
    assert nobody in asked(PAUSE, [pod("a")], pod("b", silent_s=20), pod("c", status="down"))
    assert nobody in asked(PAUSE, [pod("a")], pod("b", state="paused"))
    assert nobody not in asked(PAUSE, [pod("a")], pod("b"))
    assert nobody not in asked(PAUSE, [pod("a")], pod("b", status="down", state="resting"))
    assert nobody not in asked(RESUME, [pod("a")])


def test_draining_says_who_leads_next_and_what_becomes_of_the_dashboards_own_pod() -> None:
    last, hands_over, own = (
        "It is the last living pod",
        "the oldest pod that is left takes over",
        "inside this dashboard",
    )
    alone = asked(DRAIN, [pod("a")])
    assert last in alone
    assert hands_over not in alone
    assert hands_over in asked(DRAIN, [pod("a", age_s=5000)], pod("b"))
    assert hands_over not in asked(DRAIN, [pod("a", age_s=5)], pod("b"))
    assert own in asked(DRAIN, [pod("a")], pod("b"), own="a")
    assert own not in asked(DRAIN, [pod("a")], pod("b"), own="b")


def test_answers_are_counted_and_the_silent_are_named() -> None:
    given = (CommandAnswer("a", NOW, True, "paused"), CommandAnswer("x", NOW, True, "not asked"),
             CommandAnswer("b", NOW, False, "no"))  # fmt: skip
    record = CommandRecord(Command("c", "pause", "*", {}, "me", NOW), given)
    told = orders.answers(record, ["a", "b", "c", "d"])
    assert told == orders.Answers(("a: paused", "b: refused, no"), 1, ("c", "d"))
    snap = fleet(pod("c"), pod("d", silent_s=20))
    assert orders.waiting_sentence(told.open, snap) == (
        "Not yet answered, until the next heartbeat (one every 2 s): c. Gone meanwhile: d."
    )
    assert orders.answers(None, ["a"]).open == ("a",)


def at_once(title: str, question: str, action: Callable[[], str], **_: object) -> None:
    widgets.flash(action())


def test_an_order_is_answered_on_the_page_and_then_read_no_more(
    running: Runtime, show: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(widgets, "confirm", at_once)
    at = show("pods", pod="pod-under-test")
    at.button(key="pause").click().run()
    eventually(lambda: "You ordered: pause. 1 of 1 pod answered." in words(at.run()))
    assert not at.exception
    assert "pod-under-test: paused; 0 steps are still running" in words(at)
    (record,) = running.queue.store.list_commands(5)
    assert (record.command.kind, record.command.target) == ("pause", "pod-under-test")
    reads: list[str] = []
    monkeypatch.setattr(running.queue, "command", lambda command_id: reads.append(command_id))
    running.cache.clear()
    at.run()
    assert "1 of 1 pod answered" in words(at)
    assert reads == []


# -- one pod's story --------------------------------------------------------------------------------------------------


def test_silence_is_explained_before_anybody_has_judged_it() -> None:
    snap = fleet(
        pod("late", silent_s=8), pod("dead", silent_s=20), pod("well"), pod("down", status="down", silent_s=99)
    )
    late, dead, well, down = (pods.silence_sentence(one, snap, 2) for one in snap.pods)
    assert late == "Silent for 8 s. Unless it is heard of within 7 s it counts as dead and loses the 2 steps it holds."
    assert dead == ("Silent for 20 s, so it counts as dead: the next recovery cycle gives the 2 steps it holds back.")
    assert (well, down) == (None, None)


def test_the_verdict_tells_of_whom_and_why() -> None:
    judged = run(dead=(Verdict("x", "x-0", 99.0), Verdict("a", "a-now", 16.0)))
    found = pods.verdict_on("a", [run("later"), judged])
    assert found == (judged, judged.verdicts[1])
    told = pods.death_sentence(*found, pod("a", status="down"), 15.0)
    assert told.startswith("pod-a declared it dead at ")
    assert told.endswith("16 s before. A pod may be silent for 15 s.")
    restarted = replace(pod("a"), incarnation="a-next")
    assert "declared an earlier process of this name dead" in pods.death_sentence(*found, restarted, 15.0)
    assert pods.verdict_on("b", [judged]) is None


@pytest.fixture
def haunted(make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """A dashboard without a pod; `ghost` was declared dead and held four steps, which fared differently since."""
    config = make_config()
    for name, value in {"STORE": config.store, "DATA_DIR": str(config.data_dir), "ROLE": Role.DASHBOARD}.items():
        monkeypatch.setenv(f"FLEET_Q_{name}", value)
    runtime.shutdown()
    app = runtime.get_runtime()
    store, who, ghost = app.queue.store, Identity("pod-a", "a-1"), Identity("ghost", "ghost-1")
    store.register_pod(who, {"state": "running", "heartbeat_s": 2})
    store.register_pod(ghost, {"state": "running", "last_errors": ["it hurt"], "running": []})
    store.mark_down(ghost)
    for number in range(4):
        app.queue.submit_step({"task_type": "echo"}, step_id=f"s{number}")
    rows = store.claim_steps(who, "token", 2, 60.0)
    store.settle_steps(
        [Outcome(row.step_id, "token", status, 0.1, error="no")
         for row, status in zip(rows, (Status.COMPLETED, Status.FAILED), strict=True)], 3,
    )  # fmt: skip
    held = [Decision(f"s{n}", "orphan", "requeued", "ghost", 1, "pod ghost sent no heartbeat") for n in range(3)]
    held.append(Decision("s-deleted", "orphan", "terminal", "ghost", 3, "the last straw"))
    held.append(Decision("s3", "failed", "requeued", "ghost", 1, "it failed there, and was not held"))
    now = store.now()
    store.save_recovery_run(
        RecoveryRun("run-of-ghost", "pod-a", "cycle", now - 600, now - 599, 1.0, ("ghost",), 4, 3, 1, 0,
                    verdicts=(Verdict("ghost", "ghost-1", 61.0),)), held,
    )  # fmt: skip
    yield app
    runtime.shutdown()


def test_a_dead_pods_story_is_told_to_the_end(haunted: Runtime, show: Open) -> None:
    at = show("pods", pod="ghost")
    assert not at.exception
    told = words(at)
    assert "pod-a declared it dead at " in told
    assert "1 min 1 s before. A pod may be silent for 1 min." in told
    assert "4 steps were taken from it. Now: 1 pending, 1 completed, 1 failed for good, 1 deleted." in told
    assert "it hurt" in told
    assert at.dataframe[1].value["step_id"].tolist() == ["s-deleted", "s0", "s1", "s2"]
    for key in ("pause", "resume", "drain"):
        assert at.button(key=key).disabled
    assert "cannot be ordered anything" in told


def test_a_death_older_than_the_runs_at_hand_is_found_by_what_it_held(haunted: Runtime, show: Open) -> None:
    store = haunted.queue.store
    for number in range(60):
        store.save_recovery_run(replace(run(f"later-{number}"), started_ts=store.now()), [])
    assert "pod-a declared it dead at " in words(show("pods", pod="ghost"))


def test_a_pod_that_lives_can_be_ordered_and_an_unknown_one_is_said_to_be(haunted: Runtime, show: Open) -> None:
    at = show("pods", pod="pod-a")
    assert not at.exception
    assert not at.button(key="drain").disabled
    assert "No recovery run on record has taken a step from it." in words(at)
    unknown = show("pods", pod="nobody")
    assert not unknown.exception
    assert "No pod of this name is on record" in words(unknown)


def test_what_a_pod_publishes_is_never_markup(haunted: Runtime, show: Open) -> None:
    hostile = "<b>x</b> **bold** :material/home:"
    haunted.queue.store.register_pod(Identity("evil", "evil-1"), {"version": hostile, "host": hostile, "last_errors": [hostile],
                                                                  "state": hostile, "clock_offset_s": "x"})  # fmt: skip
    at = show("pods", pod="evil")
    assert not at.exception
    assert hostile in words(at)
    assert hostile not in "\n".join(
        str(m.value) for kind in (at.markdown, at.caption, at.error, at.warning) for m in kind
    )
