"""Commands that bring work, or do it: submit, pod."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fleetq_core.config import load_config
from fleetq_core.connect import connect
from fleetq_core.errors import InvalidPayload, StoreUnavailable
from fleetq_core.logs import log_to_stdout
from fleetq_core.model import NewStep
from fleetq_core.pod import Pod
from fleetq_core.queue import SUBMIT_SET, Queue
from fleetq_core.shapes import new_step, parse_json

from .group import main, open_queue


@main.command()
@click.option("--pod-id", help="The pod's name; default FLEET_Q_POD_ID.")
@click.option("--drain", is_flag=True, help="Leave when nothing is pending or claimed.")
def pod(pod_id: str | None, drain: bool) -> None:
    """Run a headless pod until SIGTERM or Ctrl-C."""
    log_to_stdout()
    config = load_config() if pod_id is None else load_config(pod_id=pod_id)
    queue = connect(config)

    def drained() -> bool:
        try:
            stats = queue.stats()
        except StoreUnavailable:  # the loops wait for the store, and so does this
            return False
        return stats.pending == stats.claimed == 0

    sys.exit(Pod(queue, config).run(until=drained if drain else None))


@main.command()
@click.argument("payload", required=False)
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Steps as JSON lines."
)
@click.option("--priority", type=int, default=0, show_default=True, help="Higher goes first.")
@click.option("--step-id", help="Idempotency key: the same id again is a no-op.")
@click.option("--count", type=click.IntRange(1, 1_000_000), help="Submit it this often.")
def submit(payload: str | None, file: Path | None, priority: int, step_id: str | None, count: int | None) -> None:
    """Submit PAYLOAD (a JSON object with a task_type), or the lines of --file; prints one step_id a line."""
    if (payload is None) == (file is None):
        raise click.UsageError("give either PAYLOAD or --file")
    if file is not None and (step_id, count) != (None, None):
        raise click.UsageError("--step-id and --count go with PAYLOAD; in a file each line may have its step_id")
    if step_id is not None and count not in (None, 1):
        raise click.UsageError("--step-id names one step; it does not go with --count")
    queue = open_queue()
    if file is not None:
        steps = _steps_of(file, queue, priority)
    else:
        steps = [NewStep(parse_json(payload or "", "PAYLOAD"), priority, step_id)] * (count or 1)
    # Set by set: the ids of what stands are out before the next set can fail.
    source = iter(steps)
    while some := list(itertools.islice(source, SUBMIT_SET)):
        click.echo("\n".join(queue.submit_steps(some)))


def _steps_of(file: Path, queue: Queue, priority: int) -> list[NewStep]:
    """Every line is checked before the first is submitted."""
    steps = []
    for number, line in _lines_of(file):
        try:
            step = _step_of(parse_json(line.decode("utf-8"), "the line"), priority)
            queue.check(step)
        except UnicodeDecodeError as exc:
            raise InvalidPayload(f"{file}, line {number}", f"is not UTF-8 text ({exc.reason})") from exc
        except InvalidPayload as exc:
            raise InvalidPayload(f"{file}, line {number}", str(exc)) from exc
        steps.append(step)
    return steps


def _lines_of(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that hold something, with their numbers. Bytes, because str knows line ends that JSON does not."""
    try:
        content = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as exc:
        raise InvalidPayload(str(file), f"cannot be read: {exc.strerror}") from exc
    return ((number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip())


def _step_of(value: Any, priority: int) -> NewStep:
    """A line is a whole step, or just the payload of one."""
    whole = isinstance(value, dict) and "payload" in value and "task_type" not in value
    return new_step(value, priority=priority) if whole else NewStep(value, priority)
