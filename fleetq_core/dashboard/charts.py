"""The charts. Each spec is a constant: only the data changes with a tick, so the browser keeps the chart in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa
import streamlit as st

from fleetq_core.model import Status

from .colours import AMBER, GREY, SERIES_COLOURS, STATUS_COLOURS
from .views.overview import Point
from .views.words import clock, day_and_hour

CHART_HEIGHT = 260
HOUR_S, DAY_S = 3600.0, 86_400.0


def depth(points: Sequence[Point], span: tuple[float, float]) -> None:
    """Steps by status from one time to another."""
    _draw_range(points, _DEPTH, span, "Steps that are pending, claimed or failed, over time")


def throughput(points: Sequence[Point], span: tuple[float, float]) -> None:
    """Steps submitted, completed and failed each second, from one time to another."""
    _draw_range(points, _THROUGHPUT, span, "Steps submitted, completed and failed a second, over time")


def waits(points: Sequence[Point], span: tuple[float, float]) -> None:
    """Percentiles of the time from submit to claim, from one time to another."""
    _draw_range(points, _PERCENTILES, span, "Percentiles of the time that steps waited, over time")


def runs(points: Sequence[Point], span: tuple[float, float]) -> None:
    """Percentiles of the time in handlers, from one time to another."""
    _draw_range(points, _PERCENTILES, span, "Percentiles of the time that steps ran, over time")


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


def _draw_range(points: Sequence[Point], spec: dict[str, Any], span: tuple[float, float], alt: str) -> None:
    """Over all of `span`, wherever the points begin, with times on the axis that suit its length.

    There are three specs for each curve: one that changed with the data would have the chart drawn anew.
    """
    seconds = span[1] - span[0]
    format_, ticks, written = ("%H:%M:%S", 5, clock) if seconds <= HOUR_S else ("%H:%M", 6, day_and_hour)
    if seconds > DAY_S:
        format_, ticks = "%a %d %b", 7
    edges: list[tuple[float, str | None, float | None]] = [(ts, None, None) for ts in span]
    _draw([*edges, *points], _ranged(spec, format_, ticks), alt, written)


def _draw(
    points: Sequence[tuple[float, str | None, float | None]],
    spec: dict[str, Any],
    alt: str,
    written: Callable[[float], str] = clock,
) -> None:
    st.vega_lite_chart(_drawn(tuple(points), written), spec, width="stretch", height=CHART_HEIGHT, alt=alt)


@lru_cache(maxsize=64)
def _drawn(points: tuple[tuple[float, str | None, float | None], ...], written: Callable[[float], str]) -> pa.Table:
    """What the browser gets. All viewers of a chart see the same points: they are put into this form once."""
    return pa.table({
        "series": pa.array([series for _, series, _ in points], pa.string()),
        "value": pa.array([value for _, _, value in points], pa.float64()),
        "time": utc_times(ts for ts, _, _ in points),
        # Vega prints the times of tooltips in the viewer's zone; this column is UTC like everything else.
        "at": pa.array([written(ts) for ts, _, _ in points], pa.string()),
    })  # fmt: skip


def utc_times(moments: Iterable[float]) -> pa.Array:
    """Seconds since the epoch as a column of times."""
    return pa.array([round(ts * 1000) for ts in moments], pa.timestamp("ms", "UTC"))


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


def _ranged(spec: dict[str, Any], format_: str, ticks: int) -> dict[str, Any]:
    """`spec` over the whole of a range: the rows without a series are its two ends, seen by the time axis alone."""
    encoding = dict(spec["encoding"])
    x = encoding.pop("x")
    x = x | {"axis": x["axis"] | {"format": format_, "tickCount": ticks}}
    curves = {"transform": [{"filter": "datum.series != null"}], "mark": spec["mark"], "encoding": encoding}
    ends = {"transform": [{"filter": "datum.series == null"}], "mark": {"type": "rule", "opacity": 0}}
    return {"encoding": {"x": x}, "layer": [ends, curves]}


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
