"""Files of steps: what each line becomes, and what is said of a bad one."""

from __future__ import annotations

from typing import Any

import pytest

from fleetq_core.demo import demo_steps
from fleetq_core.errors import InvalidPayload
from fleetq_core.model import NewStep
from fleetq_core.queue import Queue
from fleetq_core.steps_file import Line, read_steps


def no_check(_: NewStep) -> None:
    pass


def read(text: str | bytes, *, is_csv: bool = False, check: Any = no_check, priority: int = 3) -> list[Line]:
    content = text.encode() if isinstance(text, str) else text
    return list(read_steps(content, is_csv=is_csv, priority=priority, check=check))


def test_a_json_line_is_a_payload_or_a_whole_step() -> None:
    lines = read('{"task_type": "echo"}\n\n{"payload": {"task_type": "x"}, "priority": 9, "step_id": "a"}\n')
    assert lines == [
        Line(1, NewStep({"task_type": "echo"}, 3)),
        Line(3, NewStep({"task_type": "x"}, 9, "a")),
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_columns_are_of_the_step_or_of_its_payload(mark: str) -> None:
    text = mark + "task_type, step_id,priority,seconds,zip,ok,tags,note\r\nsleep,s-1,5,1.5,01234,true,[1],\r\n"
    assert read(text, is_csv=True) == [
        Line(2, NewStep({"task_type": "sleep", "seconds": 1.5, "zip": "01234", "ok": True, "tags": [1]}, 5, "s-1"))
    ]


def test_csv_cells_may_hold_line_ends_and_ids_that_look_like_numbers() -> None:
    lines = read('task_type,step_id,note\necho,007,"two\nlines"\n\necho,8,NaN\n', is_csv=True)
    assert [line.number for line in lines] == [2, 5]
    assert [line.step and (line.step.step_id, line.step.payload["note"]) for line in lines] == [  # type: ignore[index]
        ("007", "two\nlines"), ("8", "NaN"),
    ]  # fmt: skip
    assert [line.step and line.step.priority for line in lines] == [3, 3]


@pytest.mark.parametrize(
    ("text", "number", "problem"),
    [
        ("step_id\nx\n", 1, "the header: has no column task_type"),
        ("task_type,a,a\nx,1,2\n", 1, "the header: names 'a' twice"),
        ("task_type,a\nx\n", 2, "the line: has 1 cells, the header has 2"),
        ('task_type,a\nx,"1"2\n', 2, "the line: is not CSV"),
        (b"task_type\nx\n\xff\n", 3, "the file: is not UTF-8 text"),
    ],
)
def test_bad_csv_is_told_with_its_line(text: Any, number: int, problem: str) -> None:
    (line,) = read(text, is_csv=True)
    assert (line.number, line.step) == (number, None)
    assert line.problem.startswith(problem)


def test_good_lines_and_bad_ones_keep_their_numbers() -> None:
    def check(step: NewStep) -> None:
        if step.priority == 0:
            raise InvalidPayload("priority", "must not be 0 here")

    lines = read('{"task_type": "a"}\n{\n{"payload": {}, "priority": 0}\n{"task_type": "b"}', check=check)
    assert [(line.number, line.step is not None) for line in lines] == [(1, True), (2, False), (3, False), (4, True)]
    assert lines[2].problem == "priority: must not be 0 here"


def test_sets_tell_what_is_new_known_and_refused(queue: Queue) -> None:
    first = [NewStep({"task_type": "x", "n": n}, 0, f"s{n}") for n in range(3)]
    again = [*first[:2], NewStep({"task_type": "other"}, 0, "s2"), NewStep({"task_type": "x"}, 0, "s3")]
    (told,) = queue.submit_sets(first)
    assert (told.step_ids, told.new, told.conflicts) == (["s0", "s1", "s2"], 3, [])
    (told,) = queue.submit_sets(again)
    assert (told.step_ids, told.new, told.conflicts) == (["s0", "s1", "s2", "s3"], 1, ["s2"])


def test_the_demo_is_the_same_for_the_same_seed_and_can_be_submitted(queue: Queue) -> None:
    assert list(demo_steps(50, 1)) == list(demo_steps(50, 1)) != list(demo_steps(50, 2))
    kinds = {step.payload["task_type"] for step in demo_steps(200, 3)}  # type: ignore[index, call-overload]
    assert kinds == {"echo", "sleep", "simulated_api"}
    assert len(queue.submit_steps(demo_steps())) == 200
