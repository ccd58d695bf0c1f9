"""The real throttle in real time: threads, then coroutines, that always have work against a server in this process.

Its capacity steps 20 → 5 → 30, a phase lasts as many calls as in the simulation of one client.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass

from fleetq_core.playground.api import Refused, SimulatedApi
from fleetq_core.throttle import AdaptiveThrottle, ThrottleConfig

from . import harness

MEAN_CALL_S = 0.02
PHASE_S = 6.0
CAPACITIES = (20, 5, 30)
CALLERS = 50
BACK_OFF_S, MOST_BACK_OFF_S = 0.2 * MEAN_CALL_S, 20 * MEAN_CALL_S
LEAST_USED, MOST_REFUSED = 0.85, 0.02


@dataclass(slots=True)
class Meter:
    """How much of the server's capacity was used, as seen from outside every few milliseconds."""

    used: float = 0.0
    offered: float = 0.0

    def watch(self, api: SimulatedApi, until_s: float) -> None:
        """Look until then."""
        last_s = time.perf_counter()
        while last_s < until_s:
            time.sleep(MEAN_CALL_S / 10)
            now_s, busy, capacity = time.perf_counter(), api.busy, api.capacity
            # What runs above a capacity that has just fallen is no use of it.
            self.used += (now_s - last_s) * min(busy, capacity)
            self.offered += (now_s - last_s) * capacity
            last_s = now_s

    @property
    def share(self) -> float:
        """Used ÷ offered."""
        return self.used / self.offered


def _server(phase_s: float) -> SimulatedApi:
    return SimulatedApi([(phase_s, capacity) for capacity in CAPACITIES], random.Random(301))


def _throttle() -> AdaptiveThrottle:
    return AdaptiveThrottle("bench", ThrottleConfig())


def _wait_s(refusals: int) -> float:
    """Full jitter, doubling: as the simulation's clients, in calls."""
    return random.uniform(0, min(MOST_BACK_OFF_S, BACK_OFF_S * 2 ** min(refusals, 10)))


def threads(phase_s: float = PHASE_S, callers: int = CALLERS) -> tuple[Meter, SimulatedApi]:
    """Sync callers, a thread each."""
    api, throttle, stop = _server(phase_s), _throttle(), threading.Event()

    def work() -> None:
        refusals = 0
        while not stop.is_set():
            with throttle.acquire_sync():
                try:
                    with api.call(MEAN_CALL_S) as seconds:
                        time.sleep(seconds)
                    throttle.record_success()
                    refusals = 0
                except Refused:
                    throttle.record_throttle()
                    refusals += 1
            if refusals:
                time.sleep(_wait_s(refusals))

    workers = [threading.Thread(target=work, daemon=True) for _ in range(callers)]
    for worker in workers:
        worker.start()
    meter = Meter()
    meter.watch(api, time.perf_counter() + phase_s * len(CAPACITIES))
    stop.set()
    for worker in workers:
        worker.join()
    return meter, api


def coroutines(phase_s: float = PHASE_S, callers: int = CALLERS) -> tuple[Meter, SimulatedApi]:
    """Async callers on one event loop; the meter has a thread of its own."""
    api, throttle, stop = _server(phase_s), _throttle(), threading.Event()

    async def work() -> None:
        refusals = 0
        while not stop.is_set():
            async with throttle.acquire():
                try:
                    with api.call(MEAN_CALL_S) as seconds:
                        await asyncio.sleep(seconds)
                    throttle.record_success()
                    refusals = 0
                except Refused:
                    throttle.record_throttle()
                    refusals += 1
            if refusals:
                await asyncio.sleep(_wait_s(refusals))

    async def all_of_them() -> None:
        await asyncio.gather(*(work() for _ in range(callers)))

    meter = Meter()

    def watch() -> None:
        meter.watch(api, time.perf_counter() + phase_s * len(CAPACITIES))
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    asyncio.run(all_of_them())
    watcher.join()
    return meter, api


def run(phase_s: float = PHASE_S) -> harness.Report:
    """One run each."""
    report = harness.Report(
        f"The real throttle, {CALLERS} callers, capacity {' → '.join(map(str, CAPACITIES))}, {phase_s:g} s each, "
        f"mean call {1000 * MEAN_CALL_S:g} ms"
    )
    for name, contestant in (("threads", threads), ("coroutines", coroutines)):
        meter, api = contestant(phase_s)
        calls = api.answered + api.refused
        report.add(f"{name}: utilisation", meter.share, "", LEAST_USED)
        report.add(f"{name}: refused", 100 * api.refused / calls, "%", 100 * MOST_REFUSED, at_least=False)
        report.add(f"{name}: answered", api.answered / (phase_s * len(CAPACITIES)), "calls/s")
    return report


if __name__ == "__main__":
    print("\n".join(run().lines()))
