"""A permit: the right to make one call, given back exactly once whatever becomes of its holder."""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Self

from fleetq_core.errors import FleetQError

from .rule import Flight

if TYPE_CHECKING:
    from .throttle import AdaptiveThrottle


class ThrottleError(FleetQError):
    """A throttle was used in a way that would break its count: released twice, or entered twice."""


class ThrottleTimeout(FleetQError, TimeoutError):
    """No slot came free within the time that the caller would wait. It says nothing about the downstream."""


# What the code that runs now holds, innermost last: record_success() and its like need no handle that way. One
# variable for all throttles, because a ContextVar that is made in a constructor is never collected.
held: ContextVar[tuple[Permit, ...]] = ContextVar("fleetq_throttle_held", default=())


class Permit:
    """Use it with `with` or `async with`; one from try_acquire() is taken already and may also be released by hand.

    A permit that is dropped without a release (a thread that died, a generator nobody finished) is given back when
    Python collects it.
    """

    __slots__ = ("__weakref__", "_throttle", "_timeout_s", "flight", "outcome")

    def __init__(self, throttle: AdaptiveThrottle, timeout_s: float | None, flight: Flight | None = None) -> None:
        self._throttle = throttle
        self._timeout_s = timeout_s
        self.flight = flight
        self.outcome = False

    @property
    def throttle(self) -> AdaptiveThrottle:
        """The throttle it belongs to."""
        return self._throttle

    def release(self) -> None:
        """Give the slot back. Raises ThrottleError if it is not held."""
        flight, self.flight = self.flight, None
        if flight is None:
            raise ThrottleError(f"throttle {self._throttle.name!r}: this permit is not held, or was released before")
        self._throttle.give_back(flight)

    def __enter__(self) -> Self:
        if self.flight is None:
            self.flight = self._throttle.take(self._timeout_s)
        self._hold()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._let_go()

    async def __aenter__(self) -> Self:
        if self.flight is None:
            self.flight = await self._throttle.take_async(self._timeout_s)
        self._hold()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._let_go()

    def _hold(self) -> None:
        now_held = held.get()
        if self in now_held:
            raise ThrottleError(f"throttle {self._throttle.name!r}: this permit is in use; acquire another")
        self.outcome = False
        held.set((*now_held, self))

    def _let_go(self) -> None:
        now_held = held.get()
        held.set(now_held[:-1] if now_held and now_held[-1] is self else tuple(p for p in now_held if p is not self))
        self.release()

    def __del__(self) -> None:
        flight = getattr(self, "flight", None)
        if flight is not None:
            self._throttle.abandon(flight)
