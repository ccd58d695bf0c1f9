"""A clock that moves only when a test says so."""


class FakeClock:
    """Both clocks at once; `advance` moves them together."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def jump(self, seconds: float) -> None:
        """Somebody has set the wall clock; no time has passed."""
        self._now += seconds

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self._monotonic += seconds
