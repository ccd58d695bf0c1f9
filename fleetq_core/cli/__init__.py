"""The command line: `fleetq COMMAND` or `python -m fleetq_core COMMAND`."""

from . import act, look, work
from .group import main

__all__ = ["main", "work", "look", "act"]
