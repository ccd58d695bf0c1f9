"""Random ids. Step ids also rise with time, so that steps of one bulk submit keep their order."""

from __future__ import annotations

import itertools
import re
import secrets
import threading
import time

STEP_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@/+-]{0,199}")
_lock = threading.Lock()
_last_ms = 0
_sequence = itertools.count()


def new_step_id() -> str:
    """`step-` + 12 hex digits of milliseconds + 6 of a sequence + 10 random ones: unique, and sorted by creation."""
    global _last_ms, _sequence
    with _lock:
        ms = time.time_ns() // 1_000_000  # only an ordering hint within one process: no decision rests on it
        if ms > _last_ms:
            _last_ms, _sequence = ms, itertools.count()
        return f"step-{_last_ms:012x}{next(_sequence):06x}{secrets.token_hex(5)}"


def new_token() -> str:
    """A fencing token or incarnation: 128 random bits."""
    return secrets.token_hex(16)


def new_id(kind: str) -> str:
    """`<kind>-` and 12 random hex digits, for runs and commands."""
    return f"{kind}-{secrets.token_hex(6)}"
