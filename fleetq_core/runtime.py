"""The one queue of a dashboard process, and the one pod beside it where FLEET_Q_ROLE wants one.

Streamlit throws watched modules away when their source changes, and clears its caches at any visitor's wish; so what
must exist once for each process is kept in a module without a file, which neither reaches.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import types
from typing import Any

from .config import Config, load_config
from .connect import connect
from .pod import Pod
from .queue import Queue
from .signals import before_stop
from .store.metered import meter_of
from .tasks import TaskRegistry, default_registry, load_handlers

log = logging.getLogger(__name__)

_KEY = "_fleetq_process_state"


class Runtime:
    """A queue for the screens, and a pod beside it; `pod` is None in the roles dashboard and viewer."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.queue: Queue = connect(config)
        self.meter = meter_of(self.queue.store)
        self.pod = Pod(self.queue, config) if config.role.runs_pod else None
        self.tasks: TaskRegistry = default_registry
        self.cache: dict[str, Any] = {}  # what the screens share, e.g. the snapshot
        self.lock = threading.RLock()

    def start(self) -> None:
        """Start the pod, or without one just get to know the tasks."""
        if self.pod is not None:
            self.pod.start()
            return
        load_handlers(self.config.handlers)
        for line in self.config.warnings():
            log.warning("%s", line)
        log.info("this process runs no pod (FLEET_Q_ROLE=%s); store %s", self.config.role.value, self.config.store)

    def stop(self) -> None:
        """Stop the pod gracefully, then close the queue. Idempotent."""
        if self.pod is not None:
            self.pod.stop()
        self.queue.close()

    def poke(self) -> None:
        """Let the pod, if there is one, hear of an order at once; other pods hear it with their next heartbeat."""
        if self.pod is not None:
            self.pod.poke()

    @property
    def failure(self) -> str | None:
        """Why the pod has stopped by itself, if it has."""
        return str(self.pod.failure) if self.pod is not None and self.pod.failure else None


def get_runtime() -> Runtime:
    """The runtime of this process, started on first use."""
    state = _state()
    with state.lock:
        if state.pid != os.getpid():  # a forked child has no threads: the parent's runtime is not its own
            state.runtime, state.pid = None, os.getpid()
        if state.runtime is None:
            runtime = Runtime(load_config())
            runtime.start()
            state.runtime = runtime
            atexit.register(shutdown)
        runtime_now: Runtime = state.runtime
        return runtime_now


def shutdown() -> None:
    """Stop this process's runtime, if there is one."""
    state = _state()
    with state.lock:
        runtime, state.runtime = state.runtime, None
    if runtime is not None and state.pid == os.getpid():
        runtime.stop()


def stop_claiming_on_signals() -> None:
    """Make the pod stop claiming at the signal, and not only when the server has closed.

    The web server first waits for its open requests, without limit; only then does it let us stop.
    """

    def ask() -> None:
        runtime = _state().runtime
        if runtime is not None and runtime.pod is not None:
            runtime.pod.request_stop()

    before_stop(ask)


def _state() -> Any:
    module = sys.modules.get(_KEY)
    if module is None:
        fresh = types.ModuleType(_KEY)
        fresh.__dict__.update(lock=threading.RLock(), runtime=None, pid=os.getpid())
        module = sys.modules.setdefault(_KEY, fresh)  # atomic: whoever comes second gets the first one's
    return module
