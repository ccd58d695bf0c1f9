"""Moments and stretches of time that people ask for."""

from __future__ import annotations

from datetime import UTC, datetime

from fleetq_core.errors import InvalidPayload

LATELY = {"15 min": 900.0, "1 h": 3600.0, "24 h": 86_400.0, "7 d": 604_800.0}
BETWEEN = "between"
EXAMPLE = "2026-01-17 12:30"
STEP_S = 10.0


def since(lately: str, now_ts: float) -> float:
    """Where a stretch of LATELY begins that ends now, to the next STEP_S before."""
    return (now_ts - LATELY[lately]) // STEP_S * STEP_S


def moment(name: str, text: str | None) -> float | None:
    """A date, or date and time, as seconds since the epoch; without a zone it is UTC. None where nothing was given.

    Raises InvalidPayload, which names what was asked for.
    """
    text = (text or "").strip()
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as exc:
        raise InvalidPayload(name, f"is {text!r}; it must be like {EXAMPLE}, or a date alone") from exc
