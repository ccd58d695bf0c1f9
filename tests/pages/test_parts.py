"""Read models and the shared snapshot: words, attempts, and how often the store is asked."""

from __future__ import annotations

import functools
import runpy
import threading
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from fleetq_core.dashboard import actions, shell, snapshot
from fleetq_core.dashboard.colours import STATUS_BADGES, STATUS_COLOURS
from fleetq_core.dashboard.views import overview, pods, steps, words
from fleetq_core.errors import InvalidPayload, StoreUnavailable
from fleetq_core.model import HeldClaims, PodRecord, RecoveryRun, Sample, Status
from fleetq_core.runtime import Runtime
from tests.pages.conftest import MAIN, Open
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "–"),
        (0.25, "250 ms"),
        (5.0, "5 s"),
        (9.5, "9.5 s"),
        (75, "1 min 15 s"),
        (7200, "2 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_read_well(seconds: float | None, told: str) -> None:
    assert words.duration(seconds) == told


def test_a_status_has_one_colour_everywhere() -> None:
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"]
    assert set(STATUS_BADGES) == set(Status) == set(STATUS_COLOURS)
    assert {status: theme[f"{name}Color"] for status, name in STATUS_BADGES.items()} == STATUS_COLOURS


def test_many_viewers_cost_one_read(running: Runtime) -> None:
    reads, gate = [], threading.Event()

    def read() -> int:
        reads.append(1)
        gate.wait(10)
        return 42

    answers: list[Any] = []
    viewers = [
        threading.Thread(target=lambda: answers.append(snapshot.shared(running, "t", read, ttl_s=60).value))
        for _ in range(8)
    ]
    for viewer in viewers:
        viewer.start()
    gate.set()
    for viewer in viewers:
        viewer.join(10)
    assert answers == [42] * 8
    assert len(reads) == 1


def test_a_process_that_a_handler_spawns_draws_nothing_and_starts_no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("a second dashboard in a spawned process")

    monkeypatch.setattr(shell, "render", refuse)
    runpy.run_path(str(MAIN), run_name="__mp_main__")  # as multiprocessing does
    with pytest.raises(AssertionError, match="a second dashboard"):
        runpy.run_path(str(MAIN), run_name="__main__")


def test_a_failed_read_keeps_the_last_answer(running: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MOST_OF_A_CORE", float("inf"))  # so that nothing is kept at all

    def fail() -> int:
        raise StoreUnavailable("away")

    assert snapshot.shared(running, "k", lambda: 1, ttl_s=0).value == 1
    answer = snapshot.shared(running, "k", fail, ttl_s=0)
    assert (answer.value, answer.problem) == (1, "StoreUnavailable: away")
    assert snapshot.shared(running, "k", lambda: 2, ttl_s=0) == snapshot.Answer(2)


def test_an_upload_keeps_to_its_folder(running: Runtime) -> None:
    folder = (running.config.data_dir / "uploads").resolve()
    for name in ("../../etc/passwd", "C:\\x\\y.csv", ".hidden", "ü b.csv", ""):
        path = Path(actions.save_upload(running, name, b"a,b\n1,2\n"))
        assert path.parent == folder
        assert path.read_bytes() == b"a,b\n1,2\n"
    assert len(list(folder.iterdir())) == 5


@pytest.mark.parametrize("text", ["[1]", "{", '{"task_type": "other"}'])
def test_a_payload_that_is_wrong_is_named(text: str) -> None:
    with pytest.raises(InvalidPayload):
        actions.parse_payload("echo", text)


def test_profiles_become_tables_leniently() -> None:
    result = {"rows": 2, "columns": [{"name": "a", "min": 1}, {"name": "b", "min": "x"}]}
    assert steps.profile_columns(result) == [{"name": "a", "min": "1"}, {"name": "b", "min": "x"}]
    assert steps.profile_columns({"columns": {"a": {"type": "int"}}}) == [{"name": "a", "type": "int"}]
    assert steps.profile_columns({"columns": 3}) is None
    assert steps.profile_columns("text") is None


def fact(snap: snapshot.Snapshot, label: str, orphans: int = 0) -> tuple[str, str]:
    found = next(fact for fact in overview.health(snap, None, orphans) if fact.label == label)
    return found.value, found.tone


@pytest.mark.parametrize(
    ("failed", "completed", "told"),
    [(0, 0, ("none finished", "plain")), (0, 8, ("0.0%", "good")), (1, 9, ("10.0%", "warn")), (1, 3, ("25.0%", "bad"))],
)
def test_the_failure_rate_is_of_what_ended_lately(
    running: Runtime, failed: int, completed: int, told: tuple[str, str]
) -> None:
    snap = snapshot.fleet(running).value
    assert snap is not None
    sample = Sample(100.0, 1.0, 0, 0, 0, 0, 0, completed, failed, None, 1, 0, None)
    snap = replace(snap, samples=(sample, sample))
    assert fact(snap, "Failure rate") == told
    warned = any("ended in the last 5 minutes failed" in item.text for item in overview.attention(snap))
    assert warned is (told[1] in ("warn", "bad"))


def test_what_recovery_will_move_is_told_and_who_will_do_it(running: Runtime) -> None:
    eventually(lambda: running.pod.leads)
    snap = snapshot.fleet(running).value
    assert snap is not None
    assert fact(snap, "Recovery due") == ("nothing", "good")
    due = replace(snap, stats=replace(snap.stats, retry_due=2))
    assert fact(due, "Recovery due") == ("2 steps", "plain")
    assert fact(due, "Recovery due", orphans=3) == ("5 steps", "warn")
    assert fact(replace(due, leader=None), "Recovery due") == ("2 steps", "bad")


def test_orphans_are_claims_of_processes_that_do_not_live(running: Runtime) -> None:
    snap = snapshot.fleet(running).value
    assert snap is not None
    (pod,) = snap.pods
    held = [HeldClaims(pod.pod_id, pod.incarnation, 4, 1.0), HeldClaims(pod.pod_id, "an older process", 3, 1.0)]
    assert overview.orphans(snap, held) == 3


def test_a_pod_that_died_is_told_from_one_that_was_stopped(running: Runtime) -> None:
    snap = snapshot.fleet(running).value
    assert snap is not None
    gone = [PodRecord(name, f"{name}-1", "down", 1.0, 50.0, True, {}) for name in ("killed", "stopped")]
    run = RecoveryRun("r", "leader", "cycle", 60.0, 61.0, 1.0, ("killed",), 0, 0, 0, 0)
    lines = pods.pod_lines(replace(snap, pods=tuple(gone), runs=(run,)))
    assert {line.pod: line.state for line in lines} == {"killed": "declared dead", "stopped": "stopped"}


def test_missing_heartbeats_are_seen_before_the_pod_is_dead(running: Runtime) -> None:
    eventually(lambda: running.pod.leads)
    answer = snapshot.fleet(running).value
    assert answer is not None
    (pod,) = answer.pods
    later = replace(answer, now_ts=pod.last_heartbeat_ts + 3 * pod.meta["heartbeat_s"])
    assert pods.life_of(pod, answer) == "alive"
    assert (pods.life_of(pod, later), pods.late_pods(later)) == ("late", [pod])
    assert [item.detail for item in overview.attention(later)] == ["pod-under-test"]
    assert overview.health(later, None)[1].value == "1, 1 late"
    dead = replace(answer, now_ts=pod.last_heartbeat_ts + answer.threshold_s)
    assert (pods.life_of(pod, dead), pods.late_pods(dead)) == ("dead", [])


def test_a_fleet_that_rests_is_well(running: Runtime) -> None:
    eventually(lambda: running.pod.leads)
    answer = snapshot.fleet(running).value
    assert answer is not None
    (pod,) = answer.pods
    down = replace(answer, pods=(replace(pod, status="down", meta=pod.meta | {"state": "resting"}),), leader=None)
    assert overview.attention(down) == []
    told = {fact.label: (fact.value, fact.tone) for fact in overview.health(down, None)}
    assert told["Pods alive"] == ("0, 1 resting", "good")
    assert told["Leader"] == ("the fleet rests", "good")
    assert overview.summary(down, None)[1].value == "the fleet rests"
    (line,) = pods.pod_lines(down)
    assert (line.life, line.state) == (["resting"], "resting")
    stopped = replace(down, pods=(replace(pod, status="down"),))
    assert "No pod is alive" in overview.attention(stopped)[0].text
    assert overview.health(stopped, None)[1].tone == "bad"


def test_an_interrupted_run_needs_somebody_for_an_hour(running: Runtime) -> None:
    answer = snapshot.fleet(running).value
    assert answer is not None
    run = RecoveryRun("run-1", "p", "cycle", answer.now_ts, None, None, (), 0, 0, 0, 0)
    told = {
        age: sum("ended in the middle" in item.text for item in overview.attention(
            replace(answer, now_ts=answer.now_ts + age, runs=(run,))
        ))
        for age in (1, 60, 4000)
    }  # fmt: skip
    assert told == {1: 0, 60: 1, 4000: 0}


def test_a_question_opens_outside_what_refreshes_itself(
    running: Runtime, show: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a refresh that comes before it is sent takes the dialog's frame away, and the whole page goes white."""
    blocks, opened = list[str](), list[list[str]]()
    fragment, dialog = st.fragment, st.dialog

    def refreshed(block: Callable[[], None], **options: Any) -> Any:
        @functools.wraps(block)
        def entered() -> None:
            blocks.append(block.__name__)
            try:
                block()
            finally:
                blocks.pop()

        return fragment(entered, **options)

    def seen(title: str) -> Any:
        opened.append(list(blocks))
        return dialog(title)

    monkeypatch.setattr(st, "fragment", refreshed)
    monkeypatch.setattr(st, "dialog", seen)
    at = show("pods")
    at.button(key="pause").click().run()
    assert opened == [[]]
    assert at.button(key="confirm_yes").label == "Pause 1 pod"
