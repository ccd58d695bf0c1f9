"""The tasks a pod knows: names and their handlers."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import ConfigError, UnknownTask
from .model import Step

Handler = Callable[[Step], Any] | Callable[[Step], Awaitable[Any]]
H = TypeVar("H", bound=Callable[..., Any])

BUILTIN_TASKS = "fleetq_core.builtin"


@dataclass(frozen=True, slots=True)
class Task:
    """A named handler. `timeout_s` bounds one attempt; None lets it run as long as it likes.

    `throttle` names the throttle that its calls go through: no step is claimed for which that has no slot.
    """

    name: str
    handler: Handler
    timeout_s: float | None
    is_async: bool
    description: str
    throttle: str | None = None


class TaskRegistry:
    """Names to handlers. The process has one default registry, which `@task` fills."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    def task(self, name: str, *, timeout_s: float | None = None, throttle: str | None = None) -> Callable[[H], H]:
        """Decorate a sync or async handler `(step: Step) -> JSON-able result`.

        `throttle` names a throttle of this process (get_or_create_throttle): steps are claimed only as far as it has
        slots, and a refusal that the handler lets through hands the step back instead of failing it. Raises ConfigError
        for an empty or taken name, an empty throttle, or a time limit that is not positive.
        """
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(["@task needs the task's name: @task('resize_image')"])
        if timeout_s is not None and not timeout_s > 0:
            raise ConfigError([f"@task({name!r}, timeout_s={timeout_s}): must be more than 0 seconds, or None"])
        if throttle is not None and (not isinstance(throttle, str) or not throttle.strip()):
            raise ConfigError([f"@task({name!r}, throttle={throttle!r}): must be the name of a throttle, or None"])

        def register(handler: H) -> H:
            self._add(name, handler, timeout_s, throttle)
            return handler

        return register

    def _add(self, name: str, handler: Callable[..., Any], timeout_s: float | None, throttle: str | None) -> None:
        taken = self._tasks.get(name)
        if taken is not None and _origin(taken.handler) != _origin(handler):
            raise ConfigError(
                [f"@task({name!r}) is already registered by {_origin(taken.handler)}; choose another name"]
            )
        description = inspect.getdoc(handler) or ""
        is_async = asyncio.iscoroutinefunction(handler)
        self._tasks[name] = Task(name, handler, timeout_s, is_async, description, throttle)

    def get(self, name: str) -> Task:
        """The task called `name`; raises UnknownTask, which lists those there are."""
        try:
            return self._tasks[name]
        except KeyError:
            raise UnknownTask(name, list(self._tasks)) from None

    def find(self, name: str) -> Task | None:
        """The task called `name`, if there is one."""
        return self._tasks.get(name)

    def all(self) -> list[Task]:
        """Every task, by name."""
        return [self._tasks[name] for name in sorted(self._tasks)]


def _origin(handler: Callable[..., Any]) -> str:
    # By name and not by identity: reloading a module in place is not a conflict.
    return f"{handler.__module__}.{getattr(handler, '__qualname__', handler)}"


default_registry = TaskRegistry()
task = default_registry.task


def load_handlers(modules: Iterable[str]) -> None:
    """Import the built-in tasks and then the named modules, so that their `@task`s register.

    Raises ConfigError with a line for each module that cannot be imported.
    """
    problems = []
    for name in (BUILTIN_TASKS, *modules):
        try:
            importlib.import_module(name)
        except ConfigError as exc:
            problems += [f"FLEET_Q_HANDLERS: {name}: {problem}" for problem in exc.problems]
        except (Exception, SystemExit) as exc:  # a script without a main guard must not end the pod silently
            problems.append(f"FLEET_Q_HANDLERS: cannot import {name}: {type(exc).__name__}: {exc}")
    if problems:
        raise ConfigError(problems)
