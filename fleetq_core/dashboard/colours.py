"""The one colour of each status and of each word that means as much. `.streamlit/config.toml` gives badges the same."""

from __future__ import annotations

from typing import Literal

from fleetq_core.model import Status

BadgeColour = Literal["red", "orange", "blue", "green", "violet", "gray"]

# Badges take a theme colour by name; config.toml holds the shades, a test compares them with these.
STATUS_BADGES: dict[str, BadgeColour] = {
    Status.PENDING.value: "blue",
    Status.CLAIMED.value: "violet",
    Status.COMPLETED.value: "green",
    Status.FAILED.value: "red",
}
STATUS_COLOURS = {
    Status.PENDING.value: "#3b82f6",
    Status.CLAIMED.value: "#8b5cf6",
    Status.COMPLETED.value: "#10b981",
    Status.FAILED.value: "#ef4444",
}
AMBER = "#f59e0b"
GREY = "#8b95a5"
_GOOD, _BAD, _OPEN = STATUS_COLOURS["completed"], STATUS_COLOURS["failed"], STATUS_COLOURS["pending"]

TONE_BADGES: dict[str, tuple[BadgeColour, str]] = {
    "good": ("green", "ok"),
    "warn": ("orange", "look"),
    "bad": ("red", "act"),
}
WORD_COLOURS = {
    **STATUS_COLOURS,
    "alive": _GOOD,
    "late": AMBER,
    "dead": _BAD,
    "down": GREY,
    "done": _GOOD,
    "open": _OPEN,
    "refused": _BAD,
    "finished": _GOOD,
    "held off": AMBER,
    "interrupted": _BAD,
    "requeued": _OPEN,
    "terminal": _BAD,
}
