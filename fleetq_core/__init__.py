"""FLEET-Q: a brokerless distributed task queue. This is the whole public API on one screen."""

from .backoff import BackoffConfig, RetryBudget, with_backoff
from .config import Config, load_config
from .connect import connect
from .errors import (
    ConfigError,
    FleetQError,
    InvalidPayload,
    NotLeader,
    SchemaMismatch,
    StepConflict,
    StoreError,
    StoreUnavailable,
    TerminalError,
    Throttled,
    UnknownTask,
)
from .model import NewStep, Status, Step, StepFilter, StepRecord
from .pod import Pod
from .queue import Queue
from .tasks import TaskRegistry, task
from .throttle import (
    AdaptiveThrottle,
    ThrottleConfig,
    ThrottleError,
    ThrottleTimeout,
    all_throttles,
    get_or_create_throttle,
    is_throttle_error,
    reset_throttle,
    with_throttle,
)
from .version import VERSION as __version__

__all__ = [
    # submit and look
    "connect", "Queue", "NewStep", "Step", "StepRecord", "StepFilter", "Status",
    # handle
    "task", "TaskRegistry", "TerminalError", "Throttled",
    # call again
    "with_backoff", "BackoffConfig", "RetryBudget",
    # protect what handlers call
    "AdaptiveThrottle", "ThrottleConfig", "with_throttle", "get_or_create_throttle", "all_throttles", "reset_throttle",
    "is_throttle_error", "ThrottleError", "ThrottleTimeout",
    # run
    "Pod", "Config", "load_config",
    # errors
    "FleetQError", "ConfigError", "InvalidPayload", "StepConflict", "UnknownTask", "NotLeader",
    "StoreError", "StoreUnavailable", "SchemaMismatch",
    "__version__",
]  # fmt: skip
