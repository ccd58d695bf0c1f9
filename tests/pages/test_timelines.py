"""Who led when and how pods beat, read from the samples that leaders took."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleetq_core.dashboard import timelines
from fleetq_core.dashboard.views import heartbeats, leaders
from fleetq_core.dashboard.views.heartbeats import MOST_PODS, Strip
from fleetq_core.dashboard.views.leaders import NO_RECORD, Reign
from fleetq_core.model import PodSample, Verdict
from tests.pages.fleets import NOW, fleet, pod, run, seen

SPACING = 10.0
SINCE = NOW - 100


def samples(*groups: list[PodSample]) -> list[PodSample]:
    return [sample for group in groups for sample in group]


def every(start: int, end: int, *names: str, **how: Any) -> list[PodSample]:
    """Samples from `start` to `end` seconds ago, SPACING apart."""
    return samples(*(seen(ago, *names, **how) for ago in range(start, end, -int(SPACING))))


def told(found: list[Reign]) -> list[tuple[str, float, float]]:
    return [(reign.pod, NOW - reign.start_ts, NOW - reign.end_ts) for reign in found]


def reigns(taken: list[PodSample], snap: Any = None) -> list[Reign]:
    """With the last sample's leader still leading, unless a snapshot says otherwise."""
    last = next((sample for sample in reversed(taken) if sample.leads), None)
    leads = replace(pod(last.pod_id), incarnation=last.incarnation) if last else pod("a")
    return leaders.reigns(taken, SINCE, SPACING, snap or fleet(leads))


def test_a_change_of_leader_stands_where_the_new_one_is_first_seen() -> None:
    found = reigns(every(100, 40, "a", "b") + every(40, -10, "b"))
    assert told(found) == [("a", 100, 40), ("b", 40, 0)]
    assert leaders.summary(found) == "2 pods led, with 1 change of leader, without a gap."


def test_a_missed_sample_is_no_gap_and_a_third_one_is() -> None:
    assert told(reigns(every(100, 50, "a") + every(40, -10, "a"))) == [("a", 100, 0)]
    found = reigns(every(100, 60, "a") + every(30, -10, "a"))
    assert told(found) == [("a", 100, 60), ("", 60, 30), ("a", 30, 0)]
    assert leaders.summary(found) == "a was the only leader; for 30 s no leader is on record."


@pytest.mark.parametrize(
    ("before", "after", "running", "why"),
    [
        ("a", "b", 0, "No pod lived through it: nobody was there to lead."),
        ("a", "a/2", 0, "No pod lived through it: nobody was there to lead."),
        ("a", "a", 3, "Pods were at work before and lived on: the store was away, or they were frozen."),
        ("a", "a", 0, "Idle pods lived on: the fleet rested, or the store was away."),
    ],
)
def test_a_gap_is_explained_by_who_lived_through_it(before: str, after: str, running: int, why: str) -> None:
    _, gap, _ = reigns(every(100, 60, before, running=running) + every(30, -10, after))
    assert (gap.pod, gap.note) == ("", why)


def test_a_gap_until_now_is_told_from_a_rest() -> None:
    old = every(100, 60, "a")
    silent = reigns(old, fleet(pod("a", silent_s=60)))
    assert told(silent) == [("a", 100, 60), ("", 60, 0)]
    assert silent[-1].note == "No living pod leads now."
    rests = fleet(pod("a", silent_s=60, status="down", state="resting"))
    assert reigns(old, rests)[-1].note == "The fleet rests: there is nothing to do."
    assert reigns(old)[-1].note == "a leads now, but has written no sample."
    assert leaders.summary(reigns([], rests)) == "No leader is on record in this time."


def test_who_leads_now_is_known_before_the_next_sample() -> None:
    old = every(100, 10, "a")  # the last one is 20 s old
    silent = replace(pod("a", silent_s=16), incarnation="a")
    assert told(reigns(old, fleet(silent, pod("b")))) == [("a", 100, 16), ("b", 16, 0)]
    assert told(reigns(old, fleet(pod("b")))) == [
        ("a", 100, 10),
        ("b", 10, 0),
    ]  # nobody knows until when a was heard of
    late = reigns(old, fleet(silent, pod("b", age_s=4)))
    assert told(late) == [("a", 100, 16), ("", 16, 4), ("b", 4, 0)]
    assert late[1].note == "b, which leads now, had not started yet."
    nobody = reigns(old, fleet(silent))
    assert told(nobody) == [("a", 100, 16), ("", 16, 0)]
    assert nobody[-1].note == "No living pod leads now."


def test_what_lies_before_the_first_sample_is_no_gap_of_the_fleet() -> None:
    found = reigns(every(50, -10, "a"))
    assert told(found) == [("", 100, 50), ("a", 50, 0)]
    assert found[0].note == NO_RECORD
    assert [line.pod for line in leaders.reign_lines(found, NOW, SINCE, 10)] == [["a"], ["no record"]]
    assert leaders.summary(found).startswith("a was the only leader, without a gap. Nothing is on record before ")


def test_a_restarted_leader_is_a_change_and_its_lines_say_how_long() -> None:
    found = reigns(every(100, 40, "a") + every(40, -10, "a/2"))
    assert told(found) == [("a", 100, 40), ("a", 40, 0)]
    newest, oldest = leaders.reign_lines(found, NOW, SINCE, 10)
    assert (newest.pod, newest.end, newest.lasted) == (["a"], "now", "40 s")
    assert (oldest.start, oldest.lasted) == ("before", "at least 1 min")
    assert [line.end for line in leaders.reign_lines(found, NOW, SINCE, 1)] == ["now"]


def strip(taken: list[PodSample], snap: Any) -> Strip:
    return heartbeats.strip(taken, SINCE, SPACING, snap, 2.0)


def states(found: Strip, name: str) -> list[tuple[str, float, float]]:
    """(state, from, until) in seconds ago, neighbours in one state as one."""
    whole: list[tuple[str, float, float]] = []
    for bar in found.bars:
        if bar.pod != name:
            continue
        if whole and whole[-1][0] == bar.state and whole[-1][2] == NOW - bar.start_ts:
            whole[-1] = (bar.state, whole[-1][1], NOW - bar.end_ts)
        else:
            whole.append((bar.state, NOW - bar.start_ts, NOW - bar.end_ts))
    return whole


def test_a_pod_that_dies_is_late_then_marked_then_gone() -> None:
    taken = samples(
        every(100, 60, "a", "b"), seen(60, "a"), seen(60, "b", leader="a", silent_s=9.0), every(50, -10, "a")
    )
    taken = sorted(taken, key=lambda sample: sample.sampled_ts)
    snap = fleet(pod("a"), pod("b", status="down", silent_s=69), runs=(run(dead=(Verdict("b", "b", 16.0),)),))
    found = strip(taken, snap)
    assert states(found, "a") == [("alive", 100, 0)]
    assert states(found, "b") == [("alive", 100, 60), ("late", 60, 50), ("died", 50, 40), ("gone", 40, 0)]
    notes = {bar.state: bar.note for bar in found.bars if bar.pod == "b"}
    assert notes["died"] == "declared dead"
    assert notes["late"] == "ran 0 of 6, silent for up to 9 s"


def test_a_pod_that_stopped_is_merely_gone_and_has_no_past_before_its_start() -> None:
    taken = every(100, 70, "a") + every(70, 40, "a", "b") + every(40, -10, "a")
    found = strip(taken, fleet(pod("a"), pod("b", status="down", silent_s=45)))
    assert states(found, "b") == [("alive", 70, 40), ("gone", 40, 0)]


def test_a_time_without_samples_says_nothing_about_anybody() -> None:
    found = strip(every(100, 70, "a") + every(30, -10, "a"), fleet(pod("a")))
    assert states(found, "a") == [("alive", 100, 70), ("alive", 30, 0)]


def test_the_troubled_come_first_and_the_strip_is_bounded() -> None:
    names = [f"p{n:02d}" for n in range(MOST_PODS + 5)]
    records = [pod(name, silent_s=20 if name == "p33" else 8 if name == "p07" else 0) for name in names[:-1]]
    records.append(pod(names[-1], status="down", silent_s=60))
    found = strip(every(100, -10, *names), fleet(*records))
    assert found.pods[:3] == ("p07", "p33", "p00")
    assert names[-1] not in found.pods
    assert (len(found.pods), found.more) == (MOST_PODS, 5)
    assert {bar.pod for bar in found.bars} == set(found.pods)


def test_no_sample_at_all_is_an_empty_strip() -> None:
    assert strip([], fleet(pod("a"))) == Strip((), (), 0)


def test_a_pod_keeps_its_colour_when_others_join() -> None:
    kept: dict[str, str] = {}
    first = dict(timelines.pod_colours(["b"], kept))
    later = timelines.pod_colours(["a", "b", "c"], kept)
    assert later["b"] == first["b"]
    assert len(set(later.values())) == 3
