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
# For series that have no meaning of their own, such as pods.
SERIES_COLOURS = ("#3b82f6", "#14b8a6", "#8b5cf6", "#f59e0b", "#ec4899", "#84cc16", "#06b6d4", "#a16207", GREY)
_GOOD, _BAD, _OPEN = STATUS_COLOURS["completed"], STATUS_COLOURS["failed"], STATUS_COLOURS["pending"]

TONE_BADGES: dict[str, tuple[BadgeColour, str]] = {
    "warn": ("orange", "look"),
    "bad": ("red", "act"),
}
THROTTLE_BADGES: dict[str, BadgeColour] = {
    "paused": "red",
    "refused often": "red",
    "held": "orange",
    "at its limit": "orange",
    "learning": "blue",
    "steady": "green",
    "idle": "gray",
}
EFFECT_BADGES: dict[str, BadgeColour] = {
    "interrupted": "red",
    "held off": "orange",
    "failed for good": "red",
    "resubmitted": "blue",
    "moved nothing": "gray",
    "under way": "violet",
}
WORD_COLOURS = {
    **STATUS_COLOURS,
    "alive": _GOOD,
    "late": AMBER,
    "resting": _OPEN,
    "dead": _BAD,
    "down": GREY,
    "done": _GOOD,
    "open": _OPEN,
    "refused": _BAD,
    "partly": AMBER,
    "unheard": GREY,
    "set": _OPEN,
    "finished": _GOOD,
    "held off": AMBER,
    "interrupted": _BAD,
    "paused": _BAD,
    "refused often": _BAD,
    "held": AMBER,
    "at its limit": AMBER,
    "learning": _OPEN,
    "steady": _GOOD,
    "idle": GREY,
    "raised": _GOOD,
    "lowered": _BAD,
    "reset": GREY,
    "requeued": _OPEN,
    "terminal": _BAD,
    "leader": SERIES_COLOURS[1],
    "clock off": AMBER,
    "other version": AMBER,
    "stuck": _BAD,
    "outbox": AMBER,
    "moved nothing": GREY,
    "resubmitted": _OPEN,
    "failed for good": _BAD,
    "under way": STATUS_COLOURS["claimed"],
    "deleted": GREY,
}
