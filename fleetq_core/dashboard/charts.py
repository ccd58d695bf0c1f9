"""The charts. Each spec is a constant: only the data changes with a tick, so the browser keeps the chart in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from fleetq_core.model import Status

from .colours import AMBER, GREY, SERIES_COLOURS, STATUS_COLOURS
from .views.overview import Point
from .views.words import clock, day_and_hour

CHART_HEIGHT = 260
HOUR_S, DAY_S = 3600.0, 86_400.0


def depth(points: Sequence[Point], seconds: float) -> None:
    """Steps by status over the last `seconds`."""
    _draw_range(points, _DEPTH, seconds, "Steps that are pending, claimed or failed, over time")


def throughput(points: Sequence[Point], seconds: float) -> None:
    """Steps submitted, completed and failed each second, over the last `seconds`."""
    _draw_range(points, _THROUGHPUT, seconds, "Steps submitted, completed and failed a second, over time")


def waits(points: Sequence[Point], seconds: float) -> None:
    """Percentiles of the time from submit to claim, over the last `seconds`."""
    _draw_range(points, _PERCENTILES, seconds, "Percentiles of the time that steps waited, over time")


def runs(points: Sequence[Point], seconds: float) -> None:
    """Percentiles of the time in handlers, over the last `seconds`."""
    _draw_range(points, _PERCENTILES, seconds, "Percentiles of the time that steps ran, over time")


def throttle_limit(points: Sequence[Point]) -> None:
    """A throttle's limit and what is in flight, over time."""
    shared = any(series == "fleet limit" for _, series, _ in points)
    _draw(points, _FLEET_LIMIT if shared else _LIMIT, "The limit of a throttle and the calls in flight, over time")


def throttle_shares(points: Sequence[Point]) -> None:
    """The limit of each pod, stacked."""
    _draw(points, _SHARES, "The limit of a throttle on each pod, stacked, over time")


def throttle_latency(points: Sequence[Point]) -> None:
    """Latency against its usual value, over time."""
    _draw(points, _LATENCY, "Latency p95 of a throttle's calls and its usual value, over time")


def throttle_refusals(points: Sequence[Point]) -> None:
    """Calls refused or timed out a minute, over time."""
    _draw(points, _REFUSALS, "Calls refused and timed out a minute, over time")


def _draw_range(points: Sequence[Point], spec: dict[str, Any], seconds: float, alt: str) -> None:
    """With an axis that suits the range: a chart whose spec changes is drawn anew, so there are few."""
    if seconds <= HOUR_S:
        _draw(points, spec, alt)
    elif seconds <= DAY_S:
        _draw(points, _with_axis(spec, "%H:%M", 6), alt, day_and_hour)
    else:
        _draw(points, _with_axis(spec, "%a %d %b", "day"), alt, day_and_hour)


def _draw(points: Sequence[Point], spec: dict[str, Any], alt: str, written: Callable[[float], str] = clock) -> None:
    frame = pd.DataFrame(points, columns=["ts", "series", "value"])
    frame["time"] = pd.to_datetime(frame["ts"].astype("float64") * 1000, unit="ms", utc=True).astype(
        "datetime64[ms, UTC]"
    )
    # Vega prints the times of tooltips in the viewer's zone; this column is UTC like everything else.
    frame["at"] = [written(ts) for ts, _, _ in points]
    st.vega_lite_chart(frame.drop(columns="ts"), spec, width="stretch", height=CHART_HEIGHT, alt=alt)


def _spec(title: str, colours: dict[str, str]) -> dict[str, Any]:
    return {
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.8, "clip": True},
        "encoding": {
            "x": {
                "field": "time",
                "type": "temporal",
                "title": None,
                # Viewers in several places compare what they see: everything on screen is UTC.
                "scale": {"type": "utc"},
                "axis": {"format": "%H:%M:%S", "tickCount": 5, "labelFlush": True, "grid": False},
            },
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": title,
                "scale": {"zero": True, "nice": True, "domainMin": 0},
                "axis": {"domain": False, "tickCount": 5, "minExtent": 36, "format": ",.3~f"},
            },
            "color": {
                "field": "series",
                "type": "nominal",
                "title": None,
                "scale": {"domain": list(colours), "range": list(colours.values())},
                "legend": {"orient": "top"},
            },
            "tooltip": [
                {"field": "at", "type": "nominal", "title": "Time (UTC)"},
                {"field": "series", "type": "nominal", "title": "Series"},
                {"field": "value", "type": "quantitative", "title": title},
            ],
        },
    }


def _with_axis(spec: dict[str, Any], format_: str, ticks: int | str) -> dict[str, Any]:
    """`spec` with other times on its axis."""
    encoding = spec["encoding"]
    x = encoding["x"] | {"axis": encoding["x"]["axis"] | {"format": format_, "tickCount": ticks}}
    return spec | {"encoding": encoding | {"x": x}}


def _limits(colours: dict[str, str]) -> dict[str, Any]:
    """Calls under way reach their limit and hide it: the limit is a broad, pale line behind them."""
    spec = _spec("Calls", colours)
    is_limit = f"datum.series === '{next(iter(colours))}'"
    spec["encoding"]["strokeWidth"] = {"condition": {"test": is_limit, "value": 6}, "value": 1.8}
    spec["encoding"]["strokeOpacity"] = {"condition": {"test": is_limit, "value": 0.5}, "value": 1.0}
    return spec


def _stacked(title: str) -> dict[str, Any]:
    """Areas on each other, for series whose names only the data know."""
    spec = _spec(title, {})
    spec["mark"] = {"type": "area", "interpolate": "step-after", "opacity": 0.8, "clip": True}
    spec["encoding"]["color"]["scale"] = {"range": list(SERIES_COLOURS)}
    spec["encoding"]["y"]["stack"] = "zero"
    return spec


_DEPTH = _spec("Steps", {name: colour for name, colour in STATUS_COLOURS.items() if name != Status.COMPLETED})
_WORK = {
    "submitted": STATUS_COLOURS[Status.PENDING],
    "completed": STATUS_COLOURS[Status.COMPLETED],
    "failed": STATUS_COLOURS[Status.FAILED],
}
_THROUGHPUT = _spec("Steps a second", _WORK)
_PERCENTILES = _spec(
    "Seconds", {"p50": STATUS_COLOURS[Status.COMPLETED], "p95": AMBER, "p99": STATUS_COLOURS[Status.FAILED]}
)
_LIMIT = _limits({"limit": STATUS_COLOURS[Status.PENDING], "in flight": STATUS_COLOURS[Status.CLAIMED]})
_FLEET_LIMIT = _limits(
    {
        "fleet limit": STATUS_COLOURS[Status.PENDING],
        "shares of pods": GREY,
        "in flight": STATUS_COLOURS[Status.CLAIMED],
    }
)
_LATENCY = _spec("Seconds", {"p95": STATUS_COLOURS[Status.CLAIMED], "usual p95": GREY})
_REFUSALS = _spec("Calls a minute", {"refused": STATUS_COLOURS[Status.FAILED], "timed out": AMBER})
_SHARES = _stacked("Calls")
