"""`/metrics`: what it tells, what a scrape costs the store, and that dashboards, alerts and docs name what there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from fleetq_core import metrics
from fleetq_core.errors import StoreUnavailable
from fleetq_core.model import DecisionFilter, Identity, Outcome, Status, StepRow
from fleetq_core.queue import Queue
from fleetq_core.runtime import Runtime
from fleetq_core.store.metered import KINDS, metered
from fleetq_core.store.protocol import LeaderStore, PodStore, StepStore, Store
from fleetq_core.store.tally import BOUNDS_S, StoreMeter
from tests.doors.conftest import Api, quiet_config, variant
from tests.support.stores import FaultyStore
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
THROTTLE = {
    "max_inflight": 15, "current_inflight": 8, "available_capacity": 7, "total_requests": 1000,
    "total_successes": 950, "total_throttles": 50, "throttle_rate": 0.05, "current_p95_latency": 0.45,
    "baseline_latency": 0.3, "waiting": 2, "total_timeouts": 1, "fleet_limit": 40,
}  # fmt: skip
ApiOf = Callable[[Runtime], Api]


@pytest.fixture
def alone(tmp_path: Path, api_of: ApiOf, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A dashboard of its own, whose scrapes share nothing."""
    monkeypatch.setattr(metrics, "TTL_S", 0.0)
    runtime = Runtime(quiet_config(tmp_path, dead_pod_threshold=3600))
    runtime.start()
    yield api_of(runtime)
    runtime.stop()


def figures(api: Api, **options: Any) -> dict[str, float]:
    """What a scrape reads: `name{label=value,…}` → figure."""
    answer = api("GET", "/metrics", **options)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, float] = {}
    for family in parse(answer.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert key not in found, key
            found[key] = sample.value
    return found


def publish(api: Api, pod_id: str, meta: dict[str, Any]) -> None:
    api.runtime.queue.store.register_pod(Identity(pod_id, f"i-{pod_id}"), meta)


def test_the_queue_and_the_pod_of_this_process(alone: Api) -> None:
    steps = [alone.submit(payload={"task_type": "echo"}) for _ in range(3)]
    eventually(lambda: alone("GET", "/admin/queue").json()["completed"] == len(steps))
    alone.runtime.queue.store.insert_steps([StepRow("waits", "nobody", '{"task_type": "nobody"}', 0, 0)])
    alone.runtime.queue.cancel_steps(["waits"], by="test")
    alone.runtime.pod.poke()
    found = eventually(
        lambda: (f := figures(alone))["fleetq_outcomes_total{outcome=completed,pod=pod-here}"] >= 3 and f
    )
    assert found["fleetq_store_up"] == 1
    assert {status: found[f"fleetq_steps{{status={status}}}"] for status in Status} == {
        "pending": 0, "claimed": 0, "completed": 3, "failed": 1,
    }  # fmt: skip
    assert (found["fleetq_dead_letters"], found["fleetq_oldest_pending_age_seconds"]) == (1, 0)
    assert found["fleetq_claims_total{pod=pod-here}"] >= 3
    assert found["fleetq_pods_alive"] == found["fleetq_pod_leader{pod=pod-here}"] == 1
    assert found["fleetq_pod_capacity{pod=pod-here}"] == alone.runtime.config.capacity
    assert found["fleetq_retries_total{cause=failed,pod=pod-here}"] == 0
    for kind in ("submit", "claim", "settle", "beat", "dashboard"):
        assert found[f"fleetq_store_statement_seconds_count{{kind={kind}}}"] > 0, kind
    assert found["process_resident_memory_bytes"] > 0


def test_the_oldest_pending_step_has_an_age(alone: Api) -> None:
    app = alone.runtime
    app.pod.stop()
    app.queue.store.insert_steps([StepRow("old", "nobody", '{"task_type": "nobody"}', 0, 0)])
    assert 0 < eventually(lambda: figures(alone)["fleetq_oldest_pending_age_seconds"]) < 60
    found = figures(alone)
    assert (found["fleetq_pods_alive"], "fleetq_pod_leader{pod=pod-here}" in found) == (0, False)


def test_what_other_pods_publish(alone: Api) -> None:
    recovered = {"failed": {"requeued": 4, "terminal": 1}, "orphan": {"requeued": 2, "terminal": 0}}
    publish(
        alone,
        "pod-2",
        {
            "claimed": 7,
            "stale_refused": 2,
            "version": "9.9",
            "recovered": recovered,
            "throttles": {"bedrock": THROTTLE},
        },
    )
    publish(alone, "pod-3", {"throttles": {"bedrock": THROTTLE | {"fleet_limit": 30}}})
    publish(alone, "pod-4", {"claimed": 1})
    alone.runtime.queue.store.mark_down(Identity("pod-4", "i-pod-4"))
    found = figures(alone)
    assert found["fleetq_claims_total{pod=pod-2}"] == 7
    assert found["fleetq_stale_completions_refused_total{pod=pod-2}"] == 2
    assert found["fleetq_retries_total{cause=failed,pod=pod-2}"] == 4
    assert found["fleetq_recovery_ends_total{cause=failed,pod=pod-2}"] == 1
    assert found["fleetq_pod_info{pod=pod-2,version=9.9}"] == 1
    assert (found["fleetq_pod_leader{pod=pod-2}"], found["fleetq_pods_alive"]) == (0, 3)
    assert found["fleetq_throttle_limit{pod=pod-3,throttle=bedrock}"] == 15
    assert found["fleetq_throttle_in_flight{pod=pod-2,throttle=bedrock}"] == 8
    assert found["fleetq_throttle_refused_total{pod=pod-2,throttle=bedrock}"] == 50
    assert found["fleetq_throttle_fleet_limit{throttle=bedrock}"] == 40
    assert not [key for key in found if "pod-4" in key]
    assert "fleetq_claims_total{pod=pod-3}" not in found  # it does not say, so there is no figure


def test_nonsense_in_what_a_pod_publishes_ends_no_scrape(alone: Api) -> None:
    odd = {
        "claimed": "many", "failed": True, "completed": float("nan"), "running_count": 10**400, "stuck": None,
        "version": ["\ud800"], "recovered": [1], "throttles": {"\ud800\n\"": THROTTLE, "x": 4, "é" * 900: THROTTLE, "é" * 901: THROTTLE},
    }  # fmt: skip
    publish(alone, "pod-2", odd)
    publish(alone, "pod-3", {"throttles": "none", "recovered": {"failed": 3}})
    found = figures(alone)
    assert {key for key in found if key.startswith("fleetq_pod_info{pod=pod-2")}
    for name in ("claims", "pod_running", "pod_stuck"):
        assert f"fleetq_{name}_total{{pod=pod-2}}" not in found
    assert "fleetq_outcomes_total{outcome=completed,pod=pod-2}" not in found


def test_labels_are_bounded(alone: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MAX_PODS", 3)
    monkeypatch.setattr(metrics, "MAX_THROTTLES", 2)
    for number in range(5):
        publish(alone, f"pod-{number}", {"throttles": {f"t{n}": THROTTLE for n in range(9)}})
    found = figures(alone)
    assert found["fleetq_pods_alive"] == 6
    assert sum(key.startswith("fleetq_pod_leader") for key in found) == 3
    assert sum(key.startswith("fleetq_throttle_limit{pod=pod-0,") for key in found) == 2


def test_openmetrics_for_who_accepts_it(alone: Api) -> None:
    answer = alone("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0,*/*;q=0.1"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "fleetq_steps" in {family.name for family in parse_openmetrics(answer.text)}


def test_twenty_scrapes_cost_the_store_what_one_costs(
    running: Runtime, api_of: ApiOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "TTL_S", 3600.0)
    calls: Counter[str] = Counter()
    counting = FaultyStore(
        running.queue.store, before=lambda name: calls.update([name]) or False, after=lambda _: False
    )
    api = api_of(variant(running, queue=Queue(counting, running.config)))
    for _ in range(20):
        assert figures(api)["fleetq_store_up"] == 1
    assert calls == {"stats": 1, "list_pods": 1}


def test_scrapes_of_a_fleet_at_rest_only_look(running: Runtime, api_of: ApiOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "TTL_S", 0.0)
    store, calls = running.queue.store, Counter[str]()
    counting = FaultyStore(store, before=lambda name: calls.update([name]) or False, after=lambda _: False)
    api = api_of(variant(running, queue=Queue(counting, running.config)))
    running.pod.stop()
    me = Identity("rests", "i")
    store.register_pod(me, {"state": "resting"})
    store.mark_down(me)
    for _ in range(3):
        found = figures(api)
        assert (found["fleetq_pods_alive"], found["fleetq_pods_resting"]) == (0, 1)
    calls.clear()
    figures(api)
    assert calls == {"idle_look": 1}
    for count in (1, 2, 3):
        store.insert_steps([StepRow(f"new-{count}", "nobody", '{"task_type": "nobody"}', 0, 0)])
        assert figures(api)["fleetq_steps{status=pending}"] == count
    store.beat(me, {"state": "running"}, 60.0)
    assert figures(api)["fleetq_pods_alive"] == 1


def test_with_the_store_away_the_process_still_tells_of_itself(running: Runtime, api_of: ApiOf) -> None:
    away = FaultyStore(running.queue.store, before=lambda _: True, after=lambda _: False)
    found = figures(api_of(variant(running, queue=Queue(away, running.config))))
    assert found["fleetq_store_up"] == 0
    assert not [key for key in found if key.startswith(("fleetq_steps", "fleetq_pod"))]
    assert found["fleetq_store_statement_seconds_count{kind=beat}"] > 0


def test_the_leader_counts_what_it_gave_another_attempt(tmp_path: Path) -> None:
    app = Runtime(quiet_config(tmp_path, retry_base_delay=0.001, recovery_interval=3600))
    app.start()
    try:
        store, who = app.queue.store, Identity("client", "i", may_lead=False)
        store.register_pod(who, {})
        store.insert_steps([StepRow("s", "nobody", '{"task_type": "nobody"}', 0, 3)])
        app.pod._paused = True
        (claim,) = eventually(lambda: store.claim_steps(who, "token", 1, 60.0) or None)
        store.settle_steps([Outcome("s", claim.claim_token, Status.FAILED, 0.1, error="x", retry_delay_s=0.0)], 3)
        eventually(lambda: app.pod.recovery.run_now().retried or app.pod.meta()["recovered"]["failed"]["requeued"])
        assert app.pod.meta()["recovered"]["failed"] == {"requeued": 1, "terminal": 0}
        assert isinstance(store.find_decisions(DecisionFilter(), 1), list)
    finally:
        app.stop()


# -- the meter --------------------------------------------------------------------------------------------------------


def test_every_call_of_a_store_has_a_kind() -> None:
    named = [name for names in KINDS.values() for name in names]
    calls = {name for part in (StepStore, PodStore, LeaderStore) for name in vars(part) if not name.startswith("_")}
    assert sorted(named) == sorted(calls)
    assert {name for name in vars(Store) if not name.startswith("_")} == {
        "create_schema", "now", "change_signal", "reopen", "close",
    }  # fmt: skip


class AnyStore:
    """Stands for a store: each call is taken, and `beat` fails."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*_: object) -> None:
            if name == "beat":
                raise StoreUnavailable("away")

        return call

    def reopen(self, role: str = "") -> AnyStore:
        return self


def test_calls_are_counted_by_kind_with_their_time_and_their_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.003, 10.0, 10.04, 20.0, 99.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    meter = StoreMeter(KINDS)
    store = metered(AnyStore(), meter)  # type: ignore[arg-type]
    store.stats()
    store.reopen().list_pods()
    with pytest.raises(StoreUnavailable):
        store.beat(Identity("p", "i"), {}, 1.0)
    read = meter.read()
    reads = read["dashboard"]
    assert reads.cumulative[-1] == 2
    assert reads.cumulative[BOUNDS_S.index(0.0025)] == 0
    assert reads.cumulative[BOUNDS_S.index(0.005)] == 1
    assert reads.cumulative[BOUNDS_S.index(0.05)] == 2
    assert reads.sum_s == pytest.approx(0.043)
    assert (read["beat"].errors, read["beat"].cumulative[-1], read["beat"].cumulative[-2]) == (1, 1, 0)
    assert read["claim"].cumulative[-1] == 0


def test_a_headless_pod_does_not_load_prometheus() -> None:
    code = "import sys, fleetq_core.cli, fleetq_core.pod, fleetq_core.runtime; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0


# -- what names the metrics -------------------------------------------------------------------------------------------


@pytest.fixture
def served(alone: Api) -> set[str]:
    """Every name that a query can use, and that a scrape of a busy fleet brings."""
    publish(alone, "pod-2", {"throttles": {"bedrock": THROTTLE}})
    return {key.partition("{")[0] for key in figures(alone)}


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\b(?:fleetq|process)_[a-z0-9_]+", text))


def test_the_grafana_dashboard_asks_for_what_there_is(served: set[str]) -> None:
    board = json.loads((ROOT / "deploy/grafana/fleetq-dashboard.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    asked = {name for query in queries for name in names_in(query)}
    assert asked - served == set()
    assert len(asked) >= 20
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"], panel["title"]


def test_the_alerts_ask_for_what_there_is(served: set[str]) -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/fleetq-alerts.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len({alert["alert"] for alert in alerts}) == len(alerts) >= 8
    told = (ROOT / "docs/metrics.md").read_text()
    for alert in alerts:
        assert alert["alert"] in told
        assert names_in(alert["expr"]), alert
        assert names_in(alert["expr"]) - served == set(), alert
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"].keys() == {"summary", "description"}


def test_the_documentation_tells_every_metric_and_no_other(served: set[str]) -> None:
    told = names_in("\n".join(re.findall(r"^\| `(\w+)", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)))
    ours = {name for name in served if name.startswith("fleetq_")}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) if "statement_seconds" in name else name for name in ours}
    assert told == families
