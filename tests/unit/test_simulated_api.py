"""`simulated_api`: what it answers, how it hands a refused step back, and what it refuses to be asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fleetq_core.builtin import simulated_api as module
from fleetq_core.builtin.simulated_api import MAX_APIS, NAME, simulated_api
from fleetq_core.errors import TerminalError, Throttled
from fleetq_core.model import Step
from fleetq_core.playground.api import SimulatedApi
from fleetq_core.tasks import default_registry
from fleetq_core.throttle import all_throttles, get_or_create_throttle, names, registry


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No throttle and no downstream is there yet."""
    names.forget_all()
    monkeypatch.setattr(registry, "_kept", {})
    monkeypatch.setattr(module, "_apis", {})


def step(**payload: Any) -> Step:
    return Step("s", {"task_type": NAME} | payload, 0, 0, "token", "pod")


def call(**payload: Any) -> dict[str, Any]:
    return asyncio.run(simulated_api(step(**({"mean_s": 0.001} | payload))))


def test_the_task_names_its_throttle_so_that_no_more_steps_are_claimed_than_it_has_slots() -> None:
    assert default_registry.get(NAME).throttle == NAME
    assert not all_throttles()  # a pod that never runs it shows none


def test_an_answer_tells_the_call_and_the_throttle_learns() -> None:
    answer = call()
    assert 0 <= answer["call_s"] < 0.1  # milliseconds: a call may be shorter than one
    stats = get_or_create_throttle(NAME).stats()
    assert (stats["total_successes"], stats["total_throttles"], stats["current_inflight"]) == (1, 0, 0)
    assert module._apis[NAME].steps == module.DEFAULT_STEPS


def test_a_refused_step_is_handed_back_and_recorded() -> None:
    with pytest.raises(Throttled, match=r"simulated_api: it takes 0 calls at once") as caught:
        call(steps=[[60, 0]])
    assert caught.value.retry_after_s is None  # a random while that grows
    stats = get_or_create_throttle(NAME).stats()
    assert (stats["total_successes"], stats["total_throttles"], stats["current_inflight"]) == (0, 1, 0)


def test_calls_at_once_beyond_the_capacity_are_refused_and_the_others_answered() -> None:
    async def three() -> list[Any]:
        get_or_create_throttle("many", module.ThrottleConfig(initial_limit=3))
        steps = [step(name="many", steps=[[60, 2]], mean_s=0.02) for _ in range(3)]
        return await asyncio.gather(*map(simulated_api, steps), return_exceptions=True)

    found = asyncio.run(three())
    assert [isinstance(one, Throttled) for one in found] == [False, False, True]


def test_other_steps_for_a_known_name_start_its_capacity_anew_and_none_leave_it() -> None:
    call(name="a", steps=[[60, 3]])
    first = module._apis["a"]
    call(name="a")
    call(name="a", steps=[[60, 3]])
    assert module._apis["a"] is first
    call(name="a", steps=[[60, 4], [30, 1]])
    assert module._apis["a"].steps == ((60.0, 4), (30.0, 1))


def test_a_pod_simulates_only_so_many() -> None:
    for number in range(MAX_APIS):
        module._apis[f"n{number}"] = SimulatedApi([(1, 1)])
    with pytest.raises(TerminalError, match="simulates 20 downstreams already"):
        call(name="one-more")


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"name": ""}, r"payload\.name is ''"),
        ({"name": 3}, r"payload\.name is 3"),
        ({"name": "a b"}, r"payload\.name is 'a b'"),
        ({"mean_s": 0}, r"payload\.mean_s is 0"),
        ({"mean_s": -1}, r"payload\.mean_s"),
        ({"mean_s": True}, r"payload\.mean_s is True"),
        ({"mean_s": "1"}, r"payload\.mean_s is '1'"),
        ({"mean_s": 61}, "up to 60"),
        ({"mean_s": 10**400}, r"payload\.mean_s"),
        ({"mean_s": float("nan")}, r"payload\.mean_s"),
        ({"steps": None}, r"payload\.steps is None"),
        ({"steps": []}, r"payload\.steps is \[\]"),
        ({"steps": [[1, 2]] * 21}, "up to 20"),
        ({"steps": [[1]]}, r"payload\.steps"),
        ({"steps": [1, 2]}, r"payload\.steps"),
        ({"steps": [[0, 2]]}, r"payload\.steps"),
        ({"steps": [[1, -1]]}, r"payload\.steps"),
        ({"steps": [[1, 1.5]]}, r"payload\.steps"),
        ({"steps": [[1, True]]}, r"payload\.steps"),
        ({"steps": [[1, 1001]]}, r"payload\.steps"),
        ({"steps": [[3601, 1]]}, r"payload\.steps"),
    ],
)
def test_bad_arguments_are_named(payload: dict[str, Any], said: str) -> None:
    with pytest.raises(TerminalError, match=said):
        call(**payload)
