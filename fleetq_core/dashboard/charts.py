"""The charts. Each spec is a constant: only the data changes with a tick, so the browser keeps the chart in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from fleetq_core.model import Status

from .colours import STATUS_COLOURS
from .views.overview import Point
from .views.words import clock

CHART_HEIGHT = 260


def depth(points: Sequence[Point]) -> None:
    """Steps by status over time."""
    _draw(points, _DEPTH, "Steps that are pending, claimed or failed, over time")


def throughput(points: Sequence[Point]) -> None:
    """Steps submitted, completed and failed each second, over time."""
    _draw(points, _THROUGHPUT, "Steps submitted, completed and failed a second, over time")


def _draw(points: Sequence[Point], spec: dict[str, Any], alt: str) -> None:
    frame = pd.DataFrame(points, columns=["ts", "series", "value"])
    frame["time"] = pd.to_datetime(frame["ts"].astype("float64") * 1000, unit="ms", utc=True).astype(
        "datetime64[ms, UTC]"
    )
    # Vega prints the times of tooltips in the viewer's zone; this column is UTC like everything else.
    frame["at"] = [clock(ts) for ts, _, _ in points]
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
                "axis": {"domain": False, "tickCount": 5, "minExtent": 36},
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


_DEPTH = _spec("Steps", {name: colour for name, colour in STATUS_COLOURS.items() if name != Status.COMPLETED})
_THROUGHPUT = _spec(
    "Steps a second",
    {
        "submitted": STATUS_COLOURS[Status.PENDING],
        "completed": STATUS_COLOURS[Status.COMPLETED],
        "failed": STATUS_COLOURS[Status.FAILED],
    },
)
