"""The Throttles screen: its read models with made-up figures, and the page over a throttle of this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from fleetq_core.dashboard import snapshot, widgets
from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.dashboard.views import overview, throttle_curves, throttle_log
from fleetq_core.dashboard.views import throttles as views
from fleetq_core.model import PodRecord, QueueStats, ThrottleChange, ThrottleSample
from fleetq_core.runtime import Runtime
from fleetq_core.throttle import AdaptiveThrottle, ThrottleConfig, get_or_create_throttle
from fleetq_core.throttle.permit import Permit
from tests.pages.conftest import Open, words
from tests.pages.test_pages import HOSTILE, SilentStore
from tests.support.waiting import eventually

NOW = 1_800_000_000.0
CALM: dict[str, Any] = {
    "max_inflight": 8, "current_inflight": 2, "waiting": 0, "total_requests": 1000, "total_throttles": 0,
    "total_timeouts": 0, "current_p95_latency": 0.2, "baseline_latency": 0.2, "slow": False, "shut_s": 0.0,
    "scope": "pod", "fleet_limit": None, "changes": [],
}  # fmt: skip


def snap(by_pod: dict[str, Any], samples: tuple[ThrottleSample, ...] = (), name: str = "api") -> Snapshot:
    pods = tuple(
        PodRecord(pod, f"inc-{pod}", "up", NOW - 900, NOW - 2, True, {"throttles": {name: figures}})
        for pod, figures in by_pod.items()
    )
    return Snapshot(NOW, QueueStats(NOW), pods, pods[0] if pods else None, (), (), 60.0, samples)


def sample(ts: float, pod: str = "p1", **figures: Any) -> ThrottleSample:
    values: dict[str, Any] = {
        "limit": 8, "in_flight": 2, "waiting": 0, "p95_s": 0.2, "baseline_s": 0.2, "requests": 900, "refused": 0,
        "timeouts": 0, "fleet_limit": None,
    }  # fmt: skip
    return ThrottleSample("api", pod, NOW + ts, **(values | figures))


def change(
    n: int, before: int | None, after: int, reason: str, times: int = 1, at: float = 0.0, pod: str = "p1"
) -> Any:
    return ThrottleChange("api", pod, f"inc-{pod}", n, NOW + at, before, after, reason, times)


@pytest.mark.parametrize(
    ("figures", "state", "why"),
    [
        ({"shut_s": 14.0, "waiting": 3}, "paused", "paused for 12 s by the downstream, 3 callers wait"),
        ({"shut_s": 1.0}, "steady", "fewer calls than the limit allows"),  # over since the heartbeat
        ({"total_throttles": 10}, "refused often", "10% of calls refused (10 of 100 in 5 min)"),
        ({"total_throttles": 4}, "steady", "fewer calls than the limit allows"),
        ({"slow": True, "current_p95_latency": 0.42}, "held", "latency is 2.1× the usual: the limit does not grow"),
        ({"current_inflight": 8}, "at its limit", "all 8 slots are taken"),
        ({"current_inflight": 8, "waiting": 1}, "at its limit", "all 8 slots are taken, 1 caller waits"),
        (
            {"max_inflight": 0, "waiting": 2},
            "at its limit",
            "this pod has no share of the fleet's limit, 2 callers wait",
        ),
        ({"baseline_latency": None}, "learning", "too few answers to know the usual latency"),
        ({"total_requests": 900, "current_inflight": 0}, "idle", "no call in the last 5 min"),
        ({}, "steady", "fewer calls than the limit allows"),
    ],
)
def test_a_throttles_state_is_said_in_words(figures: dict[str, Any], state: str, why: str) -> None:
    (line,) = views.throttle_lines(snap({"p1": CALM | figures}, (sample(-60),)))
    assert (line.state, line.why) == ([state], why)
    assert (line.pods[0].state, line.pods[0].why) == ([state], why)


def test_the_worst_throttle_comes_first_and_its_pods_too() -> None:
    busy = {
        "steady": CALM, "full": CALM | {"waiting": 1}, "shut": CALM | {"shut_s": 30}, "full2": CALM | {"waiting": 9},
    }  # fmt: skip
    pods = (PodRecord("p1", "i", "up", NOW, NOW, True, {"throttles": busy}),)
    lines = views.throttle_lines(replace(snap({}, (sample(-60),)), pods=pods))
    assert [line.throttle for line in lines][:3] == ["shut", "full2", "full"]
    assert [line.throttle for line in views.squeezed(lines)] == ["shut", "full2", "full"]
    (line,) = views.throttle_lines(snap({"calm": CALM, "hot": CALM | {"waiting": 4}}, (sample(-9, "hot"),)))
    assert [pod.pod for pod in line.pods] == ["hot", "calm"]
    assert (line.why, line.limit, line.waiting) == ("all slots are taken, 4 callers wait, on 1 of 2 pods", 16, 4)


def test_a_throttle_of_the_fleet_shows_the_fleets_limit() -> None:
    shared = CALM | {"scope": "fleet", "fleet_limit": 20}
    samples = (sample(-20, limit=15, fleet_limit=30), sample(-20, "p2", limit=15, fleet_limit=30))
    (line,) = views.throttle_lines(snap({"p1": shared, "p2": shared}, samples))
    assert (line.scope, line.limit, line.highest, line.on) == ("whole fleet", 20, 30, 2)
    assert throttle_curves.limit_points(samples, 5.0) == [
        (NOW - 20, "fleet limit", 30.0), (NOW - 20, "shares of pods", 30.0), (NOW - 20, "in flight", 4.0),
    ]  # fmt: skip


def test_totals_that_start_again_are_counted_from_nothing() -> None:
    samples = (sample(-60, requests=5000, refused=80), sample(-30, requests=10, refused=1))
    (line,) = views.throttle_lines(snap({"p1": CALM | {"total_requests": 110, "total_throttles": 3}}, samples))
    assert (line.pods[0].calls, line.pods[0].refused) == (110, 3)
    assert throttle_curves.refusal_points(samples, 5.0) == [(NOW - 30, "refused", 2.0), (NOW - 30, "timed out", 0.0)]


def test_curves_of_pods_beyond_the_largest_are_added_up() -> None:
    samples = [sample(-10, f"p{n:02}", limit=n) for n in range(12)]
    points = {series: value for _, series, value in throttle_curves.share_points(samples, 5.0)}
    assert len(points) == throttle_curves.MOST_PODS + 1
    assert (points["p11"], points["other pods"]) == (11.0, 0 + 1 + 2 + 3)


def test_curves_hold_one_point_for_each_span_and_the_slowest_pod() -> None:
    at = -(NOW % 10) - 100  # a span begins here
    samples = [sample(at + 1, limit=5), sample(at + 2, limit=6), sample(at + 2, "p2", p95_s=0.9, baseline_s=0.3)]
    assert [(series, value) for _, series, value in throttle_curves.limit_points(samples, 10.0)] == [
        ("limit", 14.0), ("in flight", 4.0),
    ]  # fmt: skip
    assert [value for _, _, value in throttle_curves.latency_points(samples, 10.0)] == [0.9, 0.3]


def test_the_log_is_in_plain_words_and_each_run_is_there_once() -> None:
    kept = [change(0, 10, 14, "slow start", 4, -50), change(0, None, 20, "probe", 2, -5, "*")]
    live = [change(2, 12, 17, "slow start", 5, -40), change(7, 17, 8, "throttle", at=-20)]
    told = throttle_log.change_lines(throttle_log.all_changes(kept, live))
    assert [(line.pod, line.move[0], line.limit) for line in told] == [
        ("whole fleet", "steady", "20"), ("p1", "lowered", "17 → 8"), ("p1", "raised", "10 → 17"),
    ]  # fmt: skip
    assert told[0].why == "all of it was used without a refusal · 2 moves in a row"
    assert told[1].why == "the downstream refused a call"
    assert told[2].why == "a fresh start: every answer raises it · 7 moves in a row"
    (held,) = throttle_log.change_lines([change(1, 8, 8, "latency hold")])
    assert (held.move, held.limit) == (["held"], "8")
    (unknown,) = throttle_log.change_lines([change(1, 8, 9, HOSTILE)])
    assert unknown.why == HOSTILE[:39] + "…"


def test_tries_above_the_ceiling_are_one_line_and_never_the_reason() -> None:
    tries = [change(3 + n, 4 - n % 2, 3 + n % 2, "probe undone" if n % 2 == 0 else "probe", at=-n) for n in range(6)]
    kept = [*tries, change(2, 8, 3, "throttle", at=-60), change(9, 3, 3, "reset", at=-1.5, pod="p2")]
    told = throttle_log.change_lines(throttle_log.all_changes(kept, []))
    assert [(line.pod, line.limit, line.move) for line in told] == [
        ("p1", "3", ["steady"]), ("p2", "3", ["reset"]), ("p1", "8 → 3", ["lowered"]),
    ]  # fmt: skip
    assert told[0].why == "tried one more above the ceiling it knows, 3 times; refused 3 times"
    entry = {"n": 0, "before": 8, "after": 3, "reason": "throttle", "times": 1, "ago_s": 60.0}
    probe = entry | {"n": 1, "before": 3, "after": 4, "reason": "probe", "ago_s": 1.0}
    (line,) = views.throttle_lines(snap({"p1": CALM | {"changes": [entry, probe]}}))
    assert line.last_move == "8 → 3, 1 min 2 s ago: the downstream refused a call"


@pytest.mark.parametrize(
    "figures",
    [
        None, 3, "fast", [], {}, {"max_inflight": "ten", "changes": "none"}, {"changes": [None, 1, {}, {"n": "x"}]},
        {"max_inflight": float("inf"), "total_requests": -1, "shut_s": "long", "slow": "very", "fleet_limit": True},
        {"changes": [{"n": 0, "before": [], "after": 3, "reason": None, "times": 1, "ago_s": 0}]},
    ],
)  # fmt: skip
def test_what_another_version_publishes_is_no_crash(figures: Any) -> None:
    odd = snap({"p1": figures, "p2": CALM})
    (line,) = views.throttle_lines(odd)
    views.throttle_facts(line, ())
    throttle_log.change_lines(throttle_log.live_changes(odd, "api"))
    overview.attention(odd)
    pods = (PodRecord("p1", "i", "up", NOW, NOW, True, {"throttles": figures}),)
    views.throttle_lines(replace(odd, pods=pods))
    throttle_log.live_changes(replace(odd, pods=pods), "api")


def test_what_sharing_a_limit_costs_is_said() -> None:
    shared = snap(
        {"p1": CALM | {"scope": "fleet", "fleet_limit": 20}, "p2": CALM | {"scope": "fleet", "fleet_limit": 20}}
    )
    pods = tuple(replace(pod, meta={**pod.meta, "exchanges": 600}) for pod in shared.pods)
    (line,) = views.throttle_lines(shared)
    assert [(fact.label, fact.value) for fact in views.exchange_fact(line, replace(shared, pods=pods))] == [
        ("Extra heartbeats", "1,200")
    ]
    (alone,) = views.throttle_lines(snap({"p1": CALM}))
    assert views.exchange_fact(alone, shared) == []


def test_overview_says_which_throttle_needs_a_look() -> None:
    told = overview.attention(snap({"p1": CALM | {"shut_s": 32}}))
    assert [(item.page, item.params, item.detail) for item in told] == [
        ("throttles", (("throttle", "api"),), "api: paused for 30 s by the downstream")
    ]
    told = overview.attention(snap({"p1": CALM | {"total_throttles": 6}}, (sample(-60),)))
    assert "1 throttle had more than 5% of calls refused" in told[0].text
    assert overview.attention(snap({"p1": CALM | {"total_throttles": 5, "waiting": 3}}, (sample(-60),))) == []


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def throttle(running: Runtime) -> Iterator[AdaptiveThrottle]:
    """A throttle that has answered, been refused, and is at its limit; the leader has sampled it."""
    api = get_or_create_throttle("api", ThrottleConfig(initial_limit=4))
    for _ in range(12):
        with api.acquire_sync():
            api.record_success(0.25)
    with api.acquire_sync():
        api.record_throttle()
    held: list[Permit] = []

    def full() -> bool:
        while (permit := api.try_acquire()) is not None:
            held.append(permit)
        return len(held) == api.max_inflight

    eventually(full)  # the slot that was refused comes back a little later
    store = running.queue.store
    eventually(lambda: store.list_throttle_changes(9) and store.list_throttle_samples(0, 1)[0].in_flight == len(held))
    yield api
    for permit in held:
        permit.release()


def test_the_page_shows_the_squeezed_throttle_its_pods_and_its_log(
    running: Runtime, throttle: AdaptiveThrottle, show: Open
) -> None:
    at = show("throttles")
    assert not at.exception
    assert not at.error
    assert f"all {throttle.max_inflight} slots are taken" in words(at)
    assert "api" in [code.value for code in at.code]
    board, pods, log = (frame.value for frame in at.dataframe[:3])
    assert board["throttle"].tolist() == ["api"]
    assert list(board["state"][0]) == ["at its limit"]
    assert pods["pod"].tolist() == ["pod-under-test"]
    assert "the downstream refused a call" in log["why"].tolist()
    assert words(at).count("as of ") >= 4


def test_a_reset_is_asked_for_answered_and_audited(
    running: Runtime, throttle: AdaptiveThrottle, show: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = throttle.max_inflight
    at = show("throttles", throttle="api")
    at.button(key="reset_throttle").click().run()
    assert "On 1 pod it starts again" in words(at)
    assert running.queue.store.list_commands(5) == []
    # Under AppTest a click inside a dialog runs the whole script, where the dialog is closed: yes is said for it.
    monkeypatch.setattr(widgets, "confirm", lambda title, question, action, **_: widgets.flash(action()))
    at = show("throttles", throttle="api")
    at.button(key="reset_throttle").click().run()
    assert not at.exception
    record = eventually(lambda: [c for c in running.queue.store.list_commands(5) if c.answers])[0]
    assert (record.command.kind, record.command.target) == ("reset_throttle", "*")
    assert (record.command.args, record.command.issued_by) == ({"name": "api"}, "dashboard")
    assert before != throttle.max_inflight == 4
    eventually(lambda: "pod-under-test: throttle api reset" in words(at.run()))
    assert "1 of 1 pod answered" in words(at)
    eventually(lambda: "reset by an operator" in at.run().dataframe[2].value["why"].tolist())


def test_names_are_never_markup(running: Runtime, show: Open) -> None:
    api = get_or_create_throttle(HOSTILE)
    with api.acquire_sync():
        api.record_throttle(30)
    eventually(lambda: running.queue.store.list_throttle_samples(0, 9))
    at = eventually(lambda: (page := show("throttles")) and HOSTILE in words(page) and page)
    assert not at.exception
    assert "paused for " in words(at)
    marked = [str(m.value) for kind in (at.markdown, at.caption, at.error, at.success, at.subheader) for m in kind]
    assert not any(HOSTILE in text for text in marked)
    assert "1 throttle paused" in words(show("overview"))


def test_a_throttle_that_is_gone_or_unknown_is_said(running: Runtime, show: Open) -> None:
    at = show("throttles", throttle="nobody")
    assert not at.exception
    assert "No pod has ever published a throttle of this name." in words(at)
    assert "there is nothing to reset" in words(at)


def test_the_last_figures_of_throttles_stay_and_are_marked(
    running: Runtime, throttle: AdaptiveThrottle, show: Open
) -> None:
    eventually(lambda: show("throttles").dataframe)
    store, running.queue.store = running.queue.store, SilentStore()  # type: ignore[assignment]
    try:
        at = eventually(lambda: (page := show("throttles")) and page.error and page)
    finally:
        running.queue.store = store
    assert not at.exception
    assert "stale" in words(at)
    assert at.dataframe[0].value["throttle"].tolist() == ["api"]


def test_many_viewers_cost_what_one_costs(running: Runtime, throttle: AdaptiveThrottle) -> None:
    reads = []
    store = running.queue.store
    original = store.list_throttle_changes
    store.list_throttle_changes = lambda *a, **k: reads.append(1) or original(*a, **k)  # type: ignore[method-assign]
    for _ in range(20):
        history = snapshot.throttle_history(running, "api").value
        assert history is not None
        assert history.samples
    assert len(reads) == 1
