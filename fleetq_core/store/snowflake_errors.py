"""What an error of the Snowflake driver means, judged by its number alone.

The same trouble comes as different classes from connector 4 and 5, and one SQLSTATE (57014) stands for a full lock
queue, a timeout and a cancelled statement. Only the number tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fleetq_core.errors import StoreError, StoreUnavailable


class After(Enum):
    """What may follow a failed statement."""

    GIVE_UP = "raise at once"
    WAIT = "the statement did not run: the same again, after a random pause"
    SIGN_IN = "the statement did not run: the same again, on a new session"
    DOUBT = "it may or may not have run: raise, drop the session, and let the caller read by its token"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The error to raise, the way out in words, and what may follow."""

    error: type[StoreError]
    advice: str
    after: After = After.GIVE_UP


HTTP = 290000  # the driver's number of an answer that is not 200: this and the status
_ADDED_TWICE = range(540_000, 590_000)  # the driver adds that to some of its numbers once too often

_AWAY = "check SNOWFLAKE_ACCOUNT (or SNOWFLAKE_HOST), the network and status.snowflake.com"
_SIGN_IN = "check SNOWFLAKE_USER and what it signs in with"
_NO_ACCOUNT = "no account answers there: check SNOWFLAKE_ACCOUNT, SNOWFLAKE_HOST and what stands between"
_SCHEMA = "check SNOWFLAKE_DATABASE and SNOWFLAKE_SCHEMA, run `fleetq schema --apply`, and grant the role its tables"

_VERDICTS: dict[int, Verdict] = {
    # the session has ended, and the statement was not begun
    390111: Verdict(StoreUnavailable, "the session is gone", After.SIGN_IN),
    390112: Verdict(StoreUnavailable, "the session has expired", After.SIGN_IN),
    390114: Verdict(StoreUnavailable, "the sign-in has expired", After.SIGN_IN),
    390115: Verdict(StoreUnavailable, "the sign-in is not valid any more", After.SIGN_IN),
    390195: Verdict(StoreUnavailable, "the session is gone", After.SIGN_IN),
    250002: Verdict(StoreUnavailable, "the connection is closed", After.SIGN_IN),
    252007: Verdict(StoreUnavailable, "the session could not be renewed", After.SIGN_IN),
    HTTP + 401: Verdict(StoreUnavailable, "the session is not known there", After.SIGN_IN),
    # no answer: the statement may run, or may have run
    14: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    250001: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    250003: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    250005: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    251011: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    251010: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    251012: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    252010: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    252013: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    255005: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    604: Verdict(StoreUnavailable, "somebody cancelled the statement", After.DOUBT),
    630: Verdict(StoreUnavailable, "it took too long: the warehouse is busy, or others hold a lock", After.DOUBT),
    # locks and keys
    625: Verdict(StoreUnavailable, "too many statements wait for the lock of a table", After.WAIT),
    200001: Verdict(StoreUnavailable, "the same row was written at the same moment", After.WAIT),
    # not without a person
    606: Verdict(StoreError, "name a warehouse in SNOWFLAKE_WAREHOUSE and grant the role USAGE on it"),
    90073: Verdict(StoreUnavailable, "the warehouse may not start: look at its resource monitor"),
    90105: Verdict(StoreError, "name a database in SNOWFLAKE_DATABASE that the role may use"),
    90106: Verdict(StoreError, "name a schema in SNOWFLAKE_SCHEMA that the role may use"),
    2003: Verdict(StoreError, _SCHEMA),
    2043: Verdict(StoreError, _SCHEMA),
    904: Verdict(StoreError, "the tables are of another version: run `fleetq schema --apply`"),
    3001: Verdict(StoreError, "the role lacks a privilege: docs/snowflake.md lists what to grant"),
    # sign-in
    HTTP + 250001: Verdict(StoreError, _NO_ACCOUNT),  # HTTP 403
    HTTP + 404: Verdict(StoreError, _NO_ACCOUNT),
    251005: Verdict(StoreError, "set SNOWFLAKE_USER"),
    251006: Verdict(StoreError, _SIGN_IN),
    251008: Verdict(StoreError, "SNOWFLAKE_PRIVATE_KEY_FILE holds no private key that can be read"),
    390100: Verdict(StoreError, _SIGN_IN),
    390101: Verdict(StoreError, _SIGN_IN),
    390144: Verdict(StoreError, "the user's RSA_PUBLIC_KEY is not the one of SNOWFLAKE_PRIVATE_KEY_FILE"),
    390189: Verdict(StoreError, "SNOWFLAKE_ROLE does not exist or is not granted to the user"),
    390190: Verdict(StoreError, _SIGN_IN),
    390201: Verdict(StoreError, "check SNOWFLAKE_DATABASE, SNOWFLAKE_SCHEMA and SNOWFLAKE_WAREHOUSE"),
    390303: Verdict(StoreError, "the OAuth token is not valid: check SNOWFLAKE_TOKEN or SNOWFLAKE_TOKEN_FILE_PATH"),
    390318: Verdict(StoreError, "the OAuth token has expired: renew SNOWFLAKE_TOKEN or SNOWFLAKE_TOKEN_FILE_PATH"),
    390422: Verdict(StoreError, "the network policy of the account refuses this address"),
}
_UNKNOWN = Verdict(StoreError, "")
NO_ANSWER = Verdict(StoreUnavailable, _AWAY, After.DOUBT)
_PASSING = frozenset({400, 403, 405, 408, 429})  # and all of 5xx: what the driver itself tries again for a while


def verdict(errno: int | None) -> Verdict:
    """What `errno` means. A number nobody has written down here is a StoreError: trying again would not help."""
    number = errno or 0
    if number in _VERDICTS:
        return _VERDICTS[number]
    number = _once(number)
    status = number - HTTP
    if status in _PASSING or 500 <= status < 600:
        return NO_ANSWER
    return _VERDICTS.get(number, _UNKNOWN)


def _once(number: int) -> int:
    return number - HTTP if number in _ADDED_TWICE and number not in _VERDICTS else number


def message(errno: int | None, text: str) -> str:
    """One line for a person: what Snowflake says, its number, and the way out."""
    said = " ".join(text.split())[:300] or "unknown error"
    number = f"{_once(errno):06d}" if errno else "no number"
    advice = verdict(errno).advice
    told = said if number in said else f"{number}: {said}"
    return f"Snowflake: {told}" + (f" ({advice})" if advice else "")


def no_answer(error: Exception) -> str:
    """The same for a connection that broke in a way for which the driver has no number."""
    said = " ".join(str(error).split())[:300]
    return f"Snowflake: no answer: {type(error).__name__}: {said} ({_AWAY})"
