"""The dashboard's process, when it cannot start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"FLEET_Q_MAX_RETRIES": "many"}, "FLEET-Q cannot start: FLEET_Q_MAX_RETRIES='many': must be a valid integer"),
        ({"FLEET_Q_HANDLERS": "no_such"}, "FLEET-Q cannot start: FLEET_Q_HANDLERS: cannot import no_such"),
        ({"FLEET_Q_STORE": "sqlite:////dev/null/q.db"}, "FLEET-Q cannot start: cannot make the folder of the database"),
        (
            {"FLEET_Q_ROLE": "viewr"},
            "FLEET-Q cannot start: FLEET_Q_ROLE='viewr': must be 'pod', 'dashboard' or 'viewer'",
        ),
        ({"FLEET_Q_ROLE": "viewer"}, "is not there, and a viewer makes none: start a pod on it first"),
    ],
)
def test_a_start_that_fails_is_one_line_and_an_exit_code(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {"FLEET_Q_STORE": f"sqlite:///{tmp_path}/q.db", "FLEET_Q_DATA_DIR": str(tmp_path)} | settings
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert said in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
