"""What a process does when it is told to stop (SIGTERM, or SIGINT from Ctrl-C)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_stop(ask: Callable[[], None]) -> None:
    """For a process of ours: the first signal calls `ask()`, the second one leaves at once. Main thread only."""
    seen: list[int] = []

    def handle(number: int, _: object) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        # From a thread: the main thread may be inside the very Event that `ask` sets, holding its lock.
        threading.Thread(target=ask, daemon=True).start()

    for number in STOP_SIGNALS:
        signal.signal(number, handle)


def before_stop(ask: Callable[[], None]) -> None:
    """For a process of somebody else's, here the web server's: call `ask()`, then do what was installed before.

    Only the main thread may install handlers; from another one this does nothing.
    """
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            _chain(number, ask)


def _chain(number: signal.Signals, ask: Callable[[], None]) -> None:
    previous = signal.getsignal(number)

    def handle(received: int, frame: Any) -> None:
        threading.Thread(target=ask, daemon=True).start()
        if callable(previous):
            previous(received, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(received, signal.SIG_DFL)
            os.kill(os.getpid(), received)

    signal.signal(number, handle)
