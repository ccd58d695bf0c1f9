"""A recovery by hand, for a fleet in which no pod is left to lead."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .clock import SystemClock
from .errors import NotLeader
from .ids import new_id, new_token
from .leader.election import leader_of
from .leader.recovery import Recovery
from .model import BeatState, Identity, RecoveryRun, Status, StepFilter
from .queue import Queue


def recover_by_hand(queue: Queue, say: Callable[[str], None]) -> RecoveryRun:
    """Lead for one recovery cycle. Raises NotLeader where a living pod leads.

    A pod that is merely silent is judged only after this caller has itself beaten for a whole threshold: the store may
    just have come back, and they with it.
    """
    config, store = queue.config, queue.store
    leader = leader_of(store.list_pods(), store.now(), config.dead_pod_threshold)
    if leader is not None:
        raise NotLeader(f"pod {leader.pod_id} leads this fleet, so this caller may not; use `fleetq recover --ask`")
    me = Identity(new_id("manual"), new_token())
    store.register_pod(me, {"state": "recovering by hand"})
    try:
        if _silent_owners(queue):
            seconds = config.dead_pod_threshold
            say(f"some owners of claimed steps are merely silent; waiting {seconds:g} s for a sign of life")
            _beat_for(queue, me, seconds)
        recovery = Recovery(store, me, config, SystemClock(), leads=lambda: True, holds_off=lambda: False)
        return recovery.run_now()
    finally:
        store.mark_down(me)


def _silent_owners(queue: Queue) -> bool:
    up = {(pod.pod_id, pod.incarnation) for pod in queue.store.list_pods() if pod.status == "up"}
    claimed = queue.find_steps(StepFilter(status=Status.CLAIMED), limit=1000)
    return any((step.claimed_by, step.incarnation) in up for step in claimed)


def _beat_for(queue: Queue, me: Identity, seconds: float) -> None:
    clock, pause = SystemClock(), threading.Event()
    until = clock.monotonic() + seconds
    while (left := until - clock.monotonic()) > 0:
        pause.wait(min(left, queue.config.heartbeat_interval))
        beat = queue.store.beat(me, {"state": "recovering by hand"}, queue.config.dead_pod_threshold)
        if beat.state is not BeatState.ALIVE or beat.leader != me.incarnation:
            raise NotLeader(f"pod {beat.leader_pod_id} leads this fleet, so this caller may not")
