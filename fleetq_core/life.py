"""A headless pod's sign of life: a file on this machine, so that whoever supervises the pod need not ask the store.

It says that the pod's process is there and that none of its loops hangs in a turn. It says nothing of the store: a
supervisor that killed pods because the store is away would kill the steps they run, and help nobody.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

EVERY_S = 5.0
STUCK_S = 300.0  # longer than a statement may take with its time limit, its waits for locks and its repeats


class LifeSign:
    """The file of one pod below `data_dir`. Only the machine's own monotonic clock is in it: nobody can set that."""

    def __init__(self, data_dir: Path, pod_id: str) -> None:
        self._path = _folder(data_dir) / pod_id
        self._complained = ""

    def give(self, stuck: Sequence[str] = ()) -> None:
        """Write a new sign, unless some loop is stuck. A disk that does not take it is logged once."""
        if stuck:
            self._complain(f"no sign of life: stuck for more than {STUCK_S:g} s in a turn of {', '.join(stuck)}")
            return
        sign = {"host": socket.gethostname(), "monotonic": time.monotonic()}
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(sign), encoding="utf-8")
            draft.replace(self._path)
        except OSError as exc:
            self._complain(f"no sign of life: {self._path}: {exc.strerror}")
        else:
            self._complained = ""

    def end(self) -> None:
        """The pod is gone, and so is its sign."""
        self._path.unlink(missing_ok=True)

    def _complain(self, line: str) -> None:
        if line != self._complained:
            log.error("%s", line)
        self._complained = line


def age_of(data_dir: Path, pod_id: str | None) -> float | None:
    """Seconds since the last sign of `pod_id`, or without a name of any pod of this host; None where there is none.

    A sign from before the machine's last start counts for nothing.
    """
    names = [pod_id] if pod_id else sorted(path.name for path in _folder(data_dir).glob("[!.]*"))
    ages = [age for name in names if (age := _age(_folder(data_dir) / name)) is not None]
    return min(ages, default=None)


def _age(path: Path) -> float | None:
    try:
        sign = json.loads(path.read_text(encoding="utf-8"))
        age = time.monotonic() - float(sign["monotonic"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return age if age >= 0 and sign.get("host") == socket.gethostname() else None


def _folder(data_dir: Path) -> Path:
    return data_dir / "alive"
