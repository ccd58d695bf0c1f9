"""All settings: one frozen object, read once from the environment and `.env`.

`load_config()` reports every problem at once, a line each: the variable, its value, what is allowed.
"""

from __future__ import annotations

import difflib
import os
import re
import secrets
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails

from . import access, connections_file, sign_in
from .access import Access, ApiKey, Caller
from .errors import ConfigError
from .roles import Role

DEFAULT_SQLITE = "sqlite:///.fleetq/fleetq.db"
MOST_ON_SNOWFLAKE = 500_000  # bytes of one value
LEAST_BILLED_S = 60.0  # of each start of a warehouse
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,254}")
_RESERVED_POD_IDS = frozenset({"leader"})  # as the target of a command it means whoever leads

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


def _default_pod_id() -> str:
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).strip("-.") or "pod"
    return f"{host[:100]}-{secrets.token_hex(3)}"


class Config(BaseModel):
    """Every setting of a pod, with its unit. Field `x` is the variable `FLEET_Q_X`, or `SNOWFLAKE_…` as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pod_id: str = Field(default_factory=_default_pod_id, description="the name of this pod, unique in the fleet")
    heartbeat_interval: Seconds = Field(10.0, description="seconds between heartbeats")
    claim_interval: Seconds = Field(5.0, description="seconds between looks at an empty queue")
    idle_interval: float = Field(0.0, ge=0, le=86_400, description="most seconds between them; 0: they do not widen")
    rest_after: float = Field(0.0, ge=0, le=86_400, description="seconds without work until a pod rests; 0: never")
    recovery_interval: Seconds = Field(30.0, description="seconds between the leader's recovery cycles")
    max_parallelism: int = Field(8, ge=1, le=1024, description="handlers that may run at once at full capacity")
    capacity_threshold: float = Field(0.8, gt=0, le=1, description="share of max_parallelism that is really used")
    dead_pod_threshold: Seconds = Field(60.0, description="seconds without a heartbeat after which a pod is dead")
    max_retries: int = Field(3, ge=0, le=1000, description="retries of a step before it fails for good")
    store: str = Field("", description="sqlite:///PATH or snowflake")
    handlers: tuple[str, ...] = Field((), description="modules that register tasks, comma-separated")
    role: Role = Field(Role.POD, description="what a web process is: pod, dashboard (no pod) or viewer (no change)")
    operators: tuple[str, ...] = Field((), description="e-mail addresses, *@domain or *: who may act when signed in")
    viewers: tuple[str, ...] = Field((), description="the same for who may only look")
    api_key: SecretStr | None = Field(None, description="key that HTTP callers must send to write")
    api_keys: SecretStr | None = Field(None, description="name:operator|viewer:key of programs, comma-separated")
    claim_ahead: int = Field(10_000, ge=0, le=100_000, description="most steps held claimed but not started")
    retry_base_delay: Seconds = Field(5.0, description="seconds before the first retry; doubles with each one")
    retry_max_delay: Seconds = Field(600.0, description="most seconds before a retry")
    stop_grace: float = Field(20.0, ge=0, le=3600, description="seconds a stopping pod lets running steps finish")
    max_payload_bytes: int = Field(262_144, ge=1024, le=16_777_216, description="largest payload or result in bytes")
    retention_days: float = Field(7.0, gt=0, le=3650, description="days a completed step is kept")
    failed_retention_days: float = Field(30.0, gt=0, le=3650, description="days a dead letter is kept")
    sample_interval: Seconds = Field(10.0, description="seconds between samples for the charts")
    throttle_exchange: Seconds = Field(2.0, description="seconds between exchanges of a throttle that the fleet shares")
    data_dir: Path = Field(Path(".fleetq"), description="folder for this machine's outbox, uploads and recovery log")
    sqlite_busy_timeout: Seconds = Field(10.0, description="seconds to wait for the database file's write lock")
    sqlite_synchronous: str = Field("FULL", description="FULL survives a power cut; NORMAL may lose the last commits")
    warehouse_auto_suspend: float = Field(60.0, ge=0, le=86_400, description="the warehouse's AUTO_SUSPEND in seconds")
    warehouse_credits: float = Field(1.0, gt=0, le=4096, description="credits an hour of the warehouse; X-Small is 1")
    snowflake_account: str | None = Field(None, description="account identifier, such as myorg-myaccount")
    snowflake_user: str | None = Field(None, description="the fleet's user, best of TYPE = SERVICE")
    snowflake_password: SecretStr | None = Field(None, description="password, for accounts that still take one")
    snowflake_database: str | None = Field(None, description="database of the queue's tables")
    snowflake_schema: str | None = Field(None, description="schema of the queue's tables")
    snowflake_warehouse: str | None = Field(None, description="warehouse that runs the statements")
    snowflake_role: str | None = Field(None, description="role to use; default: the user's own")
    snowflake_host: str | None = Field(None, description="host to connect to, where the account does not tell it")
    snowflake_port: int = Field(443, ge=1, le=65_535, description="port of the host")
    snowflake_protocol: Literal["https", "http"] = Field("https", description="http is for a test server only")
    snowflake_private_key_file: Path | None = Field(None, description="file with the user's private key (PEM)")
    snowflake_private_key_raw: SecretStr | None = Field(None, description="the private key itself, as PEM text")
    snowflake_private_key_file_pwd: SecretStr | None = Field(None, description="passphrase of the private key")
    snowflake_token: SecretStr | None = Field(None, description="programmatic access token or OAuth token")
    snowflake_token_file_path: Path | None = Field(None, description="file with such a token, read at each sign-in")
    snowflake_oauth_client_id: str | None = Field(None, description="client that fetches its own OAuth tokens")
    snowflake_oauth_client_secret: SecretStr | None = Field(None, description="secret of that client")
    snowflake_oauth_token_request_url: str | None = Field(None, description="address where it fetches them")
    snowflake_oauth_scope: str | None = Field(None, description="scope to ask for; default: that of the role")
    snowflake_workload_identity_provider: str | None = Field(None, description="OIDC (a token file), AWS, AZURE or GCP")
    snowflake_authenticator: str | None = Field(None, description="how to sign in; default: as the rest implies")
    snowflake_connection_name: str | None = Field(None, description="connection of connections.toml to start from")

    @field_validator("pod_id")
    @classmethod
    def _check_pod_id(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("must be 1 to 128 letters, digits or _ . : -, starting with a letter or digit")
        if value in _RESERVED_POD_IDS:
            raise ValueError("is a name that the fleet itself uses; choose another")
        return value

    @field_validator("handlers", "operators", "viewers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("handlers")
    @classmethod
    def _check_handlers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _MODULE.fullmatch(name):
                raise ValueError(f"{name!r} is not a module name such as myteam.tasks")
        return value

    @field_validator("operators", "viewers")
    @classmethod
    def _check_people(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        access.check_people(value)
        return value

    @field_validator("api_keys")
    @classmethod
    def _check_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            access.parse_keys(value.get_secret_value())
        return value

    @field_validator("sqlite_synchronous")
    @classmethod
    def _check_synchronous(cls, value: str) -> str:
        if value.upper() not in ("FULL", "NORMAL", "EXTRA"):
            raise ValueError("must be FULL, NORMAL or EXTRA")
        return value.upper()

    @field_validator("store")
    @classmethod
    def _check_store(cls, value: str) -> str:
        if value not in ("", "snowflake") and not (value.startswith("sqlite:///") and value != "sqlite:///"):
            raise ValueError("must be sqlite:///PATH (four slashes for an absolute path) or snowflake")
        if value == "sqlite:///:memory:":
            raise ValueError("must name a file: processes share it, and each would see a memory of its own")
        return value

    @field_validator("snowflake_account", "snowflake_host")
    @classmethod
    def _check_host(cls, value: str | None) -> str | None:
        if value is not None and not _HOST.fullmatch(value):
            raise ValueError("must be a name of letters, digits and . _ -, without https:// and without a path")
        return value

    @field_validator("snowflake_database", "snowflake_schema", "snowflake_warehouse", "snowflake_role")
    @classmethod
    def _check_identifier(cls, value: str | None) -> str | None:
        if value is not None and not _IDENTIFIER.fullmatch(value):
            raise ValueError("must be a plain identifier: letters, digits, _ and $, not starting with a digit")
        return value

    @field_validator("snowflake_authenticator")
    @classmethod
    def _check_authenticator(cls, value: str | None) -> str | None:
        if value is not None and value.upper() not in sign_in.AUTHENTICATORS:
            raise ValueError(f"must be one of {', '.join(sign_in.AUTHENTICATORS)}")
        return value.upper() if value else None

    @field_validator("snowflake_workload_identity_provider")
    @classmethod
    def _check_provider(cls, value: str | None) -> str | None:
        if value is not None and value.upper() not in sign_in.PROVIDERS:
            raise ValueError(f"must be one of {', '.join(sign_in.PROVIDERS)}")
        return value.upper() if value else None

    @field_validator("snowflake_oauth_token_request_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("https://"):
            raise ValueError("must be an address with https://, for the client's secret goes there")
        return value

    def model_post_init(self, _: Any) -> None:
        if not self.store:
            chosen = "snowflake" if self.snowflake_account else DEFAULT_SQLITE
            object.__setattr__(self, "store", chosen)

    @property
    def capacity(self) -> int:
        """How many handlers may run at once: max_parallelism × capacity_threshold, at least one."""
        return max(1, int(self.max_parallelism * self.capacity_threshold + 1e-9))

    @property
    def names_people(self) -> bool:
        """Whether people must sign in to the dashboard, and programs need a key to read too."""
        return bool(self.operators or self.viewers)

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """The keys of programs, that of FLEET_Q_API_KEY among them."""
        found = access.parse_keys(self.api_keys.get_secret_value()) if self.api_keys else ()
        if self.api_key is None:
            return found
        everybody = ApiKey(Caller("http", Access.OPERATOR), self.api_key.get_secret_value().encode())
        return (everybody, *found)

    @property
    def sqlite_path(self) -> Path:
        """The database file of the embedded store."""
        return Path(self.store.removeprefix("sqlite:///"))

    @property
    def lease_margin_s(self) -> float:
        """A pod trusts its own lease this much less than the others do, for clocks and slow statements."""
        return min(5.0, max(0.1, self.dead_pod_threshold / 10))

    @property
    def snowflake_sign_in(self) -> str:
        """How to sign in to Snowflake: as SNOWFLAKE_AUTHENTICATOR says, or as what is given implies."""
        return sign_in.authenticator(self._snowflake())

    def snowflake_problems(self) -> list[str]:
        """What is missing to open the Snowflake store, a line each."""
        return sign_in.problems(self._snowflake())

    def snowflake_settings(self) -> dict[str, Any]:
        """The settings as the store's connection takes them. It holds secrets: not for logs."""
        return sign_in.settings(self._snowflake())

    def _snowflake(self) -> dict[str, Any]:
        own = {
            name.removeprefix("snowflake_"): name for name in type(self).model_fields if name.startswith("snowflake_")
        }
        return {driver_name: getattr(self, name) for driver_name, name in own.items()}

    def problems(self) -> list[str]:
        """Settings that are each allowed but do not go together, a line each."""
        found = []
        most_s = self.dead_pod_threshold - self.lease_margin_s
        if self.heartbeat_interval >= most_s:
            found.append(
                f"FLEET_Q_HEARTBEAT_INTERVAL={self.heartbeat_interval:g}: must be less than {most_s:g}, or the pod "
                f"counts as dead between two heartbeats (FLEET_Q_DEAD_POD_THRESHOLD={self.dead_pod_threshold:g})"
            )
        if 0 < self.idle_interval < self.claim_interval:
            found.append(
                f"FLEET_Q_IDLE_INTERVAL={self.idle_interval:g}: must be 0 or at least "
                f"FLEET_Q_CLAIM_INTERVAL={self.claim_interval:g}, which it widens"
            )
        return found

    def warnings(self) -> list[str]:
        """What is legal but doubtful, a line each."""
        found = []
        if self.dead_pod_threshold < 3 * self.heartbeat_interval:
            found.append(
                f"FLEET_Q_DEAD_POD_THRESHOLD={self.dead_pod_threshold:g} is under three heartbeats "
                f"(FLEET_Q_HEARTBEAT_INTERVAL={self.heartbeat_interval:g}): a pod that misses one or two is dead"
            )
        if self.recovery_interval > 10 * self.dead_pod_threshold:
            found.append(
                f"FLEET_Q_RECOVERY_INTERVAL={self.recovery_interval:g} is long against the dead-pod threshold "
                f"({self.dead_pod_threshold:g}): steps of dead pods wait for it"
            )
        if self.sqlite_synchronous == "NORMAL" and self.store != "snowflake":
            found.append("FLEET_Q_SQLITE_SYNCHRONOUS=NORMAL may lose acknowledged steps in a power cut; FULL does not")
        if self.store == "snowflake":
            found += self._warehouse_warnings()
        if self.store == "snowflake" and self.max_payload_bytes > MOST_ON_SNOWFLAKE:
            found.append(
                f"FLEET_Q_MAX_PAYLOAD_BYTES={self.max_payload_bytes} is more than a statement on Snowflake may take "
                f"({MOST_ON_SNOWFLAKE})"
            )
        if self.store == "snowflake" and self.snowflake_sign_in == "SNOWFLAKE":
            found.append("SNOWFLAKE_PASSWORD: Snowflake ends sign-in by password alone; use a key pair or a token")
        return found

    def _warehouse_warnings(self) -> list[str]:
        """Where intervals meet AUTO_SUSPEND so that the warehouse costs more than it need."""
        suspend_s, beat_s = self.warehouse_auto_suspend, self.heartbeat_interval
        if self.rest_after or beat_s <= suspend_s:
            return []  # at rest it sleeps; under a steady heartbeat it never does
        found = []
        if beat_s < suspend_s + LEAST_BILLED_S:
            found.append(
                f"FLEET_Q_HEARTBEAT_INTERVAL={beat_s:g} is a little more than the warehouse's AUTO_SUSPEND "
                f"({suspend_s:g}): each heartbeat starts it anew, for a whole minute"
            )
        busier = {name: getattr(self, name) for name in ("recovery_interval", "sample_interval")}
        for name, seconds in busier.items():
            if seconds <= suspend_s:
                found.append(
                    f"{variable_of(name)}={seconds:g}: keeps the warehouse awake (AUTO_SUSPEND {suspend_s:g}), "
                    f"although FLEET_Q_HEARTBEAT_INTERVAL={beat_s:g} would let it sleep"
                )
        return found


def variable_of(field_name: str) -> str:
    """The environment variable behind a field of Config."""
    return field_name.upper() if field_name.startswith("snowflake_") else f"FLEET_Q_{field_name.upper()}"


def load_config(environ: Mapping[str, str] | None = None, *, env_file: str | Path = ".env", **override: Any) -> Config:
    """Read the settings from `environ` (default: the process's) over `env_file`; `override` wins over both.

    Raises ConfigError with all problems together.
    """
    values = _read_env_file(Path(env_file))
    values.update(os.environ if environ is None else environ)
    known = {variable_of(name): name for name in Config.model_fields}
    problems = _unknown(values, known)
    given: dict[str, Any] = {field: values[variable] for variable, field in known.items() if values.get(variable)}
    given.update(override)
    try:
        given = _named_connection(given, values) | given
    except ConfigError as exc:
        problems += exc.problems
    try:
        config = Config(**given)
    except ValidationError as exc:
        problems += [_describe(error) for error in exc.errors(include_url=False)]
    else:
        problems += config.problems()
    if problems:
        raise ConfigError(problems)
    return config


def _named_connection(given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """What a named connection adds to what is set, where the store is Snowflake. Raises ConfigError.

    With something to sign in with in the environment, nothing of the kind comes from the file: the two do not mix.
    """
    on_snowflake = given.get("store") == "snowflake" or (not given.get("store") and "snowflake_account" in given)
    name = given.get("snowflake_connection_name")
    if name is None and "snowflake_account" not in given:  # the one that other tools take where none is named
        name = environ.get("SNOWFLAKE_DEFAULT_CONNECTION_NAME")
    if not on_snowflake or not name:
        return {}
    found = {
        f"snowflake_{key}": value for key, value in connections_file.read(name, environ.get("SNOWFLAKE_HOME")).items()
    }
    taken = {key: value for key, value in found.items() if key in Config.model_fields and value not in (None, "")}
    if any(f"snowflake_{choice}" in given for choice in sign_in.CHOICES):
        place = {f"snowflake_{key}" for key in sign_in.PLACE}
        taken = {key: value for key, value in taken.items() if key in place}
    return taken | {"snowflake_connection_name": name}


def _read_env_file(path: Path) -> dict[str, str]:
    try:
        return {key: value for key, value in dotenv_values(path).items() if value is not None}
    except UnicodeDecodeError as exc:
        raise ConfigError([f"{path}: is not UTF-8 text ({exc.reason} at byte {exc.start})"]) from exc
    except OSError as exc:
        raise ConfigError([f"{path}: cannot be read: {exc.strerror}"]) from exc


def _unknown(values: Iterable[str], known: Mapping[str, str]) -> list[str]:
    problems = []
    for name in sorted(values):
        if name.startswith("FLEET_Q_") and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            problems.append(f"{name}: is not a setting" + (f"; did you mean {close[0]}?" if close else ""))
    return problems


def _describe(error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    value = "(hidden)" if "SecretStr" in repr(Config.model_fields[name].annotation) else repr(error["input"])
    allowed = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{variable_of(name)}={value}: {allowed}"
