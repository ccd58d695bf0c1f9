"""A pod that is killed in the middle of its first recovery that moves something: after the steps, before the record."""

from __future__ import annotations

import os
import signal
from typing import Any

from fleetq_core.cli import main
from fleetq_core.leader.recovery import Recovery

original = Recovery._summary


def die(self: Recovery, run_id: str, trigger: str, done: Any, *args: Any) -> Any:
    if done.decisions:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, run_id, trigger, done, *args)


Recovery._summary = die  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
