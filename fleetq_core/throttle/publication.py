"""What a pod tells the fleet of one of its throttles: the figures, and why the limit moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .changes import Change
from .rule import LimitRule
from .stats import Totals, figures

PUBLISHED_CHANGES = 20


def publication(rule: LimitRule, totals: Totals, waiting: int, now_s: float) -> dict[str, Any]:
    """Plain JSON. `changes` are runs of like changes, oldest first.

    Each has the number of its first change (`n`, from 0 since the process started), how many it stands for (`times`)
    and how many seconds ago the last of them was (`ago_s`).
    """
    return figures(rule, totals, now_s) | {
        "scope": rule.config.scope,
        "fleet_limit": rule.fleet_limit,
        "total_timeouts": totals.timeouts,
        "waiting": waiting,
        "slow": rule.is_slow,
        "shut_s": round(max(0.0, rule.shut_until_s - now_s), 3),
        "changes": _runs(list(rule.changes), rule.change_count - len(rule.changes), now_s)[-PUBLISHED_CHANGES:],
    }


def _runs(changes: Sequence[Change], first: int, now_s: float) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = []
    for number, change in enumerate(changes, start=first):
        last = runs[-1] if runs else None
        age = {"ago_s": round(now_s - change.at_s, 3), "after": change.after}
        if last and last["reason"] == change.reason and last["after"] == change.before != change.after:
            last.update(age, times=last["times"] + 1)
        else:
            runs.append({"n": number, "before": change.before, "reason": change.reason.value, "times": 1} | age)
    return runs
