"""How to sign in to Snowflake: which method what is set means, what that method lacks, and what the driver is given.

It reads values and files' names only, so that a wrong setting is told before anything is dialled; the driver is the
store's business. Values come under the driver's names: `private_key_file` is the variable SNOWFLAKE_PRIVATE_KEY_FILE.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSWORD, KEY_PAIR, PAT, OAUTH = "SNOWFLAKE", "SNOWFLAKE_JWT", "PROGRAMMATIC_ACCESS_TOKEN", "OAUTH"
OAUTH_CLIENT, WORKLOAD = "OAUTH_CLIENT_CREDENTIALS", "WORKLOAD_IDENTITY"
# Where Snowpark Container Services put a service's token, renewed while it runs.
SERVICE_TOKEN = Path("/snowflake/session/token")
PLACE = ("account", "user", "database", "schema", "warehouse", "role", "host", "port", "protocol")
# Each of these alone says how to sign in; the values that only go with one of them stand in `_NEEDS`.
CHOICES = (
    "authenticator", "private_key_file", "private_key_raw", "oauth_client_id", "workload_identity_provider", "token",
    "token_file_path", "password",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Method:
    """One way to sign in: its name for people, what it takes, and what to look at when it is refused."""

    name: str
    takes: tuple[str, ...]
    check: str


METHODS: Mapping[str, Method] = {
    KEY_PAIR: Method(
        "a key pair", ("private_key_file", "private_key_raw", "private_key_file_pwd"),
        "compare DESC USER's RSA_PUBLIC_KEY_FP with the key's fingerprint, and this machine's clock",
    ),
    PAT: Method(
        "a programmatic access token", ("token", "token_file_path"),
        "SHOW USER PROGRAMMATIC ACCESS TOKENS tells whether it has expired; it needs a network policy, and serves only "
        "the role it is restricted to",
    ),
    OAUTH: Method(
        "an OAuth token", ("token", "token_file_path"),
        "look at its expiry, at the user that it names, and at the role that it allows",
    ),
    OAUTH_CLIENT: Method(
        "OAuth client credentials",
        ("oauth_client_id", "oauth_client_secret", "oauth_token_request_url", "oauth_scope"),
        "look at the client's id, secret, token URL and scope, and at the account's security integration",
    ),
    WORKLOAD: Method(
        "a workload identity", ("workload_identity_provider", "token", "token_file_path"),
        "compare the user's WORKLOAD_IDENTITY (type, issuer, subject) and the token's audience snowflakecomputing.com",
    ),
    PASSWORD: Method(
        "a password", ("password",), "users of TYPE = SERVICE cannot use one; take a key pair or a token instead"
    ),
}  # fmt: skip
AUTHENTICATORS = (PASSWORD, KEY_PAIR, PAT, OAUTH, OAUTH_CLIENT, WORKLOAD)
PROVIDERS = ("OIDC", "AWS", "AZURE", "GCP")


def variable(name: str) -> str:
    """The environment variable of one of the driver's settings."""
    return f"SNOWFLAKE_{name.upper()}"


def with_service_token(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, and inside Snowpark Container Services the service's own token where nothing else is set."""
    found = dict(given)
    if found.get("host") and not any(found.get(name) for name in CHOICES) and SERVICE_TOKEN.is_file():
        found |= {"token_file_path": SERVICE_TOKEN, "authenticator": OAUTH}
    return found


def authenticator(given: Mapping[str, Any]) -> str:
    """The method: as SNOWFLAKE_AUTHENTICATOR says, or as what is given implies."""
    found = with_service_token(given)
    if found.get("authenticator"):
        return str(found["authenticator"])
    if found.get("private_key_file") or found.get("private_key_raw"):
        return KEY_PAIR
    if found.get("oauth_client_id"):
        return OAUTH_CLIENT
    if found.get("workload_identity_provider"):
        return WORKLOAD
    if found.get("token") or found.get("token_file_path"):
        service = found.get("token_file_path") == SERVICE_TOKEN  # of OAuth kind, whoever the user is
        return PAT if found.get("user") and not service else OAUTH
    return PASSWORD


def problems(given: Mapping[str, Any]) -> list[str]:
    """What is missing to sign in, a line each."""
    found = with_service_token(given)
    method = authenticator(found)
    lines = [
        f"{variable(name)}: is not set; the Snowflake store needs it"
        for name in ("account", "database", "schema")
        if not found.get(name)
    ]
    if not found.get("user") and method in (PASSWORD, KEY_PAIR):
        lines.append("SNOWFLAKE_USER: is not set; the Snowflake store needs it")
    lines += _lacks(method, found)
    for name in METHODS[method].takes:
        path = found.get(name)
        if isinstance(path, Path) and not os.access(path, os.R_OK):
            lines.append(f"{variable(name)}={str(path)!r}: is no file that this user can read")
    return lines


def _lacks(method: str, found: Mapping[str, Any]) -> list[str]:
    """What the method cannot do without."""
    token = found.get("token") or found.get("token_file_path")
    if method == PASSWORD and not found.get("password"):
        return [
            "SNOWFLAKE_PRIVATE_KEY_FILE, SNOWFLAKE_TOKEN, SNOWFLAKE_TOKEN_FILE_PATH or SNOWFLAKE_PASSWORD: "
            "none is set; the Snowflake store needs one to sign in with"
        ]
    if method == KEY_PAIR and not (found.get("private_key_file") or found.get("private_key_raw")):
        return ["SNOWFLAKE_PRIVATE_KEY_FILE: is not set; SNOWFLAKE_AUTHENTICATOR=SNOWFLAKE_JWT needs it"]
    if method == OAUTH_CLIENT:
        needs = ("oauth_client_id", "oauth_client_secret", "oauth_token_request_url")
        return [f"{variable(name)}: is not set; {method} needs it" for name in needs if not found.get(name)]
    needs_token = method in (PAT, OAUTH) or (method == WORKLOAD and _provider(found) == "OIDC")
    if needs_token and not token:
        return [f"SNOWFLAKE_TOKEN or SNOWFLAKE_TOKEN_FILE_PATH: none is set; {method} needs one"]
    return []


def _provider(found: Mapping[str, Any]) -> str:
    return str(found.get("workload_identity_provider") or "OIDC")


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same for the store's connection, with nothing of a method that is not used. It holds secrets."""
    found = with_service_token(given)
    method = authenticator(found)
    names = (*PLACE, "connection_name", *METHODS[method].takes)
    taken = {name: found.get(name) for name in names} | {"authenticator": method}
    if method == KEY_PAIR and taken["private_key_file"]:
        del taken["private_key_raw"]
    if taken.get("token_file_path"):  # a file may be renewed while pods run
        taken.pop("token", None)
    if method == WORKLOAD:
        taken["workload_identity_provider"] = _provider(found)
        if taken["workload_identity_provider"] != "OIDC":  # the platform itself is asked
            taken.pop("token", None)
            taken.pop("token_file_path", None)
    return {name: _bare(value) for name, value in taken.items() if value is not None}


def _bare(value: Any) -> Any:
    if hasattr(value, "get_secret_value"):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value


def told(taken: Mapping[str, Any]) -> str:
    """How `settings` sign in, in words without a secret: the method, what it was chosen by, user, account and host."""
    method = METHODS.get(str(taken.get("authenticator") or PASSWORD), METHODS[PASSWORD])
    names = [_shown(name, taken[name]) for name in method.takes if taken.get(name)]
    if taken.get("connection_name"):
        names.append(f"connection {taken['connection_name']!r}")
    by = f" ({', '.join(names)})" if names else ""
    user = f" as {taken['user']}" if taken.get("user") else ""
    host = f" at {taken['host']}" if taken.get("host") else ""
    return f"with {method.name}{by}{user} to {taken.get('account')}{host}"


def _shown(name: str, value: Any) -> str:
    plain = ("private_key_file", "token_file_path", "workload_identity_provider", "oauth_client_id")
    return f"{variable(name)}={value}" if name in plain else variable(name)


def advice(taken: Mapping[str, Any]) -> str:
    """What to look at when Snowflake refuses this method."""
    return METHODS.get(str(taken.get("authenticator") or PASSWORD), METHODS[PASSWORD]).check
