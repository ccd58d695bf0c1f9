"""Commands that look: status, queue, pods, leader, commands, throttles, schema."""

from __future__ import annotations

from typing import Any, Literal

import click

from fleetq_core.config import Config, load_config
from fleetq_core.connect import connect
from fleetq_core.errors import ConfigError, FleetQError
from fleetq_core.leader.election import leader_of
from fleetq_core.model import PodRecord, format_ts
from fleetq_core.shapes import fleet_of, leader_view, published_throttles, step_view
from fleetq_core.store import open_snowflake, snowflake_schema

from .group import as_json, main, open_queue
from .printing import print_fields, print_table


@main.command()
@click.argument("step_id")
@as_json
def status(step_id: str, as_json: bool) -> None:
    """Show one step."""
    queue = open_queue()
    record = queue.get_step(step_id)
    if record is None:
        raise FleetQError(f"there is no step {step_id!r}")
    view = step_view(record)
    if not as_json and record.due_ts is not None and record.due_ts > queue.store.now():
        view["status"] = f"{record.status.value}, deferred until {format_ts(record.due_ts)}"
    print_fields(view, as_json)


@main.command("queue")
@as_json
def show_queue(as_json: bool) -> None:
    """Count the steps by status."""
    print_fields(open_queue().stats().by_status(), as_json)


@main.command()
@as_json
def pods(as_json: bool) -> None:
    """List the pods."""
    queue = open_queue()
    found, now_ts, threshold_s = fleet_of(queue)
    leader = leader_of(found, now_ts, threshold_s)
    print_table([_pod_row(pod, leader, now_ts, queue.config) for pod in found], as_json, "no pod has ever beaten here")


def _pod_row(pod: PodRecord, leader: PodRecord | None, now_ts: float, config: Config) -> dict[str, Any]:
    alive = pod.is_alive(now_ts, config.dead_pod_threshold)
    return {
        "pod_id": pod.pod_id,
        "state": _state_of(pod, now_ts) if alive else _end_of(pod),
        "leader": leader is not None and pod.incarnation == leader.incarnation,
        "heartbeat_age_s": round(now_ts - pod.last_heartbeat_ts, 1),
        "running": pod.meta.get("running_count", 0) if alive else 0,
        "capacity": pod.meta.get("capacity", 0),
        "completed": pod.meta.get("completed", 0),
        "failed": pod.meta.get("failed", 0),
        "born": format_ts(pod.birth_ts),
    }


def _end_of(pod: PodRecord) -> str:
    return "resting" if pod.rests else "dead" if pod.status == "up" else "down"


def _state_of(pod: PodRecord, now_ts: float) -> str:
    state = str(pod.meta.get("state", "up"))
    return f"{state}, late" if pod.is_late(now_ts) else state


@main.command()
@as_json
def leader(as_json: bool) -> None:
    """Name the leader and the living pods."""
    print_fields(leader_view(*fleet_of(open_queue())), as_json)


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
        for record in open_queue().store.list_commands(limit)
    ]
    print_table(rows, as_json, "no commands yet")


@main.command()
@as_json
def throttles(as_json: bool) -> None:
    """List the throttles that living pods publish."""
    rows = [
        # Why limits moved is for programs and for the dashboard: it does not fit into a line.
        {"throttle": name, "pod_id": pod_id, **{key: figures[key] for key in figures if as_json or key != "changes"}}
        for name, by_pod in sorted(published_throttles(*fleet_of(open_queue())).items())
        for pod_id, figures in by_pod.items()
    ]
    print_table(rows, as_json, "no living pod publishes a throttle")


@main.command()
@click.option("--tables", type=click.Choice(["standard", "hybrid"]), help="For Snowflake only; default: standard.")
@click.option("--apply", "apply", is_flag=True, help="Create or migrate the tables.")
def schema(tables: Literal["standard", "hybrid"] | None, apply: bool) -> None:
    """Print the schema, or create it."""
    config = load_config()
    if config.store == "snowflake" or (tables and not apply):
        _snowflake_schema(config, tables, apply)
        return
    if tables:
        raise ConfigError([f"--tables={tables}: is for the Snowflake store, and FLEET_Q_STORE is {config.store}"])
    from fleetq_core.store.sqlite_schema import migrations

    if apply:
        connect(config).close()
        click.echo(f"{config.store} has schema version {len(migrations())}")
    else:
        click.echo("\n".join(migrations()))


def _snowflake_schema(config: Config, tables: Literal["standard", "hybrid"] | None, apply: bool) -> None:
    if not apply:
        click.echo(snowflake_schema.text(tables or "standard"), nl=False)
        return
    store = open_snowflake(config, create=True, tables=tables)
    store.close()
    place = f"{config.snowflake_database}.{config.snowflake_schema}"
    click.echo(f"{place} on Snowflake has schema version {snowflake_schema.VERSION}, {store.tables} tables")
