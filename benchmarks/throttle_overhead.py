"""What a throttle costs: an uncontended acquire and release, sync and async, and many threads on one limit."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time

from fleetq_core.throttle import AdaptiveThrottle, ThrottleConfig

from . import harness

PAIRS = 20_000
ROUNDS = 7
THREADS = 32
STRESS_PAIRS = 1_000_000


def sync_us(pairs: int = PAIRS) -> float:
    """Microseconds for each `with acquire_sync()`."""
    throttle = AdaptiveThrottle("overhead")
    started_s = time.perf_counter()
    for _ in range(pairs):
        with throttle.acquire_sync():
            pass
    return (time.perf_counter() - started_s) / pairs * 1e6


def async_us(pairs: int = PAIRS) -> float:
    """Microseconds for each `async with acquire()`."""

    async def loop() -> float:
        throttle = AdaptiveThrottle("overhead")
        started_s = time.perf_counter()
        for _ in range(pairs):
            async with throttle.acquire():
                pass
        return (time.perf_counter() - started_s) / pairs * 1e6

    return asyncio.run(loop())


def stress(pairs: int, threads: int = THREADS, limit: int = 4) -> tuple[int, int, int]:
    """Pairs done, the most calls at once, and calls still counted at the end; hangs if a wake-up is lost."""
    throttle = AdaptiveThrottle("stress", ThrottleConfig(initial_limit=limit, max_limit=limit))
    lock = threading.Lock()
    inside = most = done = 0

    def work() -> None:
        nonlocal inside, most, done
        for _ in range(pairs // threads):
            with throttle.acquire_sync():
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0)  # yields to the other threads, or the interpreter would hardly ever let them meet
                with lock:
                    inside -= 1
                    done += 1

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return done, most, int(throttle.stats()["current_inflight"] or 0)


def run(stress_pairs: int = STRESS_PAIRS) -> harness.Report:
    """The medians of several rounds, and one long stress run."""
    sync, asynchronous = [sync_us() for _ in range(ROUNDS)], [async_us() for _ in range(ROUNDS)]
    report = harness.Report("Throttle overhead", samples={"sync (µs)": sync, "async (µs)": asynchronous})
    report.add("acquire and release, sync", statistics.median(sync), "µs", 5.0, at_least=False)
    report.add("acquire and release, async", statistics.median(asynchronous), "µs", 15.0, at_least=False)
    done, most, left = stress(stress_pairs)
    report.add(f"pairs from {THREADS} threads", done, "", stress_pairs // THREADS * THREADS)
    report.add("most calls at once under a limit of 4", most, "", 4, at_least=False)
    report.add("calls still counted afterwards", left, "", 0, at_least=False)
    return report


if __name__ == "__main__":
    print("\n".join(run().lines()))
