"""An error as the store keeps it: its kind and message and, where code failed that did not mean to, its traceback."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from .errors import FleetQError

MAX_CHARS = 8_000
_OURS = str(Path(__file__).parent / "worker")
_CUT = "  … (cut)\n"
_BEGINNINGS = (_CUT, "Traceback (most recent call last):\n")


def error_text(error: str | BaseException) -> str:
    """The first line says what happened; what follows an empty line is the traceback from the handler on.

    Our own errors, such as TerminalError, are raised to say something: they have no traceback.
    """
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    if isinstance(error, BaseException) and not isinstance(error, FleetQError):
        text = text[:MAX_CHARS]
        room = MAX_CHARS - len(text) - 2
        if (trace := _traceback(error)) and room > len(_CUT):
            # Its end tells where it happened.
            text += "\n\n" + (trace if len(trace) <= room else _CUT + trace[len(_CUT) - room :])
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "�")[:MAX_CHARS]


def _traceback(error: BaseException) -> str:
    found = _from_handler(error.__traceback__)
    return "".join(traceback.format_exception(type(error), error, found)).rstrip() if found else ""


def _from_handler(found: TracebackType | None) -> TracebackType | None:
    """The part of a traceback behind the last frame of our own worker."""
    frame, handler = found, found
    while frame is not None:
        if frame.tb_frame.f_code.co_filename.startswith(_OURS):
            handler = frame.tb_next
        frame = frame.tb_next
    return handler


def split(text: str) -> tuple[str, str]:
    """What happened, and the traceback or nothing, of an `error_text`."""
    begins = [at for mark in _BEGINNINGS if (at := text.find("\n\n" + mark)) >= 0]
    at = min(begins, default=len(text))
    return text[:at], text[at:].strip("\n")
