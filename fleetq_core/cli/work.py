"""Commands that bring work, or do it: submit, pod."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import click

from fleetq_core.config import load_config
from fleetq_core.connect import connect
from fleetq_core.demo import STEPS, demo_steps
from fleetq_core.errors import InvalidPayload, StoreUnavailable
from fleetq_core.logs import log_to_stdout
from fleetq_core.model import NewStep
from fleetq_core.pod import Pod
from fleetq_core.queue import SUBMIT_SET, Queue
from fleetq_core.shapes import parse_json
from fleetq_core.steps_file import read_steps

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

    running = Pod(queue, config)
    code = running.run(until=drained if drain else None)
    queue.close()
    if running.store_hangs:
        # Python would wait at its end for threads that hang in the store's driver; all that matters is on disk.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


@main.command()
@click.argument("payload", required=False)
@click.option(
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Steps as JSON lines, or as CSV with a header.",
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


@main.command()
@click.option("--count", type=click.IntRange(1, 100_000), default=STEPS, show_default=True, help="How many steps.")
@click.option("--seed", type=int, help="The same seed makes the same steps.")
def demo(count: int, seed: int | None) -> None:
    """Submit a mixed load of the built-in tasks, to see the fleet at work; some of its steps fail on purpose."""
    ids = open_queue().submit_steps(demo_steps(count, seed))
    click.echo(f"{len(ids)} steps submitted; see `fleetq queue` and the dashboard")


def _steps_of(file: Path, queue: Queue, priority: int) -> list[NewStep]:
    """Every line is checked before the first is submitted."""
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise InvalidPayload(str(file), f"cannot be read: {exc.strerror}") from exc
    steps = []
    for line in read_steps(content, is_csv=file.suffix.lower() == ".csv", priority=priority, check=queue.check):
        if line.step is None:
            raise InvalidPayload(f"{file}, line {line.number}", line.problem)
        steps.append(line.step)
    return steps
