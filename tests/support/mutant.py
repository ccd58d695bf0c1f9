"""A pytest plugin that runs the collected tests once for each guard, with that guard taken out of the SQL.

Each mutant runs in a fork of the session, which has collected once for all of them, up to the first test that fails;
tests that share words with the mutant come first. MUTANTS is a JSON object of name: [block, text to remove, text to put
there]; VERDICTS is the file that then holds name: what the failed test said, or null where none failed.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from fleetq_core.store import sqlite


class _FirstFailure:
    """Remembers what the first test that failed said."""

    said: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.said is None:
            self.said = f"{report.nodeid}\n{report.longreprtext[-2000:]}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """In place of one run of the tests: a run for each mutant."""
    mutants: dict[str, list[str]] = json.loads(os.environ["MUTANTS"])
    verdicts = {name: _in_a_fork(session, name, *mutant) for name, mutant in mutants.items()}
    Path(os.environ["VERDICTS"]).write_text(json.dumps(verdicts))
    return True


def _in_a_fork(session: pytest.Session, name: str, block: str, old: str, new: str) -> str | None:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        try:
            said = _run(session, name, block, old, new)
        except BaseException as exc:
            said = repr(exc)
        with os.fdopen(writer, "w") as out:
            out.write(json.dumps(said))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    said: str | None = json.loads(text)
    return said


def _run(session: pytest.Session, name: str, block: str, old: str, new: str) -> str | None:
    take_out(block, old, new)
    words = {word for word in re.split(r"[\W_]+", f"{name} {block}".lower()) if len(word) > 3}
    items = sorted(session.items, key=lambda item: -sum(word.rstrip("s") in item.nodeid for word in words))
    first = _FirstFailure()
    session.config.pluginmanager.register(first)
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if first.said is not None:
            break
    return first.said


def take_out(block: str, old: str, new: str) -> None:
    """Change a statement of the embedded store."""
    # On one line a comment would swallow the statement, and everything would be red whatever was taken out.
    lines = [line for line in sqlite.SQL[block].splitlines() if not line.lstrip().startswith("--")]
    flat = " ".join(" ".join(lines).split())
    if flat.count(old) < 1:
        raise RuntimeError(f"the mutant does not fit: {old!r} is not in {block}")
    sqlite.SQL[block] = flat.replace(old, new)
