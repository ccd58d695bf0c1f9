"""What the store keeps of an error: its first line, and the traceback from the handler on."""

from __future__ import annotations

import pytest

from fleetq_core import TerminalError
from fleetq_core.failures import MAX_CHARS, error_text, split


def caught(error: BaseException, depth: int = 0) -> BaseException:
    """The error as a handler raises it, `depth` calls down."""

    def fall(levels: int) -> None:
        if levels:
            fall(levels - 1)
        raise error

    with pytest.raises(type(error)) as found:
        fall(depth)
    return found.value


def test_an_error_keeps_its_kind_message_and_traceback() -> None:
    head, trace = split(error_text(caught(ValueError("no such column"))))
    assert head == "ValueError: no such column"
    assert trace.startswith("Traceback (most recent call last):\n")
    assert trace.endswith("ValueError: no such column")
    assert ", in fall" in trace


def test_what_was_raised_to_say_something_has_no_traceback() -> None:
    assert error_text(caught(TerminalError("payload has no image"))) == "TerminalError: payload has no image"
    assert error_text("cancelled by ann") == "cancelled by ann"
    assert error_text(ValueError("never raised")) == "ValueError: never raised"


def test_causes_are_told() -> None:
    error = caught(ValueError("bad payload"))
    error.__cause__ = caught(KeyError("image"))
    trace = split(error_text(error))[1]
    assert "KeyError: 'image'" in trace
    assert "The above exception was the direct cause" in trace


def test_a_long_traceback_keeps_its_end() -> None:
    class Chain(Exception):
        pass

    error = caught(Chain("x" * 3000), 200)
    error.__cause__ = caught(Chain("y" * 6000), 3)
    text = error_text(error)
    assert len(text) <= MAX_CHARS
    head, trace = split(text)
    assert head == "Chain: " + "x" * 3000
    assert trace.startswith("  … (cut)")
    assert trace.endswith("x" * 100)


@pytest.mark.parametrize("message", ["a\0b", "lone \ud800", "x" * 20_000, "", "two\n\nparagraphs"])
def test_any_message_can_be_stored(message: str) -> None:
    text = error_text(caught(ValueError(message)))
    assert len(text) <= MAX_CHARS
    assert "\0" not in text
    text.encode()
    assert split(text)[0].startswith("ValueError:")


def test_text_that_merely_looks_like_one_is_left_alone() -> None:
    assert split("") == ("", "")
    assert split("one line") == ("one line", "")
    assert split("two\n\nparagraphs") == ("two\n\nparagraphs", "")
