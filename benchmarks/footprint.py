"""What a headless pod takes from its machine while there is nothing to do."""

from __future__ import annotations

import threading

import psutil

from . import harness

WATCHED_S = 30.0
SETTLED_S = 3.0


def run() -> harness.Report:
    """Resident memory and share of one core of `fleetq pod` with the default settings, idle."""
    with harness.scratch() as folder:
        env = {"FLEET_Q_STORE": f"sqlite:///{folder}/q.db", "FLEET_Q_DATA_DIR": str(folder / "data")}
        pod = harness.spawn("fleetq_core", "pod", "--pod-id", "idle", env=env)
        try:
            if pod.stdout is None or not any("is up" in line for line in pod.stdout):
                raise RuntimeError("the pod did not come up")
            process, pause = psutil.Process(pod.pid), threading.Event()
            pause.wait(SETTLED_S)
            before = process.cpu_times()
            pause.wait(WATCHED_S)
            after, memory = process.cpu_times(), process.memory_info().rss
        finally:
            pod.terminate()
            pod.wait(harness.CHILD_TIMEOUT_S)
    used = after.user + after.system - before.user - before.system
    report = harness.Report(f"An idle headless pod, watched for {WATCHED_S:g} s")
    report.add("resident memory", memory / 1e6, "MB", 80, at_least=False)
    report.add("share of a core", 100 * used / WATCHED_S, "%", 1.0, at_least=False)
    return report
