"""Charts of what was when: who led, how pods beat, what recovery did. Each spec is a constant: only data changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import streamlit as st

from .charts import utc_times
from .colours import AMBER, GREY, SERIES_COLOURS, STATUS_COLOURS
from .views.heartbeats import STATES, Strip
from .views.leaders import NO_RECORD, UNKNOWN, Reign
from .views.recovery import EFFECTS, RunPoint
from .views.words import day_and_second, duration

HOUR_S, DAY_S = 3600.0, 86_400.0
ROW_PX = 22
_AXES_PX = 112  # of the time axis and the legend
_NAMED_SHARE = 0.12  # of the range: shorter reigns have no room for a name
_BEAT_COLOURS = dict(zip(STATES, (STATUS_COLOURS["completed"], AMBER, STATUS_COLOURS["failed"], GREY), strict=True))
_EFFECT_COLOURS = dict(
    zip(EFFECTS, (STATUS_COLOURS["failed"], AMBER, "#b91c1c", STATUS_COLOURS["pending"], GREY), strict=True)
)


def pod_colours(pods: Sequence[str], kept: dict[str, str]) -> Mapping[str, str]:
    """A colour for each pod; `kept` holds those given so far, so that no pod changes its own."""
    for pod in pods:
        kept.setdefault(pod, SERIES_COLOURS[len(kept) % (len(SERIES_COLOURS) - 1)])  # the last one is grey: nobody
    return kept


def leaders(reigns: Sequence[Reign], colours: Mapping[str, str], seconds: float) -> None:
    """Who led when, over the last `seconds`."""
    rows = [
        {
            "start": reign.start_ts,
            "end": reign.end_ts,
            "colour": colours.get(reign.pod, GREY),
            "opacity": 0.9 if reign.pod else 0.25,
            "pod": reign.pod or "no leader on record",
            "name": _name(reign) if reign.end_ts - reign.start_ts > _NAMED_SHARE * seconds else "",
            "ink": "white" if reign.pod else GREY,
            "middle": (reign.start_ts + reign.end_ts) / 2,
            "note": reign.note or "–",
        }
        for reign in reigns
    ]
    _draw(rows, ("start", "end", "middle"), _axis(_LEADERS, seconds), 74, "Who led the fleet, over time")


def _name(reign: Reign) -> str:
    return reign.pod[:18] or (UNKNOWN if reign.note == NO_RECORD else "nobody")


def heartbeats(strip: Strip, since_ts: float, now_ts: float, seconds: float) -> None:
    """How each pod beat, over the last `seconds`: a row for each pod."""
    rows = [
        {"start": bar.start_ts, "end": bar.end_ts, "pod": bar.pod, "state": bar.state, "note": bar.note}
        for bar in strip.bars
    ]
    # Two bars of no length at both ends: the axis shows the whole range, whatever is in it.
    rows += [{"start": ts, "end": ts, "pod": strip.pods[0], "state": "gone", "note": ""} for ts in (since_ts, now_ts)]
    height = ROW_PX * len(strip.pods) + _AXES_PX
    _draw(rows, ("start", "end"), _axis(_HEARTBEATS, seconds), height, "How each pod beat, over time")


def recovery_runs(points: Sequence[RunPoint], since_ts: float, now_ts: float, seconds: float) -> None:
    """What recovery runs did, over the last `seconds`: a row for each kind of effect, a dot for each run."""
    rows = [
        {
            "start": point.at_ts,
            "effect": point.effect,
            "steps": point.steps,
            "size": 60 + 12 * min(point.steps, 50),
            "run": point.run_id,
            "note": point.note,
        }
        for point in points
    ]
    rows += [
        {"start": ts, "effect": EFFECTS[-1], "steps": 0, "size": 0, "run": "", "note": ""} for ts in (since_ts, now_ts)
    ]
    _draw(rows, ("start",), _axis(_RUNS, seconds), 32 * len(EFFECTS) + 40, "What recovery runs did, over time")


def _draw(rows: Sequence[Mapping[str, Any]], times: Sequence[str], spec: dict[str, Any], height: int, alt: str) -> None:
    drawn: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    # Vega prints the times of tooltips in the viewer's zone; these columns are UTC like everything else.
    drawn["from"] = [day_and_second(row["start"]) for row in rows]
    if "end" in times:
        drawn["until"] = [day_and_second(row["end"]) for row in rows]
        drawn["lasted"] = [duration(row["end"] - row["start"]) for row in rows]
    drawn |= {name: utc_times(row[name] for row in rows) for name in times}
    st.vega_lite_chart(pa.table(drawn), spec, width="stretch", height=height, alt=alt)


def _axis(spec: dict[str, Any], seconds: float) -> dict[str, Any]:
    """With times on the axis that suit the range: one of few specs, for a new spec is a new chart."""
    format_, ticks = ("%H:%M", 6) if seconds <= HOUR_S else ("%H:%M", 8) if seconds <= DAY_S else ("%a %d %b", "day")
    x = {
        "field": "start", "type": "temporal", "title": None, "scale": {"type": "utc"},
        "axis": {"format": format_, "tickCount": ticks, "labelFlush": True, "grid": True, "gridOpacity": 0.25},
    }  # fmt: skip
    return spec | {"encoding": spec["encoding"] | {"x": x}}


def _tip(*fields: tuple[str, str]) -> list[dict[str, str]]:
    return [{"field": field, "type": "nominal", "title": title} for field, title in fields]


def _lanes(field: str, domain: Sequence[str] | None = None) -> dict[str, Any]:
    """A row for each value, in the order of the data or of `domain`."""
    y: dict[str, Any] = {
        "field": field, "type": "nominal", "title": None, "sort": None,
        "axis": {"domain": False, "ticks": False, "labelLimit": 110, "minExtent": 40},
    }  # fmt: skip
    return y | ({"scale": {"domain": list(domain)}} if domain else {})


def _colour(field: str, colours: Mapping[str, str], legend: dict[str, Any] | None) -> dict[str, Any]:
    scale = {"domain": list(colours), "range": list(colours.values())}
    return {"field": field, "type": "nominal", "title": None, "scale": scale, "legend": legend}


_LEADERS: dict[str, Any] = {
    "encoding": {},
    "layer": [
        {
            "mark": {"type": "bar", "height": {"band": 1}, "cornerRadius": 2},
            "encoding": {
                "x2": {"field": "end"},
                # The data brings the colour: a pod that joins later must not move those of the others.
                "color": {"field": "colour", "type": "nominal", "scale": None},
                "opacity": {"field": "opacity", "type": "quantitative", "scale": None},
                "tooltip": _tip(("pod", "Leader"), ("from", "From (UTC)"), ("until", "Until (UTC)"),
                                ("lasted", "Lasted"), ("note", "Note")),
            },
        },
        {
            "mark": {"type": "text", "fontWeight": 600, "fontSize": 12, "limit": 130},
            "encoding": {
                "x": {"field": "middle", "type": "temporal"},
                "text": {"field": "name", "type": "nominal"},
                "color": {"field": "ink", "type": "nominal", "scale": None},
            },
        },
    ],
}  # fmt: skip
_HEARTBEATS: dict[str, Any] = {
    "mark": {"type": "bar", "height": {"band": 0.72}},
    "encoding": {
        "x2": {"field": "end"},
        "y": _lanes("pod"),
        "color": _colour("state", _BEAT_COLOURS, {"orient": "top"}),
        "opacity": {"condition": {"test": "datum.state === 'gone'", "value": 0.25}, "value": 0.9},
        "tooltip": _tip(("pod", "Pod"), ("state", "State"), ("from", "From (UTC)"), ("until", "Until (UTC)"),
                        ("note", "Note")),
    },
}  # fmt: skip
_RUNS: dict[str, Any] = {
    "mark": {"type": "circle", "opacity": 0.75},
    "encoding": {
        "y": _lanes("effect", EFFECTS),
        "color": _colour("effect", _EFFECT_COLOURS, None),
        "size": {"field": "size", "type": "quantitative", "scale": None, "legend": None},
        "tooltip": _tip(("from", "Started (UTC)"), ("effect", "What it did"), ("note", "In numbers"), ("run", "Run")),
    },
}
