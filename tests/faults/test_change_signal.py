"""Noticing another connection's commit: by the kernel where there is one that tells, else by asking."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from fleetq_core.config import Config
from fleetq_core.model import StepRow
from fleetq_core.store import Store, open_store, sqlite_signal
from fleetq_core.store.protocol import ChangeSignal
from tests.support.waiting import eventually

LONG_S = 20.0


@pytest.fixture(params=["kernel", "polling"])
def signal(request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChangeSignal]:
    kind = sqlite_signal.KernelSignal if request.param == "kernel" else sqlite_signal.PollingSignal
    if request.param == "polling":
        monkeypatch.setattr(sqlite_signal, "sys", type("elsewhere", (), {"platform": "darwin"}))
    made = store.change_signal()
    assert isinstance(made, kind)
    yield made
    made.close()


def waiting(signal: ChangeSignal, timeout_s: float = LONG_S) -> tuple[threading.Thread, list[bool]]:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(signal.wait(timeout_s)))
    thread.start()
    return thread, answers


def submit(config: Config, step_id: str = "a") -> None:
    other = open_store(config)
    other.insert_steps([StepRow(step_id, "echo", '{"task_type":"echo"}', 0, None)])
    other.close()


def test_a_commit_of_another_connection_ends_the_wait(signal: ChangeSignal, config: Config) -> None:
    thread, answers = waiting(signal)
    submit(config)
    thread.join(LONG_S)
    assert answers == [True]


def test_a_commit_from_before_the_wait_is_not_missed(signal: ChangeSignal, config: Config) -> None:
    submit(config)
    started = time.monotonic()
    assert signal.wait(LONG_S)
    assert time.monotonic() - started < LONG_S / 2


def test_each_commit_is_told_once_and_silence_is_silence(signal: ChangeSignal, config: Config) -> None:
    submit(config)
    assert signal.wait(LONG_S)
    assert not signal.wait(0.05)


def test_a_commit_that_takes_its_time_is_told_when_it_can_be_seen(signal: ChangeSignal, config: Config) -> None:
    """The log is written to before the commit is visible: to look once at the write would be to look too early."""
    with closing(sqlite3.connect(config.sqlite_path, isolation_level=None)) as db:
        db.execute("PRAGMA cache_size=1")  # spills its pages into the log while the transaction is still open
        db.execute("BEGIN IMMEDIATE")
        rows = [(f"s{n}", "echo", '{"task_type":"echo"}', 0, None, 1.0, 1.0) for n in range(2000)]
        db.executemany(
            "INSERT INTO step_tracker (step_id, task_type, payload, priority, max_retries, status, created_ts,"
            " last_update_ts) VALUES (?, ?, ?, ?, ?, 'pending', ?, ?)",
            rows,
        )
        thread, answers = waiting(signal)
        thread.join(0.2)
        assert answers == []
        db.execute("COMMIT")
        thread.join(LONG_S)
    assert answers == [True]


def test_an_interrupt_ends_the_wait_and_all_later_ones(signal: ChangeSignal) -> None:
    thread, answers = waiting(signal)
    signal.interrupt()
    thread.join(LONG_S)
    assert answers == [False]
    assert not signal.wait(LONG_S)


def test_without_inotify_watches_the_pod_polls(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inotify_simple.INotify.add_watch", refuse)
    signal = store.change_signal()
    assert isinstance(signal, sqlite_signal.PollingSignal)
    signal.close()


def test_a_waiting_caller_sees_the_end_of_a_step_of_another_process(
    store: Store, config: Config, make_config: Callable[..., Config]
) -> None:
    from fleetq_core.queue import Queue

    queue, other = Queue(store, config), Queue(open_store(config), make_config(pod_id="other"))
    step_id = queue.submit_step({"task_type": "echo"})
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(queue.wait(step_id, LONG_S)))
    thread.start()
    other.store._clock = store._clock  # type: ignore[attr-defined]
    step = eventually(lambda: other.claim_steps(1))[0]
    assert other.complete_step(step, "done")
    thread.join(LONG_S)
    assert found[0].result == "done"
    other.close()
