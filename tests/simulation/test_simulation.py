"""Thousands of seeded histories of a fleet under faults: the promises hold in each, and every kind of trouble was met.

FLEETQ_SIM_SEED=n replays one history; FLEETQ_SIM_HISTORIES says how many to play.
"""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest

from fleetq_core.store import sqlite
from tests.simulation.history import SOMETIMES, simulator

pytestmark = pytest.mark.slow

HISTORIES = int(os.environ.get("FLEETQ_SIM_HISTORIES", "100"))
ONE_SEED = os.environ.get("FLEETQ_SIM_SEED")


@pytest.mark.timeout(0 if HISTORIES > 300 else 110)
def test_the_promises_hold_in_every_history() -> None:
    seeds = [int(ONE_SEED)] if ONE_SEED else range(1, HISTORIES + 1)
    seen: Counter[str] = Counter()
    virtual_s, began = 0.0, time.monotonic()
    with simulator() as sim:
        for seed in seeds:
            ended = sim.play(seed)
            assert not ended.violations, f"FLEETQ_SIM_SEED={seed}: " + "\n".join(ended.violations[:10])
            seen += ended.seen
            virtual_s += ended.virtual_s
    took = time.monotonic() - began
    print(f"{len(seeds)} histories, {virtual_s / 3600:.1f} virtual hours, {60 * len(seeds) / took:.0f} a minute")
    print(*(f"{count:7} {what}" for what, count in sorted(seen.items())), sep="\n")
    if not ONE_SEED:
        assert [what for what in SOMETIMES if not seen[what]] == [], "these never happened: the run proves too little"


LEADS = (
    " AND (SELECT incarnation FROM pod_health WHERE status = 'up' AND may_lead = 1 "
    "AND last_heartbeat_ts > :now - :threshold ORDER BY birth_ts, pod_id LIMIT 1) = :incarnation"
)
# block, what is taken out, what is put there, and the invariant that must be seen broken
MUTANTS = {
    "complete: token": ("settle_completed", " AND s.claim_token = o.value ->> 1", "", "I7"),
    "recover: liveness": ("recover_orphans", " AND alive.status = 'up' AND alive.last_heartbeat_ts > :alive_after)", " AND 0)", "I12"),
    "recover: leadership": ("recover_orphans", LEADS, "", "leadership"),
    "recover: token is cleared": ("recover_orphans", "claim_token = NULL, ", "", "I7"),
    "recover: deaths count": ("recover_orphans", "retry_count = retry_count + (retry_count < COALESCE(max_retries, :max_retries)),", "", "I10"),
    "defer: token": ("settle_deferred", " AND s.claim_token = o.value ->> 1", "", "I7"),
    "defer: waits": ("promote_due", "due_ts <= :now", "due_ts IS NOT NULL", "I16"),
    "claim: one token, one claim": ("claim_steps", "AND NOT EXISTS (SELECT 1 FROM step_tracker WHERE status = 'claimed' AND incarnation = :incarnation AND claim_token = :token)", "", "I4"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_guard_taken_out_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block, old, new, broken = MUTANTS[name]
    # Without its comment lines: on one line, the first of them would swallow the statement.
    lines = (line for line in sqlite.SQL[block].splitlines() if not line.lstrip().startswith("--"))
    flat = " ".join(" ".join(lines).split())
    assert old in flat
    monkeypatch.setitem(sqlite.SQL, block, flat.replace(old, new))
    with simulator() as sim:
        for seed in range(1, 301):
            if violations := [v for v in sim.play(seed).violations if f" s: {broken}" in v]:
                print(f"{name}: found by seed {seed}: {violations[0]}")
                return
    pytest.fail(f"{name}: 300 histories without this guard, and nothing was found")
