"""The `fleetq` command itself, and what its subcommands share."""

from __future__ import annotations

import errno
import sys
from typing import Any

import click

from fleetq_core.config import load_config
from fleetq_core.connect import connect
from fleetq_core.errors import FleetQError, NotLeader
from fleetq_core.queue import Queue
from fleetq_core.version import VERSION

from .printing import complain

NOT_LEADER_EXIT = 3


class _Group(click.Group):
    """Turns our errors into one line each on stderr, and exit code 1 (3 where this caller may not lead)."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NotLeader as exc:
            complain(str(exc))
            ctx.exit(NOT_LEADER_EXIT)
        except FleetQError as exc:
            complain(str(exc))
            ctx.exit(1)
        except OSError as exc:  # a full disk behind `> file`, a working directory that is gone
            if exc.errno == errno.EPIPE:  # the reader has seen enough: click leaves quietly
                raise
            complain(f"{exc.filename or 'the operating system'}: {exc.strerror}")
            ctx.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="fleetq")
def main() -> None:
    """FLEET-Q: a brokerless distributed task queue."""
    # As with `python -m`: FLEET_Q_HANDLERS names modules of the folder the user stands in. It is done here, because
    # what may be imported is the affair of a program; a library that changed it would change its host's imports.
    if not sys.flags.safe_path and "" not in sys.path:
        sys.path.insert(0, "")


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def open_queue() -> Queue:
    """The queue that the environment names, until the command ends."""
    queue = connect(load_config())
    click.get_current_context().call_on_close(queue.close)
    return queue
