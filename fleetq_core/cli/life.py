"""A command for supervisors: alive. It asks this machine's disk and never the store."""

from __future__ import annotations

import click

from fleetq_core.config import load_config
from fleetq_core.errors import FleetQError
from fleetq_core.life import age_of

from .group import main


@main.command()
@click.option("--pod-id", help="The pod's name; default FLEET_Q_POD_ID, else any headless pod of this host.")
@click.option("--within", type=click.FloatRange(1, 86_400), default=60.0, show_default=True, help="Seconds.")
def alive(pod_id: str | None, within: float) -> None:
    """Exit 0 if a headless pod of this machine has given a sign of life lately, else 1."""
    config = load_config()
    named = pod_id or (config.pod_id if "pod_id" in config.model_fields_set else None)
    age_s = age_of(config.data_dir, named)
    whose = f"pod {named}" if named else "a headless pod of this host"
    if age_s is None:
        raise FleetQError(f"{config.data_dir} holds no sign of life of {whose}")
    if age_s > within:
        raise FleetQError(f"the last sign of life of {whose} is {age_s:.0f} s old; {within:g} s are allowed")
    click.echo(f"{whose} gave a sign of life {age_s:.1f} s ago")
