"""The attempts of one call: what tenacity asks about them (again? how long? enough?), and the account of them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
from collections.abc import AsyncIterator
from typing import Any

from tenacity import RetryCallState

from fleetq_core.errors import ConfigError

from . import pause
from .config import BackoffConfig
from .delays import after_request, decorrelated
from .transient import retry_after_s

_log = logging.getLogger(__name__)


class Attempts:
    """One for each call of a decorated function."""

    def __init__(self, config: BackoffConfig, name: str) -> None:
        self._config, self._name = config, name
        self._started = pause.monotonic()
        self._count = 0
        self._delay_s: float | None = None
        self._error: Exception | None = None
        self._end = ""  # why there was no further attempt
        if config.budget is not None:
            config.budget.record_call()

    def rules(self) -> dict[str, Any]:
        """The arguments for tenacity that sync and async share."""
        return {
            "before": self._begin,
            "retry": self._again,
            "wait": self._wait,
            "stop": self._enough,
            "reraise": True,
        }

    def _begin(self, state: RetryCallState) -> None:
        # A wait may last longer than it was asked to; then the time is up before the attempt, not in it.
        if self._error is not None and (left := self._left_s()) is not None and left <= 0:
            self._end = f"timeout_total_s={self._config.timeout_total_s:g} has passed"
            raise self._error
        self._count = state.attempt_number

    def _again(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if error is None or self._end:
            return False
        if not self._config.retries(error):
            self._end = "this error is not retried"
            return False
        self._error = error if isinstance(error, Exception) else None
        return True

    def _wait(self, state: RetryCallState) -> float:
        config, error = self._config, self._error
        if config.jitter == "decorrelated":
            delay = decorrelated(self._delay_s, config)
        else:
            delay = config.strategy(self._count - 1, config)
            if not isinstance(delay, int | float) or not math.isfinite(delay) or delay < 0:
                raise ConfigError([f"strategy: gave {delay!r} for retry {self._count - 1}; must be seconds from 0"])
        asked = retry_after_s(error) if error is not None else None
        if asked is not None:
            delay = max(delay, after_request(asked, config))
        self._delay_s = min(delay, config.max_delay_ms / 1000)
        return self._delay_s

    def _enough(self, state: RetryCallState) -> bool:
        left = self._left_s()
        if self._count >= self._config.max_attempts:
            self._end = f"max_attempts={self._config.max_attempts}"
        elif left is not None and state.upcoming_sleep >= left:
            self._end = (
                f"a wait of {state.upcoming_sleep:.3g} s would pass timeout_total_s={self._config.timeout_total_s:g}"
            )
        elif self._config.budget is not None and not self._config.budget.try_retry():
            self._end = "the retry budget is spent"
        return bool(self._end)

    def tell(self, state: RetryCallState) -> Any:
        """Before a wait: log it and call on_retry, whose own failure must not take the place of a retry."""
        _log.debug("%s: retry %d in %.3f s after %r", self._name, self._count, state.upcoming_sleep, self._error)
        if self._config.on_retry is None or self._error is None:
            return None
        try:
            return self._config.on_retry(self._count, state.upcoming_sleep, self._error)
        except Exception:
            _log.exception("on_retry of %s failed; the retry goes on", self._name)
            return None

    async def tell_async(self, state: RetryCallState) -> None:
        """The same for an async function: an async on_retry is awaited."""
        told = self.tell(state)
        if inspect.isawaitable(told):
            try:
                await told
            except Exception:
                _log.exception("on_retry of %s failed; the retry goes on", self._name)

    @contextlib.asynccontextmanager
    async def time_limit(self) -> AsyncIterator[None]:
        """Cancel the attempt inside when the total time is up; it ends as TimeoutError and is not retried."""
        limit = asyncio.timeout(self._left_s())
        try:
            async with limit:
                yield
        except TimeoutError:
            if limit.expired():
                self._end = f"timeout_total_s={self._config.timeout_total_s:g} has passed"
                if self._error is not None:
                    self._end += f"; the attempt before had failed with {self._error!r}"
            raise

    def add_note(self, error: Exception) -> None:
        """Say on the error what was tried, unless nothing but its one attempt was."""
        if self._count > 1 or self._end != "this error is not retried":
            plural = "attempt" if self._count == 1 else "attempts"
            took = pause.monotonic() - self._started
            error.add_note(f"with_backoff: {self._count} {plural} in {took:.3f} s; {self._end or 'stopped'}")

    def _left_s(self) -> float | None:
        total = self._config.timeout_total_s
        return None if total is None else total - (pause.monotonic() - self._started)
