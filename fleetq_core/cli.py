"""The command line: `fleetq COMMAND` or `python -m fleetq_core COMMAND`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from .commands import ALL_PODS, THE_LEADER, CommandKind
from .config import Config, load_config
from .connect import connect
from .errors import ConfigError, FleetQError, InvalidPayload, NotLeader
from .leader.election import leader_of
from .logs import log_to_stdout
from .manual import recover_by_hand
from .model import NewStep, PodRecord, format_ts
from .pod import Pod, describe_run
from .queue import Queue
from .version import VERSION

NOT_LEADER_EXIT = 3


class _Group(click.Group):
    """Turns our errors into one line each on stderr, and exit code 1 (3 where this caller may not lead)."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NotLeader as exc:
            _complain(str(exc))
            ctx.exit(NOT_LEADER_EXIT)
        except FleetQError as exc:
            _complain(str(exc))
            ctx.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="fleetq")
def main() -> None:
    """FLEET-Q: a brokerless distributed task queue."""


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


# -- work -------------------------------------------------------------------------------------------------------------


@main.command()
@click.option("--pod-id", help="The pod's name; default FLEET_Q_POD_ID.")
@click.option("--drain", is_flag=True, help="Leave when nothing is pending or claimed.")
def pod(pod_id: str | None, drain: bool) -> None:
    """Run a headless pod until SIGTERM or Ctrl-C."""
    log_to_stdout()
    config = load_config(pod_id=pod_id) if pod_id else load_config()
    queue = connect(config)

    def drained() -> bool:
        stats = queue.stats()
        return stats.pending == stats.claimed == 0

    sys.exit(Pod(queue, config).run(until=drained if drain else None))


@main.command()
@click.argument("payload", required=False)
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Steps as JSON lines."
)
@click.option("--priority", type=int, default=0, show_default=True, help="Higher goes first.")
@click.option("--step-id", help="Idempotency key: the same id again is a no-op.")
@click.option("--count", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="Submit it this often.")
def submit(payload: str | None, file: Path | None, priority: int, step_id: str | None, count: int) -> None:
    """Submit PAYLOAD (a JSON object with a task_type), or the lines of --file; prints one step_id a line."""
    if (payload is None) == (file is None):
        raise click.UsageError("give either PAYLOAD or --file")
    if step_id is not None and count > 1:
        raise click.UsageError("--step-id names one step; it does not go with --count")
    queue = _queue()
    if file is not None:
        steps = _steps_of(file, queue, priority)
    else:
        steps = [NewStep(_parse(payload or "", "PAYLOAD"), priority, step_id)] * count
    for new_id in queue.submit_steps(steps):
        click.echo(new_id)


def _steps_of(file: Path, queue: Queue, priority: int) -> list[NewStep]:
    """Every line is checked before the first is submitted."""
    steps = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                step = _step_of(_parse(line, "the line"), priority)
                queue.check(step)
            except InvalidPayload as exc:
                raise InvalidPayload(f"{file}, line {number}", str(exc)) from exc
            steps.append(step)
    return steps


def _step_of(value: Any, priority: int) -> NewStep:
    if not isinstance(value, dict) or "payload" not in value or "task_type" in value:
        return NewStep(value, priority)
    unknown = sorted(set(value) - {"payload", "priority", "step_id", "max_retries"})
    if unknown:
        raise InvalidPayload(unknown[0], "is not a field of a step; there are payload, priority, step_id, max_retries")
    return NewStep(value["payload"], value.get("priority", priority), value.get("step_id"), value.get("max_retries"))


def _parse(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidPayload(what, f"is not JSON: {exc}") from exc


# -- look -------------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("step_id")
@as_json
def status(step_id: str, as_json: bool) -> None:
    """Show one step."""
    record = _queue().get_step(step_id)
    if record is None:
        raise FleetQError(f"there is no step {step_id!r}")
    values = {
        "step_id": record.step_id,
        "status": record.status.value,
        "claimed_by": record.claimed_by,
        "payload": record.payload,
        "retry_count": record.retry_count,
        "priority": record.priority,
        "created_ts": format_ts(record.created_ts),
        "last_update_ts": format_ts(record.last_update_ts),
        "result": record.result,
        "error": record.error,
        "history": record.history,
    }
    _print(values, as_json)


@main.command("queue")
@as_json
def show_queue(as_json: bool) -> None:
    """Count the steps by status."""
    _print(dict(_queue().stats().by_status()), as_json)


@main.command()
@as_json
def pods(as_json: bool) -> None:
    """List the pods."""
    queue = _queue()
    found, now_ts = queue.store.list_pods(), queue.store.now()
    leader = leader_of(found, now_ts, queue.config.dead_pod_threshold)
    _table([_pod_row(pod, leader, now_ts, queue.config) for pod in found], as_json, "no pod has ever beaten here")


def _pod_row(pod: PodRecord, leader: PodRecord | None, now_ts: float, config: Config) -> dict[str, Any]:
    alive = pod.is_alive(now_ts, config.dead_pod_threshold)
    return {
        "pod_id": pod.pod_id,
        "state": pod.meta.get("state", "up") if alive else ("dead" if pod.status == "up" else "down"),
        "leader": leader is not None and pod.incarnation == leader.incarnation,
        "heartbeat_age_s": round(now_ts - pod.last_heartbeat_ts, 1),
        "running": pod.meta.get("running_count", 0) if alive else 0,
        "capacity": pod.meta.get("capacity", 0),
        "completed": pod.meta.get("completed", 0),
        "failed": pod.meta.get("failed", 0),
        "born": format_ts(pod.birth_ts),
    }


@main.command()
@as_json
def leader(as_json: bool) -> None:
    """Name the leader and the living pods."""
    queue = _queue()
    found, now_ts, threshold_s = queue.store.list_pods(), queue.store.now(), queue.config.dead_pod_threshold
    leading = leader_of(found, now_ts, threshold_s)
    alive = [pod.pod_id for pod in found if pod.may_lead and pod.is_alive(now_ts, threshold_s)]
    values = {
        "leader_pod_id": leading.pod_id if leading else None,
        "total_alive_pods": len(alive),
        "alive_pods": alive,
    }
    _print(values, as_json)


@main.command("commands")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@as_json
def show_commands(limit: int, as_json: bool) -> None:
    """List the newest operator commands with their answers."""
    rows = [
        {
            "issued": format_ts(record.command.issued_ts),
            "by": record.command.issued_by,
            "kind": record.command.kind,
            "target": record.command.target,
            "answers": "; ".join(f"{a.pod_id}: {a.result}" for a in record.answers) or "none yet",
        }
        for record in _queue().store.list_commands(limit)
    ]
    _table(rows, as_json, "no commands yet")


@main.command()
@as_json
def throttles(as_json: bool) -> None:
    """List the throttles that pods publish."""
    rows = [
        {"pod_id": pod.pod_id, "throttle": name, **figures}
        for pod in _queue().store.list_pods()
        for name, figures in pod.meta.get("throttles", {}).items()
    ]
    _table(rows, as_json, "no pod publishes a throttle")


@main.command()
@click.option("--tables", type=click.Choice(["standard", "hybrid"]), help="For Snowflake only.")
@click.option("--apply", "apply", is_flag=True, help="Create or migrate the tables.")
def schema(tables: str | None, apply: bool) -> None:
    """Print the schema, or create it."""
    config = load_config()
    if tables:
        raise ConfigError([f"--tables={tables}: is for the Snowflake store, and FLEET_Q_STORE is {config.store}"])
    from .store.sqlite import migrations

    if apply:
        connect(config).close()
        click.echo(f"{config.store} has schema version {len(migrations())}")
    else:
        click.echo("\n".join(migrations()))


# -- act --------------------------------------------------------------------------------------------------------------


@main.command()
@click.option("--ask", is_flag=True, help="Let the leader do it, through the store.")
@click.option("--timeout", type=click.FloatRange(1, 3600), default=60.0, show_default=True, help="Seconds to wait.")
@as_json
def recover(ask: bool, timeout: float, as_json: bool) -> None:
    """Run one recovery cycle. Exit code 3 where another living pod leads; --ask gives it the order instead."""
    queue = _queue()
    if ask:
        _ask(queue, CommandKind.RUN_RECOVERY, THE_LEADER, timeout)
        return
    run = recover_by_hand(queue, lambda line: click.echo(line, err=True))
    values = {
        "run_id": run.run_id,
        "dead_pods": len(run.dead_pods),
        "total_orphans": run.total_orphans,
        "resubmitted": run.resubmitted,
        "terminal_failures": run.terminal_failures,
        "held_off": run.held_off,
    }
    click.echo(json.dumps(values) if as_json else describe_run(run))


@main.command()
@click.argument("step_ids", nargs=-1, required=True)
def requeue(step_ids: Sequence[str]) -> None:
    """Give failed steps a fresh set of retries."""
    _moved("requeued", _queue().requeue_steps(step_ids, by=_me()), step_ids)


@main.command()
@click.argument("step_ids", nargs=-1, required=True)
def cancel(step_ids: Sequence[str]) -> None:
    """End pending steps for good."""
    _moved("cancelled", _queue().cancel_steps(step_ids, by=_me()), step_ids)


def _moved(verb: str, moved: Sequence[str], asked: Sequence[str]) -> None:
    rest = len(set(asked)) - len(moved)
    click.echo(f"{verb} {len(moved)} of {len(set(asked))}" + (f"; {rest} were unknown or had moved on" if rest else ""))
    if not moved:
        sys.exit(1)


def _order_command(name: str, kind: CommandKind, text: str) -> Callable[..., None]:
    @main.command(name, help=text)
    @click.argument("pod_id", required=False)
    @click.option("--all", "everyone", is_flag=True, help="All pods.")
    @click.option("--timeout", type=click.FloatRange(0, 3600), default=30.0, show_default=True, help="Seconds to wait.")
    def command(pod_id: str | None, everyone: bool, timeout: float) -> None:
        if (pod_id is None) == (not everyone):
            raise click.UsageError("give either POD_ID or --all")
        _ask(_queue(), kind, ALL_PODS if everyone else str(pod_id), timeout)

    done: Callable[..., None] = command
    return done


_order_command("pause", CommandKind.PAUSE, "Claim nothing more, until resumed.")
_order_command("resume", CommandKind.RESUME, "Claim again.")
_order_command("drain", CommandKind.DRAIN, "Finish what runs, then stop.")


@main.command("throttle-reset")
@click.argument("name")
@click.option("--timeout", type=click.FloatRange(0, 3600), default=30.0, show_default=True, help="Seconds to wait.")
def throttle_reset(name: str, timeout: float) -> None:
    """Reset a throttle on all pods."""
    _ask(_queue(), CommandKind.RESET_THROTTLE, ALL_PODS, timeout, name=name)


def _ask(queue: Queue, kind: CommandKind, target: str, timeout_s: float, **args: Any) -> None:
    """Order, and print the answers of everyone addressed who is alive."""
    record = queue.ask(kind, target, by=_me(), timeout_s=timeout_s, **args)
    for answer in record.answers:
        click.echo(f"{answer.pod_id}: {answer.result}", err=not answer.ok)
    if not record.answers:
        raise FleetQError(
            f"{record.command.command_id}: nobody has answered within {timeout_s:g} s; see `fleetq commands`"
        )
    if not all(answer.ok for answer in record.answers):
        sys.exit(1)


# -- printing ---------------------------------------------------------------------------------------------------------


def _queue() -> Queue:
    return connect(load_config())


def _me() -> str:
    import getpass

    try:
        return f"cli:{getpass.getuser()}"
    except OSError:  # a container's user without a name
        return "cli"


def _complain(text: str) -> None:
    for line in text.splitlines():
        click.echo(f"fleetq: {line}", err=True)


def _print(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(values, ensure_ascii=False))
        return
    width = max(len(key) for key in values)
    for key, value in values.items():
        click.echo(f"{key:<{width}}  {_text(value)}")


def _table(rows: Sequence[dict[str, Any]], as_json: bool, empty: str) -> None:
    if as_json:
        click.echo(json.dumps(list(rows), ensure_ascii=False))
    elif not rows:
        click.echo(empty)
    else:
        columns = list(rows[0])
        cells = [columns, *([_text(row[column]) for column in columns] for row in rows)]
        widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
        for line in cells:
            click.echo("  ".join(_padded(line, widths)).rstrip())


def _padded(cells: Iterable[str], widths: Iterable[int]) -> Iterable[str]:
    return (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
