"""Every error FLEET-Q raises on purpose. A message names the thing that is wrong and the way out."""

from __future__ import annotations

from collections.abc import Sequence


class FleetQError(Exception):
    """Base of all FLEET-Q errors."""


class ConfigError(FleetQError):
    """One or more settings are wrong. `problems` holds one line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class StoreError(FleetQError):
    """The store refused a statement; trying again will not help."""


class StoreUnavailable(StoreError):
    """The store is away, busy or full right now. The same call may be repeated: every write is repeatable."""


class StoreFull(StoreUnavailable):
    """The disk under the store is full. Nothing was lost; free some space and the same call succeeds."""


class SchemaMismatch(StoreError):
    """The database holds another schema version than this program understands."""


class InvalidPayload(FleetQError):
    """A payload or a result cannot be kept as JSON. `field` is the path of the offending value."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class StepConflict(FleetQError):
    """The step_id is already taken by a step with another payload or priority."""

    def __init__(self, step_id: str) -> None:
        self.step_id = step_id
        super().__init__(
            f"step_id {step_id!r} is already used for a different payload or priority; "
            "choose another step_id, or submit exactly the same step to make the call a no-op"
        )


class UnknownTask(FleetQError):
    """No handler is registered for a payload's task_type."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"unknown task type {name!r}; this pod knows: {', '.join(sorted(known)) or 'none'}. "
            "Register it with @task and name its module in FLEET_Q_HANDLERS"
        )


class TerminalError(FleetQError):
    """Raised by a handler to fail its step for good: no retry can help."""


class Throttled(FleetQError):
    """Raised by a handler to hand its step back: it is claimed again after `retry_after_s`, and no retry is used.

    Without a time it comes back after a random wait that grows with the number of its deferrals.
    """

    def __init__(self, message: str = "throttled", retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class StepTimeout(FleetQError):
    """A handler ran past the time limit of its task."""


class NotAllowed(FleetQError):
    """This process only shows the fleet, so it may not change anything."""


class NotLeader(FleetQError):
    """This caller may not run a recovery, because another living pod leads the fleet."""


class PodSuperseded(FleetQError):
    """Another process has started under this pod_id and owns it now."""
