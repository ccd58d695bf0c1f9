"""Read models and the shared snapshot: words, attempts, and how often the store is asked."""

from __future__ import annotations

import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fleetq_core.dashboard import actions, snapshot, views
from fleetq_core.dashboard.charts import STATUS_COLOURS
from fleetq_core.errors import InvalidPayload, StoreUnavailable
from fleetq_core.model import Status
from fleetq_core.runtime import Runtime

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
    assert views.duration(seconds) == told


def test_a_status_has_one_colour_everywhere() -> None:
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"]
    named = {"pending": "blue", "claimed": "violet", "completed": "green", "failed": "red"}
    assert set(named) == set(Status) == set(STATUS_COLOURS)
    assert {status: theme[f"{name}Color"] for status, name in named.items()} == STATUS_COLOURS


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


def test_a_failed_read_keeps_the_last_answer(running: Runtime) -> None:
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
    assert views.profile_columns(result) == [{"name": "a", "min": "1"}, {"name": "b", "min": "x"}]
    assert views.profile_columns({"columns": {"a": {"type": "int"}}}) == [{"name": "a", "type": "int"}]
    assert views.profile_columns({"columns": 3}) is None
    assert views.profile_columns("text") is None
