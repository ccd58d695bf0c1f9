"""A headless pod's sign of life, and the command that asks for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleetq_core import life
from fleetq_core.cli import main
from fleetq_core.life import LifeSign, age_of
from fleetq_core.loop import Loop
from tests.support.waiting import eventually

Alive = Callable[..., Result]


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Alive:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("FLEET_Q_DATA_DIR", str(tmp_path))
    # Whoever asked the store would find that there is none.
    monkeypatch.setenv("FLEET_Q_STORE", "sqlite:////dev/null/q.db")
    return lambda *arguments: CliRunner().invoke(main, ["alive", *arguments])


def sign(folder: Path, pod_id: str, **changed: object) -> None:
    """A sign as another process may have left it."""
    LifeSign(folder, pod_id).give()
    path = folder / "alive" / pod_id
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_a_fresh_sign_is_life(alive: Alive, tmp_path: Path) -> None:
    LifeSign(tmp_path, "pod-a").give()
    done = alive("--pod-id", "pod-a")
    assert (done.exit_code, done.output.startswith("pod pod-a gave a sign of life 0.")) == (0, True)
    assert alive().exit_code == 0
    assert [path.name for path in (tmp_path / "alive").iterdir()] == ["pod-a"]


def test_another_pods_sign_is_not_ours(alive: Alive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LifeSign(tmp_path, "pod-a").give()
    assert alive("--pod-id", "pod-b").exit_code == 1
    monkeypatch.setenv("FLEET_Q_POD_ID", "pod-b")
    done = alive()
    assert (done.exit_code, done.output.splitlines()) == (
        1, [f"fleetq: {tmp_path} holds no sign of life of pod pod-b"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"monotonic": -1e6}, "s old; 60 s are allowed"),
        ({"monotonic": 1e12}, "holds no sign of life"),  # from before the machine's last start
        ({"host": "another"}, "holds no sign of life"),
        ({"monotonic": "soon"}, "holds no sign of life"),
    ],
)
def test_an_old_or_foreign_sign_is_none(alive: Alive, tmp_path: Path, changed: dict[str, object], said: str) -> None:
    sign(tmp_path, "pod-a", **changed)
    done = alive("--pod-id", "pod-a")
    assert (done.exit_code, said in done.output, len(done.output.splitlines())) == (1, True, 1)


def test_a_pod_whose_loop_hangs_gives_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = LifeSign(tmp_path, "pod-a")
    given.give(["heartbeat"])
    given.give(["heartbeat"])
    assert age_of(tmp_path, "pod-a") is None
    assert [record.getMessage() for record in caplog.records] == [
        "no sign of life: stuck for more than 300 s in a turn of heartbeat"
    ]
    given.give()
    assert age_of(tmp_path, "pod-a") is not None


def test_a_disk_that_does_not_take_it_is_said_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "alive").write_text("a file where a folder should be")
    given = LifeSign(tmp_path, "pod-a")
    given.give()
    given.give()
    assert len(caplog.records) == 1
    assert "no sign of life" in caplog.text


def test_a_loop_tells_how_long_its_turn_has_lasted() -> None:
    inside, leave = threading.Event(), threading.Event()

    def turn() -> float:
        inside.set()
        leave.wait(20)
        return 60.0

    loop = Loop("slow", turn, on_death=lambda name, error: None)
    assert loop.turn_s() == 0.0
    loop.start()
    inside.wait(20)
    eventually(lambda: loop.turn_s() > 0)
    leave.set()
    eventually(lambda: loop.turn_s() == 0.0)
    loop.stop(20)


def test_a_pod_that_hangs_is_found_out(make_config: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    from fleetq_core import Pod, connect
    from fleetq_core import pod as module

    monkeypatch.setattr(module, "STUCK_S", 0.05)
    queue = connect(make_config())  # type: ignore[arg-type]
    pod = Pod(queue)
    pod.start()
    hang, leave = threading.Event(), threading.Event()

    def stuck() -> float:
        hang.set()
        leave.wait(30)
        return 60.0

    try:
        # The watch loop spends its days inside its turn, and that is well.
        eventually(lambda: pod._watch_loop.turn_s() > 0.05)
        assert pod._stuck() == []
        pod._settle_loop._turn = stuck
        pod._settle_loop.poke()
        hang.wait(20)
        assert eventually(pod._stuck) == ["settle"]
    finally:
        leave.set()
        pod.stop()
        queue.close()


@pytest.mark.slow
def test_a_real_pod_gives_signs_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = os.environ | {
        "FLEET_Q_STORE": f"sqlite:///{tmp_path}/q.db", "FLEET_Q_DATA_DIR": str(tmp_path), "FLEET_Q_POD_ID": "pod-a",
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "fleetq_core", "pod"], cwd=tmp_path, env=env)
    try:
        first = eventually(lambda: age_of(tmp_path, "pod-a") is not None and _given(tmp_path))
        assert eventually(lambda: _given(tmp_path) > first, timeout_s=30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert not list((tmp_path / "alive").iterdir())
    assert life.age_of(tmp_path, None) is None


def _given(folder: Path) -> float:
    return float(json.loads((folder / "alive" / "pod-a").read_text())["monotonic"])
