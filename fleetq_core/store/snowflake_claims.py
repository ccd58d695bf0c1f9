"""How a claim on Snowflake is made: which steps it chooses, and when it looks first whether there are any.

Standard tables have one lock each: one statement chooses and tags. Hybrid tables lock rows: a SELECT chooses, one
guarded UPDATE tags what was chosen. Either way the claim is what is read back under its token.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fleetq_core.model import ClaimedRow, Identity

from .snowflake_statements import Statements, microseconds

_LOOKED_AT = 200  # steps that a claim within caps looks at beyond its limit
_LOOKS = 4  # of one claim on hybrid tables, when others are faster
_WIDEST = 32  # of how many times its limit such a claim chooses at most
_MOST_CHOICE = 1000  # steps among which it chooses
_OTHERS = 16  # pods that may have claimed as much since the last look


class Claims:
    """The claims of one pod, one after the other; it remembers how crowded the queue was."""

    def __init__(self, run: Statements) -> None:
        self._run = run
        self._last_token = ""
        self._unlooked = 1  # steps that may be claimed before a look whether any are left
        self._window = 1  # of how many times its limit a claim on hybrid tables chooses

    def claim(
        self, who: Identity, claim_token: str, limit: int, threshold_s: float, caps: Mapping[str, int]
    ) -> list[ClaimedRow]:
        """Up to `limit` steps, within `caps` by task type; again under the same token: those of the first time."""
        repeated, self._last_token = claim_token == self._last_token, claim_token
        # A look takes no lock and, on standard tables, perhaps no warehouse. An idle pod looks before each claim, and
        # so does one of many at the end of a queue. In a long queue hardly anybody does.
        if self._unlooked <= 0 and not repeated:
            pending = int(self._run.rows("any_pending")[0][0])
            if not pending:
                return []
            self._unlooked = pending // _OTHERS
        bind = {
            "pod_id": who.pod_id, "incarnation": who.incarnation, "threshold_us": microseconds(threshold_s),
            "token": claim_token,
        }  # fmt: skip
        claim = self._claim_chosen if self._run.hybrid else self._claim_best
        # A step that a standard table holds twice is claimed once.
        claimed = {row.step_id: row for row in claim(bind, limit, caps, repeated)}
        self._unlooked = self._unlooked - len(claimed) if claimed else 0
        return sorted(claimed.values(), key=lambda r: (-r.priority, r.created_ts, r.step_id))

    def _claim_best(
        self, bind: dict[str, Any], limit: int, caps: Mapping[str, int], _repeated: bool
    ) -> list[ClaimedRow]:
        """Choose and tag in one statement: a standard table has one lock, and there is no way around it."""
        look_limit = limit + (_LOOKED_AT if caps else 0)
        told = json.dumps(list(caps.items()))
        self._run.write("claim_steps", **bind, held=0, caps=told, look_limit=look_limit, limit=limit)
        return self._read_claim(bind)

    def _claim_chosen(
        self, bind: dict[str, Any], limit: int, caps: Mapping[str, int], repeated: bool
    ) -> list[ClaimedRow]:
        """Choose with a SELECT and tag what was chosen: hybrid tables lock these rows alone.

        Another may have been faster. What is missing is then chosen at random from more of the best, and so are the
        next claims until nobody is met any more, so that pods do not fight for the same rows. Who meets nobody takes
        the best.
        """
        claimed = self._read_claim(bind) if repeated else []
        if claimed:
            return claimed
        for _ in range(_LOOKS):
            held = bind | {"held": len(claimed)}
            ids = self._chosen(held, limit - len(claimed), _left(caps, claimed), self._window)
            if not ids:
                break
            if self._run.write("claim_chosen", **held, ids=json.dumps(ids)):
                before, claimed = len(claimed), self._read_claim(bind)
                if len(claimed) - before >= len(ids):
                    self._window = max(1, self._window * 3 // 4)
                    break
            self._window = min(_WIDEST, self._window * 8)
        return claimed or self._read_claim(bind)

    def _chosen(self, bind: Mapping[str, Any], limit: int, caps: Mapping[str, int], window: int) -> list[str]:
        """The ids of up to `limit` steps within `caps`: the best, or a choice of the best `window` times `limit`."""
        told = json.dumps([(name, cap * window) for name, cap in caps.items()])
        most = max(limit, min(limit * window, _MOST_CHOICE))
        look_limit = most + (_LOOKED_AT if caps else 0)
        found = self._run.rows("best_steps", **bind, caps=told, look_limit=look_limit, limit=most)
        # A slice and not any of them: two claims then meet over all of their rows or, far more often, over none.
        begin = limit * random.randrange(math.ceil(len(found) / limit)) if window > 1 and found else 0
        taken: Counter[str] = Counter()
        ids: list[str] = []
        for step_id, task_type in found[begin:] + found[:begin]:
            if len(ids) < limit and taken[task_type] < caps.get(task_type, limit):
                taken[task_type] += 1
                ids.append(step_id)
        return sorted(ids)  # in one order, which may spare two claims of the same rows a deadlock

    def _read_claim(self, bind: Mapping[str, Any]) -> list[ClaimedRow]:
        found = self._run.rows("read_claim", incarnation=bind["incarnation"], token=bind["token"])
        return [ClaimedRow(*row) for row in found]


def _left(caps: Mapping[str, int], claimed: Sequence[ClaimedRow]) -> dict[str, int]:
    """What the caps leave after `claimed`."""
    taken = Counter(row.task_type for row in claimed)
    return {name: cap - taken[name] for name, cap in caps.items()}
