"""Real pods as real processes on one database file."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from fleetq_core import Queue, connect, load_config
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
THRESHOLD_S = 1.5
RECOVERY_S = 0.5


class Fleet:
    """Starts pods, watches the queue, and leaves no process behind."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.log = folder / "runs.log"
        self.settings = {
            "FLEET_Q_STORE": f"sqlite:///{folder}/fleetq.db",
            "FLEET_Q_DATA_DIR": str(folder / "data"),
            "FLEET_Q_HEARTBEAT_INTERVAL": "0.3",
            "FLEET_Q_DEAD_POD_THRESHOLD": str(THRESHOLD_S),
            "FLEET_Q_RECOVERY_INTERVAL": str(RECOVERY_S),
            "FLEET_Q_CLAIM_INTERVAL": "0.2",
            "FLEET_Q_RETRY_BASE_DELAY": "0.1",
            "FLEET_Q_HANDLERS": "tests.support.handlers",
        } | settings
        self.queue: Queue = connect(load_config(self.settings, env_file=folder / "none", pod_id="observer"))
        self._pods: list[subprocess.Popen[str]] = []
        self.folder = folder

    def start(self, pod_id: str, *args: str, module: str = "fleetq_core", **env: str) -> subprocess.Popen[str]:
        """Start a pod and wait until it beats."""
        output = (self.folder / f"{pod_id}-{len(self._pods)}.out").open("w")
        environment = os.environ | self.settings | {"TEST_LOG": str(self.log), "PYTHONPATH": str(ROOT)} | env
        command = [sys.executable, "-m", module, "pod", "--pod-id", pod_id, *args]
        process = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=output, stderr=output, text=True)
        output.close()
        self._pods.append(process)
        eventually(lambda: process.poll() is not None or self.pid_of(pod_id) == process.pid)
        if process.returncode == 1 and not args:
            raise AssertionError(self.output(pod_id))
        return process

    def freeze(self, process: subprocess.Popen[str]) -> None:
        """Stop a pod between two of its writes: in the middle of one it would hold the file's lock, and with it all."""

        def frozen_without_a_lock() -> bool:
            process.send_signal(signal.SIGSTOP)
            with closing(sqlite3.connect(self.folder / "fleetq.db", timeout=0.2, isolation_level=None)) as probe:
                try:
                    probe.execute("BEGIN IMMEDIATE")
                    return True
                except sqlite3.OperationalError:
                    process.send_signal(signal.SIGCONT)
                    return False

        eventually(frozen_without_a_lock)

    def pid_of(self, pod_id: str) -> int | None:
        """The process that owns the row of `pod_id`."""
        for pod in self.queue.store.list_pods():
            if pod.pod_id == pod_id and pod.status == "up":
                return int(pod.meta["pid"])
        return None

    def output(self, pod_id: str) -> str:
        """What the pods of that name have printed."""
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"{pod_id}-*.out")))

    def lines(self, event: str) -> list[list[str]]:
        """The noted events: [event, step_id, claim_token, pod_id, retry_count, time]."""
        text = self.log.read_text() if self.log.exists() else ""
        return [line.split() for line in text.splitlines() if line.startswith(event)]

    def submit(self, count: int, **payload: Any) -> list[str]:
        return self.queue.submit_steps([{"task_type": "work", **payload} for _ in range(count)])

    def drained(self) -> bool:
        """Nothing is pending, claimed, or waiting for a retry."""
        stats = self.queue.stats()
        return stats.pending == stats.claimed == 0 and stats.failed == stats.dead_letters

    def close(self) -> None:
        for process in self._pods:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(10)
        self.queue.close()
