"""Tasks for fault tests. Each start and finish is one line on an O_APPEND file, so that no crash can tear two apart."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from urllib.parse import urlsplit

from fleetq_core import Step, TerminalError, ThrottleConfig, get_or_create_throttle, task


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
    if not step.payload.get("spared"):
        os.kill(os.getpid(), signal.SIGKILL)


@task("refuse")
def refuse(step: Step) -> None:
    raise TerminalError("no")


SHARED = get_or_create_throttle("downstream", ThrottleConfig(initial_limit=4, max_limit=40, scope="fleet"))


@task("call_downstream", throttle="downstream")
async def call_downstream(step: Step) -> None:
    # Plain sockets: a client library would take more of this machine's cores than the queue does.
    address = urlsplit(step.payload["url"])
    async with SHARED.acquire():
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        status = (await reader.readline()).split()[1]
        writer.close()
        if status == b"429":
            SHARED.record_throttle()
            step.defer(0.2, "refused")
        SHARED.record_success()
