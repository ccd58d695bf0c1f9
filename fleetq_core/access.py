"""Who may do what: people by the address they signed in with, programs by their key; who is not named, nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from .errors import NotAllowed

_PATTERN = re.compile(r"\*|(\*|[^\s@*,]+)@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LEAST_KEY = 16  # characters


class Access(StrEnum):
    """What somebody may do: nothing, look, or look and act."""

    NONE = "none"
    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who asks: the name that the audit gets, and what they may do."""

    name: str
    access: Access

    def check_may_act(self) -> None:
        """Raises NotAllowed for whoever is no operator."""
        if self.access is not Access.OPERATOR:
            raise NotAllowed(refusal_of(self))


def refusal_of(caller: Caller) -> str:
    """Why `caller` may not act."""
    if caller.access is Access.VIEWER:
        return f"{caller.name} may look and not act; operators are named in FLEET_Q_OPERATORS, keys in FLEET_Q_API_KEYS"
    return "who acts must sign in as an operator first"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of a program; its name is for the audit."""

    caller: Caller
    key: bytes

    def __repr__(self) -> str:
        return f"ApiKey({self.caller})"


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """The keys in `name:role:key,…`. Raises ValueError, which names the entry by its number and not by its text."""
    found: dict[str, ApiKey] = {}
    for number, entry in enumerate(text.split(","), 1):
        name, _, rest = entry.strip().partition(":")
        role, _, key = rest.partition(":")
        if not _NAME.fullmatch(name) or role not in (Access.VIEWER, Access.OPERATOR):
            raise ValueError(f"entry {number} must be name:operator:key or name:viewer:key")
        if len(key) < LEAST_KEY:
            raise ValueError(f"the key of entry {number} must have at least {LEAST_KEY} characters")
        if name in found:
            raise ValueError(f"entry {number} has the name of another one")
        found[name] = ApiKey(Caller(f"key {name}", Access(role)), key.encode())
    return tuple(found.values())


def check_people(patterns: Iterable[str]) -> None:
    """Raises ValueError for what is no address, *@domain or *."""
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(f"{pattern!r} is not an address such as ann@example.com, *@example.com or *")


def access_of(address: str, operators: Iterable[str], viewers: Iterable[str]) -> Access:
    """What the person with this e-mail address may do; letters count without their case."""
    if _named(address, operators):
        return Access.OPERATOR
    return Access.VIEWER if _named(address, viewers) else Access.NONE


def _named(address: str, patterns: Iterable[str]) -> bool:
    address = address.casefold()
    person, _, domain = address.rpartition("@")
    if not person or not domain:
        return False
    return any(pattern.casefold() in ("*", f"*@{domain}", address) for pattern in patterns)
