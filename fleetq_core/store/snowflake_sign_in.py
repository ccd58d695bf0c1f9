"""Signing in to Snowflake with the driver: credentials, limits, the session's profile, and one line when it fails.

Key and token files are read here, at each sign-in, so that they may be renewed while pods run, and a wrong passphrase
sounds the same whichever version of the driver is installed.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import snowflake.connector
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from snowflake.connector.errors import Error as DriverError

from fleetq_core.backoff import full_jitter
from fleetq_core.errors import StoreError
from fleetq_core.sign_in import advice, told

from .snowflake_errors import NO_ANSWER, message, no_answer, verdict
from .snowflake_session import Limits, profile

log = logging.getLogger(__name__)

SAY_AFTER_S = 3.0  # the driver tries again in silence; somebody who waits for a pod should know why
DRIVER_PAUSE_S, DRIVER_MOST_S = 1.0, 4.0  # the driver's own pauses go up to 16 s: too late when the store is back
_REFUSED = range(390_000, 400_000)  # Snowflake's numbers of a sign-in


def open_driver(settings: Mapping[str, Any], limits: Limits, tag: str) -> Any:
    """Sign in as `settings` say (those of `Config.snowflake_settings`), once. Raises StoreError or StoreUnavailable."""
    how = told(settings)
    given = {**_limits(limits), **_credentials(settings, how)}
    with _heard(how):
        try:
            # The paramstyle is named here because Streamlit sets another one for the whole process.
            driver: Any = snowflake.connector.connect(
                **{**given, **_during_login(given)},
                paramstyle="qmark",
                application="FLEETQ",
                autocommit=True,
                session_parameters={**profile(limits), "QUERY_TAG": tag},
            )
        except DriverError as exc:
            raise _refused(exc, settings, how) from exc
        except OSError as exc:
            raise NO_ANSWER.error(f"{no_answer(exc)}: cannot sign in {how}") from exc
    if not _is_5():
        driver._network_timeout, driver._socket_timeout = given["network_timeout"], given["socket_timeout"]
    return driver


def _refused(exc: DriverError, settings: Mapping[str, Any], how: str) -> StoreError:
    said = message(exc.errno, exc.raw_msg or exc.msg or str(exc))
    check_too = f"; {advice(settings)}" if exc.errno in _REFUSED else ""
    return verdict(exc.errno).error(f"{said}: cannot sign in {how}{check_too}")


def _is_5() -> bool:
    return not snowflake.connector.__version__.startswith(("3.", "4."))


def _limits(limits: Limits) -> dict[str, Any]:
    """How long the driver may wait, and how it pauses between its own tries, in the words of its version."""
    if _is_5():
        return {
            "login_timeout": limits.login_s, "query_timeout": limits.network_s, "request_timeout": limits.network_s,
            "connect_timeout": limits.socket_s, "enable_server_session_keep_alive_auto_detection": False,
        }  # fmt: skip
    return {
        "login_timeout": limits.login_s, "network_timeout": limits.network_s, "socket_timeout": limits.socket_s,
        "backoff_policy": driver_pauses,
    }  # fmt: skip


def _during_login(given: Mapping[str, Any]) -> dict[str, Any]:
    """Limits until the sign-in is done.

    Connector 4 has one pair for sign-ins and statements, and tries a sign-in again for as long as `network_timeout`
    says: its `login_timeout` is only looked at between two rounds of that, and by some methods never.
    """
    most_s = given["login_timeout"]
    return {} if _is_5() else {name: min(given[name], most_s) for name in ("network_timeout", "socket_timeout")}


def driver_pauses() -> Iterator[int]:
    """Whole seconds, as the driver wants them."""
    for attempt in itertools.count():
        yield round(full_jitter(attempt, DRIVER_PAUSE_S, DRIVER_MOST_S))


@contextmanager
def _heard(how: str) -> Iterator[None]:
    """Log a line when a sign-in takes long, while it still tries."""
    saying = threading.Timer(
        SAY_AFTER_S, log.warning, ("no answer from Snowflake yet, still trying to sign in %s", how)
    )
    saying.daemon = True
    saying.start()
    try:
        yield
    finally:
        saying.cancel()


def _credentials(settings: Mapping[str, Any], how: str) -> dict[str, Any]:
    """What the driver gets to sign in with; keys and tokens that stand in files are read now."""
    given = {name: value for name, value in settings.items() if name != "connection_name"}  # read already
    key_file, key_text = given.pop("private_key_file", None), given.pop("private_key_raw", None)
    passphrase, token_file = given.pop("private_key_file_pwd", None), given.pop("token_file_path", None)
    try:
        if key_file or key_text:
            given["private_key"] = _key(Path(key_file).read_bytes() if key_file else _pem(key_text), passphrase)
        if token_file:
            given["token"] = Path(token_file).read_text(encoding="utf-8").strip()
            if not given["token"]:
                raise ValueError(f"{token_file} is empty")
    except OSError as exc:
        raise StoreError(f"Snowflake: cannot sign in {how}: {exc.filename}: {exc.strerror}") from exc
    except ValueError as exc:
        raise StoreError(f"Snowflake: cannot sign in {how}: {exc}") from exc
    return given


def _pem(text: str) -> bytes:
    """A key from the environment, where line ends are often written as backslash and n."""
    return text.replace("\\n", "\n").encode()


def _key(pem: bytes, passphrase: str | None) -> bytes:
    """The private key as DER, which every version of the driver takes. Raises ValueError in plain words."""
    if b"PRIVATE KEY" not in pem:
        raise ValueError("that holds no private key in PEM form")
    try:
        key = load_pem_private_key(pem, passphrase.encode() if passphrase else None)
    except TypeError as exc:
        if passphrase:  # and the key is not encrypted: it does not matter
            return _key(pem, None)
        raise ValueError("the key has a passphrase: set SNOWFLAKE_PRIVATE_KEY_FILE_PWD") from exc
    except Exception as exc:
        encrypted = b"ENCRYPTED" in pem
        why = "SNOWFLAKE_PRIVATE_KEY_FILE_PWD is not its passphrase" if encrypted else "the private key cannot be read"
        raise ValueError(why) from exc
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
