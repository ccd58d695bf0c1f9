"""Prometheus metrics: one scrape of any dashboard shows the whole fleet.

They come from one cheap look into the store, shared by all scrapes of a moment; from what living pods publish with
their heartbeats; and, for the store's latency, from this process.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from .errors import StoreError
from .leader.election import leader_of
from .model import JSON, IdleLook, PodRecord, QueueStats, living
from .queue import Queue
from .shapes import printable
from .store.tally import BOUNDS_S, StoreMeter

TTL_S = 1.0
MAX_PODS = 200
MAX_THROTTLES = 50  # of one pod
OPENMETRICS = "application/openmetrics-text"
_OPENMETRICS_TYPE = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"

_RESETS = "Counted by each pod since its process started: it begins at 0 again when the pod does."
_POD_GAUGES = (
    ("fleetq_pod_capacity", "capacity", "Handlers that the pod runs at once at most."),
    ("fleetq_pod_running", "running_count", "Handlers that run now."),
    ("fleetq_pod_buffered", "buffered", "Steps that are claimed but not started yet."),
    ("fleetq_pod_stuck", "stuck", "Handlers that ran past their time limit and have not returned."),
    ("fleetq_pod_outbox", "outbox", "Outcomes that wait on the pod's disk for the store."),
)
_POD_COUNTERS = (
    ("fleetq_claims", "claimed", "Steps claimed."),
    ("fleetq_attempts_timed_out", "timed_out", "Attempts that ran past the time limit of their task."),
    ("fleetq_stale_completions_refused", "stale_refused", "Outcomes refused because the claim was lost meanwhile."),
    ("fleetq_lost_claims_released", "unknown_released", "Claims given back because their reply was lost."),
    ("fleetq_pod_store_errors", "store_errors", "Settles that failed because the store was away."),
)
_OUTCOMES = ("completed", "failed", "deferred", "released")
_THROTTLE_GAUGES = (
    ("fleetq_throttle_limit", "max_inflight", "Calls that the throttle lets through at once."),
    ("fleetq_throttle_in_flight", "current_inflight", "Calls under way."),
    ("fleetq_throttle_waiting", "waiting", "Callers that wait for a permit."),
    ("fleetq_throttle_latency_p95_seconds", "current_p95_latency", "95th percentile of the newest calls."),
    ("fleetq_throttle_latency_baseline_seconds", "baseline_latency", "What the throttle takes for usual."),
)
_THROTTLE_COUNTERS = (
    ("fleetq_throttle_requests", "total_requests", "Calls made."),
    ("fleetq_throttle_refused", "total_throttles", "Calls that the downstream refused as too many."),
    ("fleetq_throttle_timeouts", "total_timeouts", "Callers that got no permit in time."),
)
_THROTTLE_RESETS = "Since the pod's process started, or since the throttle was reset there."


@dataclass(frozen=True, slots=True)
class _Fleet:
    stats: QueueStats
    pods: tuple[PodRecord, ...]  # those alive
    resting: int
    leader: PodRecord | None
    look: IdleLook | None  # of a fleet at rest: while it stays the same, so does all of this


class Metrics(Collector):
    """The metrics of one queue as this process sees it."""

    def __init__(self, queue: Queue, meter: StoreMeter | None) -> None:
        self.queue, self._meter = queue, meter
        self._lock = threading.Lock()
        self._fleet: _Fleet | None = None
        self._read_at = -math.inf
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text for a scraper that accepts `accept`, and its content type."""
        if OPENMETRICS in accept:
            text: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return text, _OPENMETRICS_TYPE
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def _shared_fleet(self) -> _Fleet | None:
        """The fleet as of at most TTL_S seconds ago; None while the store is away."""
        with self._lock:
            if time.monotonic() - self._read_at >= TTL_S:
                try:
                    self._fleet = self._read_fleet()
                except StoreError:
                    self._fleet = None  # old figures would look like a fleet that is well
                self._read_at = time.monotonic()
            return self._fleet

    def _read_fleet(self) -> _Fleet:
        store, threshold_s = self.queue.store, self.queue.config.dead_pod_threshold
        last = self._fleet
        rested = last is not None and last.resting > 0 and not last.pods
        # A scrape must not keep the warehouse of a sleeping fleet awake. The look comes first: what happens after it
        # makes the next one differ.
        look = store.idle_look() if rested else None
        if last is not None and look is not None and not look.open_steps and look == last.look:
            return last
        stats, pods = store.stats(), store.list_pods()
        alive, resting = living(pods, stats.now_ts, threshold_s), sum(pod.rests for pod in pods)
        return _Fleet(stats, tuple(alive), resting, leader_of(alive, stats.now_ts, threshold_s), look)

    def collect(self) -> Iterator[Metric]:
        """All families, for prometheus_client to write down."""
        fleet = self._shared_fleet()
        up = fleet is not None
        yield GaugeMetricFamily("fleetq_store_up", "Whether the store answered this process (1) or not (0).", int(up))
        own = int(self.queue.config.role.runs_pod)
        yield GaugeMetricFamily("fleetq_process_pod", "Whether this process runs a pod (1) or not (0).", own)
        if fleet is not None:
            yield from _steps(fleet.stats)
            yield from _pods(fleet)
            yield from _throttles(fleet)
        if self._meter is not None:
            yield from _statements(self._meter)


def _steps(stats: QueueStats) -> Iterator[Metric]:
    steps = GaugeMetricFamily("fleetq_steps", "Steps in the store by status.", labels=["status"])
    for status, count in stats.by_status().items():
        steps.add_metric([status], count)
    yield steps
    oldest_s = 0.0 if stats.oldest_pending_ts is None else max(0.0, stats.now_ts - stats.oldest_pending_ts)
    yield GaugeMetricFamily("fleetq_dead_letters", "Failed steps without a retry left.", stats.dead_letters)
    yield GaugeMetricFamily("fleetq_deferred_steps", "Pending steps that are not due yet.", stats.deferred)
    yield GaugeMetricFamily(
        "fleetq_oldest_pending_age_seconds", "Age of the oldest pending step that is due; 0 if there is none.", oldest_s
    )


def _pods(fleet: _Fleet) -> Iterator[Metric]:
    pods = {_label(pod.pod_id): pod for pod in fleet.pods[:MAX_PODS]}
    yield GaugeMetricFamily("fleetq_pods_alive", "Pods heard of within the dead-pod threshold.", len(fleet.pods))
    yield GaugeMetricFamily(
        "fleetq_pods_resting", "Pods that are silent because there was nothing to do, and wake for work.", fleet.resting
    )
    info = GaugeMetricFamily("fleetq_pod_info", "1 for each living pod, with its version.", labels=["pod", "version"])
    leads = GaugeMetricFamily("fleetq_pod_leader", "1 for the pod that leads the fleet, 0 for others.", labels=["pod"])
    silent = GaugeMetricFamily(
        "fleetq_pod_heartbeat_age_seconds", "Time since the last heartbeat, by the database's clock.", labels=["pod"]
    )
    for name, pod in pods.items():
        info.add_metric([name, _label(str(pod.meta.get("version", "unknown")))], 1)
        leads.add_metric([name], int(fleet.leader is not None and pod.incarnation == fleet.leader.incarnation))
        silent.add_metric([name], max(0.0, fleet.stats.now_ts - pod.last_heartbeat_ts))
    yield from (info, leads, silent)
    metas: dict[tuple[str, ...], Mapping[str, JSON]] = {(name,): pod.meta for name, pod in pods.items()}
    for metric, key, text in _POD_GAUGES:
        yield _family(GaugeMetricFamily(metric, text, labels=["pod"]), metas, key)
    for metric, key, text in _POD_COUNTERS:
        yield _family(CounterMetricFamily(metric, f"{text} {_RESETS}", labels=["pod"]), metas, key)
    outcomes = CounterMetricFamily(
        "fleetq_outcomes", f"How claims ended. {_RESETS}", labels=["pod", "outcome"]
    )  # fmt: skip
    for outcome in _OUTCOMES:
        _family(outcomes, {(name, outcome): pod.meta for name, pod in pods.items()}, outcome)
    yield outcomes
    yield from _recovered(pods)


def _recovered(pods: Mapping[str, PodRecord]) -> Iterator[Metric]:
    """What the leader did; a pod keeps its figures when it leads no longer."""
    for metric, action, text in (
        ("fleetq_retries", "requeued", "Steps that the pod, while leading, gave another attempt."),
        ("fleetq_recovery_ends", "terminal", "Steps that the pod, while leading, ended for good."),
    ):
        family = CounterMetricFamily(metric, f"{text} {_RESETS}", labels=["pod", "cause"])
        for cause in ("failed", "orphan"):
            metas = {(name, cause): _mapping(pod.meta.get("recovered")) for name, pod in pods.items()}
            _family(family, {labels: _mapping(meta.get(cause)) for labels, meta in metas.items()}, action)
        yield family


def _throttles(fleet: _Fleet) -> Iterator[Metric]:
    figures: dict[tuple[str, ...], Mapping[str, JSON]] = {}
    limits: dict[tuple[str, ...], dict[str, float]] = {}
    for pod in fleet.pods[:MAX_PODS]:
        for name, published in sorted(_mapping(pod.meta.get("throttles")).items())[:MAX_THROTTLES]:
            figures[_label(name), _label(pod.pod_id)] = _mapping(published)
            limit = _number(_mapping(published).get("fleet_limit"))
            if limit is not None:
                known = limits.setdefault((_label(name),), {})
                known["limit"] = max(limit, known.get("limit", limit))
    labels = ["throttle", "pod"]
    for metric, key, text in _THROTTLE_GAUGES:
        yield _family(GaugeMetricFamily(metric, text, labels=labels), figures, key)
    for metric, key, text in _THROTTLE_COUNTERS:
        yield _family(CounterMetricFamily(metric, f"{text} {_THROTTLE_RESETS}", labels=labels), figures, key)
    shared = GaugeMetricFamily(
        "fleetq_throttle_fleet_limit", "Limit of all pods together, where its scope is the fleet.", labels=["throttle"]
    )
    yield _family(shared, limits, "limit")


def _statements(meter: StoreMeter) -> Iterator[Metric]:
    latency = HistogramMetricFamily(
        "fleetq_store_statement_seconds",
        "Calls of the store by this process, mostly one statement each; reads of pages and of HTTP are 'dashboard'.",
        labels=["kind"],
    )
    errors = CounterMetricFamily(
        "fleetq_store_statement_errors", "Calls of the store by this process that failed.", labels=["kind"]
    )
    bounds = [*(str(bound) for bound in BOUNDS_S), "+Inf"]
    for kind, histogram in meter.read().items():
        latency.add_metric([kind], list(zip(bounds, histogram.cumulative, strict=True)), histogram.sum_s)
        errors.add_metric([kind], histogram.errors)
    yield from (latency, errors)


def _family(
    family: GaugeMetricFamily | CounterMetricFamily, metas: Mapping[tuple[str, ...], Mapping[str, JSON]], key: str
) -> Metric:
    """`family` with the number under `key` for each set of labels; what is no number is left out."""
    for labels, meta in metas.items():
        number = _number(meta.get(key))
        if number is not None:
            family.add_metric(list(labels), number)
    return family


def _number(value: JSON) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e300 else None  # NaN is not less either


def _mapping(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, dict) else {}


def _label(text: str) -> str:
    """Names come from payloads too: one that no encoding can write would end the whole scrape."""
    return printable(text)
