"""Tasks for fault tests. Each start and finish is one line on an O_APPEND file, so that no crash can tear two apart."""

from __future__ import annotations

import os
import signal
import threading
import time

from fleetq_core import Step, TerminalError, task


def note(event: str, step: Step) -> None:
    line = f"{event} {step.step_id} {step.claim_token} {step.pod_id} {step.retry_count} {time.time():.6f}\n"
    fd = os.open(os.environ["TEST_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode())
    os.close(fd)


@task("work")
def work(step: Step) -> dict[str, str]:
    note("start", step)
    threading.Event().wait(step.payload.get("seconds", 0))
    if step.retry_count < step.payload.get("fails", 0):
        raise RuntimeError(f"attempt {step.retry_count} fails on purpose")
    note("finish", step)
    return {"by": step.pod_id}


@task("kill_me")
def kill_me(step: Step) -> None:
    note("start", step)
    os.kill(os.getpid(), signal.SIGKILL)


@task("refuse")
def refuse(step: Step) -> None:
    raise TerminalError("no")
