"""The tasks every pod knows. Importing this package registers them; heavy libraries are imported when a step runs."""

from . import basics

__all__ = ["basics"]
