"""Noticing that another connection has committed to the file, within milliseconds and without asking all the time.

`PRAGMA data_version` tells cheaply whether somebody has committed, but asking every few milliseconds keeps a core
awake. On Linux the kernel says when the write-ahead log is written to, and only then is it asked.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .protocol import ChangeSignal

PROBE_S = 0.010  # without the kernel's help: how often the version is asked for
# The log is written to before its commit can be seen, and a commit may wait for its disk. So the version is asked for
# this often, and this long, after a write.
AFTER_WRITE_S = 0.002
COMMIT_TAKES_S = 2.0


def change_signal(version: Callable[[], int], wal: Path) -> ChangeSignal:
    """The best signal there is on this machine; `version` reads PRAGMA data_version."""
    seen = version()  # reading also makes sure that the log exists
    if sys.platform == "linux":
        try:
            return KernelSignal(version, seen, wal)
        except OSError:  # out of inotify watches, or a file system without them
            pass
    return PollingSignal(version, seen)


class PollingSignal:
    """Asks for the version every few milliseconds while somebody waits."""

    def __init__(self, version: Callable[[], int], seen: int) -> None:
        self._version, self._seen = version, seen
        self._interrupted = threading.Event()

    def wait(self, timeout_s: float) -> bool:
        """See ChangeSignal."""
        deadline = time.monotonic() + timeout_s
        while True:
            if (now := self._version()) != self._seen:
                self._seen = now
                return True
            left = deadline - time.monotonic()
            if left <= 0 or self._interrupted.wait(min(left, PROBE_S)):
                return False

    def interrupt(self) -> None:
        """See ChangeSignal."""
        self._interrupted.set()

    def close(self) -> None:
        """See ChangeSignal."""


class KernelSignal:
    """Sleeps until the kernel reports a write to the log (inotify)."""

    def __init__(self, version: Callable[[], int], seen: int, wal: Path) -> None:
        from inotify_simple import INotify, flags

        self._version, self._seen = version, seen
        self._watch = INotify(nonblocking=True)
        try:
            # The log keeps its inode as long as any connection is open, and the caller has one.
            self._watch.add_watch(wal, flags.MODIFY)
        except OSError:
            self._watch.close()
            raise
        self._interrupt = os.eventfd(0)
        self._poll = select.poll()
        self._poll.register(self._watch.fileno(), select.POLLIN)
        self._poll.register(self._interrupt, select.POLLIN)

    def wait(self, timeout_s: float) -> bool:
        """See ChangeSignal."""
        deadline = time.monotonic() + timeout_s
        written = float("-inf")
        while True:
            now = time.monotonic()
            if (version := self._version()) != self._seen:
                self._seen = version
                return True
            pause = AFTER_WRITE_S if now - written < COMMIT_TAKES_S else deadline - now
            ready = [fd for fd, _ in self._poll.poll(max(0.0, min(pause, deadline - now)) * 1000)]
            if self._interrupt in ready:
                return False
            if ready:
                self._watch.read(timeout=0)
                written = time.monotonic()
            elif time.monotonic() >= deadline:
                return False

    def interrupt(self) -> None:
        """See ChangeSignal."""
        os.eventfd_write(self._interrupt, 1)

    def close(self) -> None:
        """See ChangeSignal."""
        self._watch.close()
        os.close(self._interrupt)
