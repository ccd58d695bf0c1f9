"""A pytest plugin that takes one guard out of the SQL: MUTANT is "<block>|<text to remove>|<text to put there>"."""

import os

from fleetq_core.store import sqlite

block, old, new = os.environ["MUTANT"].split("|")
# On one line a comment would swallow the statement, and everything would be red whatever was taken out.
lines = [line for line in sqlite.SQL[block].splitlines() if not line.lstrip().startswith("--")]
flat = " ".join(" ".join(lines).split())
if flat.count(old) < 1:
    raise RuntimeError(f"the mutant does not fit: {old!r} is not in {block}")
sqlite.SQL[block] = flat.replace(old, new)
