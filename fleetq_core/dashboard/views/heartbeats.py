"""How each pod beat over time: alive, late, dead or gone, as the leader saw it in its samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.model import BEATS_MISSED, PodRecord, PodSample, RecoveryRun

from . import pods
from .leaders import MISSED
from .words import duration

MOST_PODS = 30
CELLS = 60  # of a strip: a bar ends there at the latest, so that its figures say something about its time
STATES = ("alive", "late", "died", "gone")


@dataclass(frozen=True, slots=True)
class Bar:
    """One pod in one state, from `start_ts` until `end_ts`."""

    pod: str
    state: str
    start_ts: float
    end_ts: float
    note: str


@dataclass(frozen=True, slots=True)
class Strip:
    """The bars of the pods in `pods`, the most troubled pod first; `more` pods are left out."""

    pods: tuple[str, ...]
    bars: tuple[Bar, ...]
    more: int


def strip(samples: Iterable[PodSample], since_ts: float, spacing_s: float, snap: Snapshot, heartbeat_s: float) -> Strip:
    """The strip from `since_ts` until now. `heartbeat_s` holds for pods that have not published their own."""
    by_pod: dict[str, list[PodSample]] = defaultdict(list)
    moments: dict[float, None] = {}
    for sample in samples:
        by_pod[sample.pod_id].append(sample)
        moments[sample.sampled_ts] = None
    spans = _spans(list(moments), spacing_s, snap.now_ts)
    records = {pod.pod_id: pod for pod in snap.pods}
    names = sorted(by_pod, key=lambda name: _trouble(by_pod[name], records.get(name), snap))
    width_s = (snap.now_ts - since_ts) / CELLS
    bars = []
    for name in names[:MOST_PODS]:
        beat_s = pods.heartbeat_s(records[name], heartbeat_s) if name in records else heartbeat_s
        bars += _bars(_cells(name, by_pod[name], spans, beat_s, snap.runs, width_s), width_s)
    return Strip(tuple(names[:MOST_PODS]), tuple(bars), max(0, len(names) - MOST_PODS))


def _spans(moments: Sequence[float], spacing_s: float, now_ts: float) -> dict[float, float]:
    """Until when each moment counts: until the next one, but for a short while where the next one is far off."""
    return {
        at: end if at <= end <= at + MISSED * spacing_s else at + spacing_s for at, end in pairwise([*moments, now_ts])
    }


def _trouble(samples: Sequence[PodSample], record: PodRecord | None, snap: Snapshot) -> tuple[int, float, str]:
    """For sorting: those in trouble now, then those that live, then the gone, the newest of them first."""
    life = pods.life_of(record, snap) if record else "down"
    order = {"dead": 0, "late": 0, "alive": 1, "resting": 1, "down": 2}
    return order[life], -samples[-1].sampled_ts if life == "down" else 0.0, samples[0].pod_id


@dataclass(slots=True)
class _Cell:
    bar: Bar
    incarnation: str
    running: list[int]
    capacity: int
    silent_s: float


def _cells(
    name: str,
    samples: Sequence[PodSample],
    spans: Mapping[float, float],
    beat_s: float,
    runs: Sequence[RecoveryRun],
    width_s: float,
) -> list[_Cell]:
    """A cell for each sample from the pod's first one on; before that it had not started."""
    seen = {sample.sampled_ts: sample for sample in samples}
    cells: list[_Cell] = []
    incarnation, died_ts = "", None
    for start_ts, end_ts in spans.items():
        sample = seen.get(start_ts)
        if sample is not None:
            late = sample.silent_s > BEATS_MISSED * beat_s
            incarnation, died_ts = sample.incarnation, None
            bar = Bar(name, "late" if late else "alive", start_ts, end_ts, "")
            cells.append(_Cell(bar, incarnation, [sample.running], sample.capacity, sample.silent_s))
        elif cells:
            if died_ts is None and cells[-1].running and _died(incarnation, runs):
                died_ts = start_ts
            # Its death is a mark, not a state: hours later a pod that died is merely gone.
            state = "died" if died_ts is not None and start_ts - died_ts < width_s else "gone"
            cells.append(_Cell(Bar(name, state, start_ts, end_ts, ""), incarnation, [], 0, 0.0))
    return cells


def _died(incarnation: str, runs: Sequence[RecoveryRun]) -> bool:
    return any(verdict.incarnation == incarnation for run in runs for verdict in run.verdicts)


def _bars(cells: Sequence[_Cell], width_s: float) -> list[Bar]:
    """Neighbours that are alike as one bar, with what was seen in it."""
    merged: list[_Cell] = []
    for cell in cells:
        last = merged[-1] if merged else None
        if (
            last is not None
            and (last.bar.state, last.incarnation, last.capacity) == (cell.bar.state, cell.incarnation, cell.capacity)
            and last.bar.end_ts == cell.bar.start_ts
            and cell.bar.end_ts - last.bar.start_ts <= width_s
        ):
            last.bar = Bar(last.bar.pod, last.bar.state, last.bar.start_ts, cell.bar.end_ts, "")
            last.running += cell.running
            last.silent_s = max(last.silent_s, cell.silent_s)
        else:
            merged.append(_Cell(cell.bar, cell.incarnation, list(cell.running), cell.capacity, cell.silent_s))
    return [Bar(c.bar.pod, c.bar.state, c.bar.start_ts, c.bar.end_ts, _note(c)) for c in merged]


def _note(cell: _Cell) -> str:
    if not cell.running:
        return "declared dead" if cell.bar.state == "died" else "not among the living"
    low, high = min(cell.running), max(cell.running)
    ran = f"{low}" if low == high else f"{low} to {high}"
    return f"ran {ran} of {cell.capacity}, silent for up to {duration(cell.silent_s)}"
