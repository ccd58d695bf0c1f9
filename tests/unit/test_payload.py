"""What may be submitted, and how it is refused."""

from __future__ import annotations

import enum
import random
from typing import Any

import pytest

from fleetq_core import InvalidPayload, NewStep, Queue, StepConflict
from fleetq_core.payload import decode, encode_payload


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("payload", "field", "problem"),
    [
        ([], "payload", "must be a JSON object"),
        ("text", "payload", "must be a JSON object"),
        ({}, "payload.task_type", "must be a non-empty string"),
        ({"task_type": 3}, "payload.task_type", "must be a non-empty string"),
        ({"task_type": " "}, "payload.task_type", "must be a non-empty string"),
        ({"task_type": "t" * 201}, "payload.task_type", "200 characters"),
        ({"task_type": "t", "a": [1, {"b": float("nan")}]}, "payload.a[1].b", "is nan"),
        ({"task_type": "t", "a": float("inf")}, "payload.a", "is inf"),
        ({"task_type": "t", "a": "x\0y"}, "payload.a", "NUL"),
        ({"task_type": "t", "a\0": 1}, "payload", "NUL"),
        ({"task_type": "t", "a": "\ud800"}, "payload", "lone surrogate"),
        ({"task_type": "t", 5: 1}, "payload", "JSON keys are strings"),
        ({"task_type": "t", "a": (1, 2)}, "payload.a", "is a tuple"),
        ({"task_type": "t", "a": b"x"}, "payload.a", "is a bytes"),
        ({"task_type": "t", "a": Colour.RED}, "payload.a", "is a Colour"),
        ({"task_type": "t", "a": 2**63}, "payload.a", "64 bits"),
        ({"task_type": "t", "a": deep(64)}, "payload.a" + "[0]" * 63, "deeper than 64"),
        ({"task_type": "t", "a": deep(100_000)}, "payload.a" + "[0]" * 63, "deeper than 64"),
        ({"task_type": "t", "a": "x" * 300_000}, "payload", "the limit is 262,144"),
    ],
)
def test_bad_payloads_are_refused_by_name(queue: Queue, payload: Any, field: str, problem: str) -> None:
    with pytest.raises(InvalidPayload, match=problem) as caught:
        queue.submit_step(payload)
    assert caught.value.field == field
    assert queue.stats().pending == 0


@pytest.mark.parametrize(
    "step",
    [
        NewStep({"task_type": "t"}, priority=True),
        NewStep({"task_type": "t"}, priority=1.5),  # type: ignore[arg-type]
        NewStep({"task_type": "t"}, priority=2**31),
        NewStep({"task_type": "t"}, step_id=""),
        NewStep({"task_type": "t"}, step_id="a b"),
        NewStep({"task_type": "t"}, step_id="x" * 201),
        NewStep({"task_type": "t"}, max_retries=-1),
        NewStep({"task_type": "t"}, max_retries=True),
    ],
)
def test_bad_fields_are_refused(queue: Queue, step: NewStep) -> None:
    with pytest.raises(InvalidPayload):
        queue.submit_steps([step])


def random_json(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(8 if depth < 5 else 6)
    if kind == 6:
        return [random_json(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {random_text(rng): random_json(rng, depth + 1) for _ in range(rng.randrange(4))}
    return [None, True, False, rng.randrange(-(2**63) + 1, 2**63), rng.uniform(-1e300, 1e300), random_text(rng)][kind]


def random_text(rng: random.Random) -> str:
    alphabet = "ab\"\\'/%_\n\t\u0001\u007f\u2028é漢😀;--"
    return "".join(rng.choice(alphabet) for _ in range(rng.randrange(12)))


def test_what_goes_in_comes_out(queue: Queue) -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(300):
        payload = {"task_type": "t", "v": random_json(rng)}
        assert decode(encode_payload(payload, 10**6)[1]) == payload
    payload = {"task_type": "t", "z": 1, "a": {"😀": [1.0, 1, True, None, "\\u0000"]}}
    record = queue.get_step(queue.submit_step(payload))
    assert repr(record.payload) == repr(payload)  # order, and 1.0 against 1 against True


def test_the_same_id_again_is_a_no_op_for_the_same_step(queue: Queue) -> None:
    first = queue.submit_step({"task_type": "t", "a": 1, "b": 2}, step_id="invoice-1")
    assert queue.submit_step({"b": 2, "task_type": "t", "a": 1}, step_id="invoice-1") == first == "invoice-1"
    assert queue.stats().pending == 1


@pytest.mark.parametrize(("payload", "priority"), [({"task_type": "t", "a": 2}, 0), ({"task_type": "t", "a": 1}, 1)])
def test_the_same_id_for_another_step_is_an_error(queue: Queue, payload: dict[str, Any], priority: int) -> None:
    queue.submit_step({"task_type": "t", "a": 1}, step_id="x")
    with pytest.raises(StepConflict, match="'x' is already used"):
        queue.submit_step(payload, step_id="x", priority=priority)
    assert queue.get_step("x").payload == {"task_type": "t", "a": 1}


def test_bulk_submits_keep_their_order(queue: Queue) -> None:
    ids = queue.submit_steps({"task_type": "t", "n": n} for n in range(1200))
    assert len(set(ids)) == 1200
    assert ids == sorted(ids)
    claimed = [step.step_id for step in queue.claim_steps(1200)]
    assert claimed == ids


def test_a_claim_outside_a_pod_can_be_completed_and_failed(queue: Queue) -> None:
    queue.submit_steps([{"task_type": "t"}] * 3)
    first, second, third = queue.claim_steps(10)
    assert queue.complete_step(first, {"ok": True})
    assert queue.fail_step(second, "boom")
    assert queue.release_steps([third]) == 1
    assert not queue.complete_step(third, None)
    assert queue.get_step(first.step_id).result == {"ok": True}
    assert queue.stats().by_status() == {"pending": 1, "claimed": 0, "completed": 1, "failed": 1}


def test_operator_actions_are_audited(queue: Queue) -> None:
    step_id = queue.submit_step({"task_type": "t"})
    assert queue.cancel_steps([step_id], by="ann") == [step_id]
    assert queue.requeue_step(step_id, by="bob")
    log = {record.command.kind: record for record in queue.store.list_commands(10)}
    assert log["cancel_steps"].command.issued_by == "ann"
    assert log["requeue_steps"].answers[0].result == "1 of 1 steps moved"
