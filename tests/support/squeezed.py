"""A tasks module that presses on stand-ins of services with small capacities, through throttles, while it is loaded."""

from __future__ import annotations

import os
import threading

from fleetq_core.throttle import AdaptiveThrottle, ThrottleConfig, get_or_create_throttle


class Service:
    """Answers after a while; refuses what comes while `capacity` calls are under way."""

    def __init__(self, capacity: int, seconds: float, retry_after_s: float | None = None) -> None:
        self._room = threading.Semaphore(capacity)
        self._seconds, self._retry_after_s = seconds, retry_after_s

    def call(self, throttle: AdaptiveThrottle) -> None:
        with throttle.acquire_sync():
            if not self._room.acquire(blocking=False):
                throttle.record_throttle(self._retry_after_s)
                return
            try:
                threading.Event().wait(self._seconds)
                throttle.record_success()
            finally:
                self._room.release()


def press(throttle: AdaptiveThrottle, service: Service, callers: int) -> None:
    def forever() -> None:
        while True:
            service.call(throttle)

    for _ in range(callers):
        threading.Thread(target=forever, daemon=True).start()


if os.environ.get("SQUEEZED"):
    press(get_or_create_throttle("strict"), Service(3, 0.1), 10)
    press(get_or_create_throttle("shared", ThrottleConfig(scope="fleet", max_limit=30)), Service(4, 0.1), 8)
    press(get_or_create_throttle("<b>told</b> **to wait**"), Service(1, 0.2, 15.0), 4)
    press(get_or_create_throttle("roomy"), Service(100, 0.2), 2)
