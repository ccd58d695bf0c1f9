"""The command line: `fleetq COMMAND` or `python -m fleetq_core COMMAND`."""

from . import act, life, look, play, work
from .group import main

__all__ = ["main", "work", "look", "act", "life", "play"]
