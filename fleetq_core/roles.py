"""What a process is for: it runs a pod, it lets operators act on the fleet, or it only shows the fleet.

A role is about a web process. What a viewer may not do is refused in one place, at the store that `connect()` gives it
(`store/look_only.py`); screens and routes say so earlier, and more kindly.
"""

from __future__ import annotations

from enum import StrEnum

from .errors import ConfigError, NotAllowed


class Role(StrEnum):
    """What FLEET_Q_ROLE may say."""

    POD = "pod"
    DASHBOARD = "dashboard"
    VIEWER = "viewer"

    @property
    def runs_pod(self) -> bool:
        """Whether the process has a pod of its own."""
        return self is Role.POD

    @property
    def may_act(self) -> bool:
        """Whether the process may change anything in the store."""
        return self is not Role.VIEWER


REFUSAL = "this process is a viewer (FLEET_Q_ROLE=viewer): it shows the fleet and changes nothing"


def check_may_act(role: Role) -> None:
    """Raises NotAllowed in a viewer."""
    if not role.may_act:
        raise NotAllowed(REFUSAL)


def check_runs_pod(role: Role) -> None:
    """Raises ConfigError where no pod is to run: an environment that was meant for a dashboard must not make one."""
    if not role.runs_pod:
        raise ConfigError([f"FLEET_Q_ROLE={role.value}: is for a web process without a pod; leave it unset for a pod"])
