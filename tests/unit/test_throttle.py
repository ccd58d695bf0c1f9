"""The throttle around the rule: who waits, who gets a slot, and that none is ever lost."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from benchmarks.throttle_overhead import stress
from fleetq_core.errors import FleetQError
from fleetq_core.throttle import (
    AdaptiveThrottle,
    Reason,
    ThrottleConfig,
    ThrottleError,
    ThrottleTimeout,
    all_throttles,
    get_or_create_throttle,
    reset_throttle,
)
from tests.support.clock import FakeClock

GIVE_UP_S = 30.0


def make(limit: int = 1, clock: FakeClock | None = None, **settings: object) -> AdaptiveThrottle:
    return AdaptiveThrottle("t", ThrottleConfig(initial_limit=limit, **settings), clock=clock)  # type: ignore[arg-type]


def inflight(throttle: AdaptiveThrottle) -> object:
    return throttle.stats()["current_inflight"]


def until_waiting(throttle: AdaptiveThrottle, count: int) -> None:
    turn = threading.Event()
    for _ in range(3000):
        if throttle.waiting == count:
            return
        turn.wait(0.01)
    raise AssertionError(f"{throttle.waiting} wait, not {count}")


async def until_waiting_async(throttle: AdaptiveThrottle, count: int) -> None:
    while throttle.waiting != count:
        await asyncio.sleep(0)


def test_stats_have_exactly_the_fields_of_the_specification(clock: FakeClock) -> None:
    throttle = make(15, clock)
    with throttle.acquire_sync():
        throttle.record_success(latency=0.3)
    with throttle.acquire_sync():
        throttle.record_throttle()
    assert throttle.stats() == {
        "max_inflight": 7, "current_inflight": 0, "available_capacity": 6, "total_requests": 2, "total_successes": 1,
        "total_throttles": 1, "throttle_rate": 0.5, "current_p95_latency": 0.3, "baseline_latency": None,
    }  # fmt: skip


def test_sync_and_async_callers_stand_in_one_queue() -> None:
    throttle, order = make(), []
    first = throttle.try_acquire()
    assert first is not None
    gate = threading.Event()

    def on_thread(name: str) -> None:
        with throttle.acquire_sync(GIVE_UP_S):
            order.append(name)

    async def on_loop(name: str) -> None:
        async with throttle.acquire(GIVE_UP_S):
            order.append(name)

    async def loop() -> None:
        one = asyncio.create_task(on_loop("loop 1"))
        await until_waiting_async(throttle, 2)
        gate.set()
        await one

    threads = [threading.Thread(target=on_thread, args=("thread 0",))]
    threads[0].start()
    until_waiting(throttle, 1)
    threads.append(threading.Thread(target=lambda: asyncio.run(loop())))
    threads[1].start()
    assert gate.wait(GIVE_UP_S)
    threads.append(threading.Thread(target=on_thread, args=("thread 2",)))
    threads[2].start()
    until_waiting(throttle, 3)
    assert throttle.try_acquire() is None
    first.release()
    for thread in threads:
        thread.join(GIVE_UP_S)
    assert order == ["thread 0", "loop 1", "thread 2"]
    assert inflight(throttle) == 0


def test_waiting_ends_with_its_time_and_leaves_no_trace() -> None:
    throttle = make()
    with throttle.acquire_sync():
        with pytest.raises(ThrottleTimeout):
            throttle.acquire_sync(0).__enter__()
        with pytest.raises(ThrottleTimeout):
            asyncio.run(throttle.acquire(0).__aenter__())
        assert throttle.waiting == 0
    assert inflight(throttle) == 0


def test_a_cancelled_wait_leaves_the_queue_and_a_cancelled_call_its_slot() -> None:
    throttle = make()

    async def call(entered: asyncio.Event) -> None:
        async with throttle.acquire():
            entered.set()
            await asyncio.Event().wait()

    async def main() -> None:
        entered = asyncio.Event()
        running = asyncio.create_task(call(entered))
        await entered.wait()
        waiting = asyncio.create_task(call(asyncio.Event()))
        await until_waiting_async(throttle, 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert throttle.waiting == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert inflight(throttle) == 0


def test_a_slot_granted_to_a_cancelled_wait_is_passed_on() -> None:
    throttle = make()

    async def main() -> None:
        permit = throttle.try_acquire()
        assert permit is not None
        lost = asyncio.create_task(throttle.acquire().__aenter__())
        await until_waiting_async(throttle, 1)
        heir = asyncio.create_task(throttle.acquire().__aenter__())
        await until_waiting_async(throttle, 2)
        permit.release()
        lost.cancel()
        (await asyncio.wait_for(heir, GIVE_UP_S)).release()

    asyncio.run(main())
    assert inflight(throttle) == 0


def test_no_exception_and_no_generator_keeps_a_slot() -> None:
    throttle = make(3)

    def generator() -> Iterator[int]:
        with throttle.acquire_sync():
            yield 1

    async def agenerator() -> AsyncIterator[int]:
        async with throttle.acquire():
            yield 1

    async def leave_early() -> None:
        async for _ in agenerator():
            break

    with pytest.raises(ZeroDivisionError), throttle.acquire_sync():
        _ = 1 / 0
    abandoned = generator()
    next(abandoned)
    assert inflight(throttle) == 1
    del abandoned
    asyncio.run(leave_early())
    gc.collect()
    assert (inflight(throttle), throttle.max_inflight) == (0, 3)


def test_a_permit_of_a_dead_thread_comes_back() -> None:
    throttle = make()
    thread = threading.Thread(target=throttle.try_acquire)
    thread.start()
    thread.join()
    gc.collect()
    assert inflight(throttle) == 0


def test_releasing_twice_is_an_error() -> None:
    throttle = make(2)
    permit = throttle.try_acquire()
    assert permit is not None
    permit.release()
    with pytest.raises(ThrottleError, match="released before"):
        permit.release()
    assert inflight(throttle) == 0


def test_the_first_outcome_of_a_call_decides() -> None:
    throttle = make(10)
    with throttle.acquire_sync():
        throttle.record_throttle()
        throttle.record_throttle()
    assert (throttle.max_inflight, throttle.stats()["total_throttles"]) == (5, 1)


def test_a_reset_with_calls_under_way_keeps_the_count() -> None:
    throttle = make(4)
    with throttle.acquire_sync(), throttle.acquire_sync():
        throttle.record_throttle()
        throttle.reset()
        assert (throttle.max_inflight, inflight(throttle)) == (4, 2)
    assert inflight(throttle) == 0
    assert throttle.changes()[-1].reason is Reason.RESET


def test_the_log_is_bounded() -> None:
    throttle = make(10, event_log_size=5)
    for _ in range(50):
        throttle.record_throttle()
        throttle.reset()
    assert len(throttle.changes()) == 5


def test_after_retry_after_the_head_of_the_queue_watches_the_time(clock: FakeClock) -> None:
    throttle = make(2, clock)
    with throttle.acquire_sync():
        throttle.record_throttle(retry_after=10)
    assert throttle.try_acquire() is None
    clock.advance(9.9)
    assert throttle.try_acquire() is None
    clock.advance(2.7)
    assert throttle.try_acquire() is not None


def test_a_throttle_made_by_hand_is_known_by_its_name_while_it_lives() -> None:
    mine = AdaptiveThrottle("mine")
    assert get_or_create_throttle("mine", ThrottleConfig(initial_limit=3)) is mine is all_throttles()["mine"]
    other = AdaptiveThrottle("other")
    again = AdaptiveThrottle("other")
    assert all_throttles()["other"] is other
    del other
    gc.collect()
    assert "other" not in all_throttles()
    del again


def test_registry() -> None:
    throttle = get_or_create_throttle("registry-test", ThrottleConfig(initial_limit=3))
    assert get_or_create_throttle("registry-test") is throttle is all_throttles()["registry-test"]
    throttle.record_throttle()
    reset_throttle("registry-test")
    assert throttle.max_inflight == 3
    with pytest.raises(FleetQError, match="'nothing'"):
        reset_throttle("nothing")


def test_no_wake_up_is_lost_and_the_limit_holds_under_32_threads() -> None:
    assert stress(9_600) == (9_600, 4, 0)


def test_time_alone_wakes_a_waiting_thread_and_a_waiting_coroutine() -> None:
    throttle = make(1)
    for _ in range(2):
        with throttle.acquire_sync(GIVE_UP_S):
            throttle.record_throttle(retry_after=0.01)

    async def main() -> None:
        async with throttle.acquire(GIVE_UP_S):
            throttle.record_throttle(retry_after=0.01)
        async with throttle.acquire(GIVE_UP_S):
            pass

    asyncio.run(main())
    assert throttle.stats()["total_throttles"] == 3


def test_a_waiter_whose_loop_is_closed_does_not_swallow_the_slot() -> None:
    throttle = make()
    permit = throttle.try_acquire()
    assert permit is not None
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(None)
    lost = throttle.acquire().__aenter__()
    task = loop.create_task(lost)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert throttle.waiting == 1
    loop.close()
    permit.release()
    assert (throttle.waiting, inflight(throttle)) == (0, 0)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task, lost
    gc.collect()
    assert inflight(throttle) == 0


def test_one_who_waits_already_hears_when_time_will_open_the_slot() -> None:
    throttle = make(1)

    def wait() -> None:
        with throttle.acquire_sync(GIVE_UP_S * 2):
            pass

    thread = threading.Thread(target=wait, daemon=True)
    with throttle.acquire_sync():
        thread.start()
        until_waiting(throttle, 1)
        throttle.record_throttle(retry_after=0.01)
    thread.join(GIVE_UP_S / 6)
    assert not thread.is_alive()
