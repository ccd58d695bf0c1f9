"""Commands that act on the fleet: recover, requeue, cancel, pause, resume, drain, throttle-reset."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from fleetq_core.commands import ALL_PODS, THE_LEADER, CommandKind
from fleetq_core.errors import FleetQError
from fleetq_core.leader.election import leader_of
from fleetq_core.leader.recovery import describe_run
from fleetq_core.manual import recover_by_hand
from fleetq_core.model import CommandRecord, hearing
from fleetq_core.queue import Queue
from fleetq_core.shapes import fleet_of, published_throttles, recovery_stats

from .group import as_json, main, open_queue
from .printing import print_json


@main.command()
@click.option("--ask", is_flag=True, help="Let the leader do it, through the store.")
@click.option("--timeout", type=click.FloatRange(1, 3600), default=60.0, show_default=True, help="Seconds to wait.")
@as_json
def recover(ask: bool, timeout: float, as_json: bool) -> None:
    """Run one recovery cycle. Exit code 3 where another living pod leads; --ask gives it the order instead."""
    queue = open_queue()
    if ask:
        if leader_of(*fleet_of(queue)) is None:
            raise FleetQError("no living pod leads this fleet; without --ask this command runs the recovery itself")
        _ask(queue, CommandKind.RUN_RECOVERY, THE_LEADER, timeout, as_json)
        return
    run = recover_by_hand(queue, lambda line: click.echo(line, err=True))
    if as_json:
        print_json({"run_id": run.run_id, **recovery_stats(run), "held_off": run.held_off})
    else:
        click.echo(describe_run(run))


@main.command()
@click.argument("step_ids", nargs=-1, required=True)
def requeue(step_ids: Sequence[str]) -> None:
    """Give failed steps a fresh set of retries."""
    _moved("requeued", open_queue().requeue_steps(step_ids, by=_me()), step_ids)


@main.command()
@click.argument("step_ids", nargs=-1, required=True)
def cancel(step_ids: Sequence[str]) -> None:
    """End pending steps for good."""
    _moved("cancelled", open_queue().cancel_steps(step_ids, by=_me()), step_ids)


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
        queue = open_queue()
        if pod_id is not None and pod_id not in {pod.pod_id for pod in hearing(*fleet_of(queue))}:
            raise FleetQError(f"no living pod is called {pod_id!r}; see `fleetq pods`")
        _ask(queue, kind, ALL_PODS if pod_id is None else pod_id, timeout)

    done: Callable[..., None] = command
    return done


_order_command("pause", CommandKind.PAUSE, "Claim nothing more, until resumed.")
_order_command("resume", CommandKind.RESUME, "Claim again.")
_order_command("drain", CommandKind.DRAIN, "Finish what runs, then stop.")


@main.command("throttle-reset")
@click.argument("name")
@click.option("--pod", "pod_id", help="On this pod only.")
@click.option("--timeout", type=click.FloatRange(0, 3600), default=30.0, show_default=True, help="Seconds to wait.")
def throttle_reset(name: str, pod_id: str | None, timeout: float) -> None:
    """Reset a throttle on all pods, or on one."""
    queue = open_queue()
    by_pod = published_throttles(*fleet_of(queue)).get(name, {})
    if not by_pod:
        raise FleetQError(f"no living pod publishes a throttle {name!r}; see `fleetq throttles`")
    if pod_id is not None and pod_id not in by_pod:
        raise FleetQError(f"no living pod {pod_id!r} publishes a throttle {name!r}; see `fleetq throttles`")
    _ask(queue, CommandKind.RESET_THROTTLE, pod_id or ALL_PODS, timeout, name=name)


def _ask(queue: Queue, kind: CommandKind, target: str, timeout_s: float, as_json: bool = False, **args: Any) -> None:
    """Order, and print the answers of everyone addressed who is alive."""
    record = queue.ask(kind, target, by=_me(), timeout_s=timeout_s, **args)
    _print_answers(record, as_json)
    if not record.answers:
        raise FleetQError(
            f"{record.command.command_id}: nobody has answered within {timeout_s:g} s; see `fleetq commands`"
        )
    if not all(answer.ok for answer in record.answers):
        sys.exit(1)


def _print_answers(record: CommandRecord, as_json: bool) -> None:
    if as_json:
        answers = [{"pod_id": answer.pod_id, "ok": answer.ok, "result": answer.result} for answer in record.answers]
        print_json({"command_id": record.command.command_id, "answers": answers})
        return
    for answer in record.answers:
        click.echo(f"{answer.pod_id}: {answer.result}", err=not answer.ok)


def _me() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user without a name
        return "cli"
