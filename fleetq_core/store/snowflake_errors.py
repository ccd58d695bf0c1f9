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


_AWAY = "check SNOWFLAKE_ACCOUNT (or SNOWFLAKE_HOST), the network and status.snowflake.com"
_SIGN_IN = "check SNOWFLAKE_USER and what it signs in with"
_SCHEMA = "check SNOWFLAKE_DATABASE and SNOWFLAKE_SCHEMA, run `fleetq schema --apply`, and grant the role its tables"

_VERDICTS: dict[int, Verdict] = {
    # the session has ended, and the statement was not begun
    390111: Verdict(StoreUnavailable, "the session is gone", After.SIGN_IN),
    390112: Verdict(StoreUnavailable, "the session has expired", After.SIGN_IN),
    390114: Verdict(StoreUnavailable, "the sign-in has expired", After.SIGN_IN),
    390115: Verdict(StoreUnavailable, "the sign-in is not valid any more", After.SIGN_IN),
    390195: Verdict(StoreUnavailable, "the session is gone", After.SIGN_IN),
    250002: Verdict(StoreUnavailable, "the connection is closed", After.SIGN_IN),
    # no answer: the statement may run, or may have run
    14: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    250001: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    250003: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    250005: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    251011: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    251012: Verdict(StoreUnavailable, _AWAY, After.DOUBT),
    604: Verdict(StoreUnavailable, "somebody cancelled the statement", After.DOUBT),
    630: Verdict(StoreUnavailable, "the warehouse is too busy, to finish it in time", After.DOUBT),
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


def verdict(errno: int | None) -> Verdict:
    """What `errno` means. A number nobody has written down here is a StoreError: trying again would not help."""
    return _VERDICTS.get(errno or 0, _UNKNOWN)


def message(errno: int | None, text: str) -> str:
    """One line for a person: Snowflake's own first line, its number, and the way out."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "unknown error")[:300]
    number = f"{errno:06d}" if errno else "no number"
    advice = verdict(errno).advice
    told = first if number in first else f"{number}: {first}"
    return f"Snowflake: {told}" + (f" ({advice})" if advice else "")
