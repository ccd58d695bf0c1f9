"""Ways to sign in to Snowflake: what the driver is given for each, and the one line of each that fails."""

from __future__ import annotations

import base64
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from snowflake.connector.errors import DatabaseError, OperationalError

from fleetq_core import sign_in as ways
from fleetq_core.config import Config, load_config
from fleetq_core.errors import StoreError, StoreUnavailable
from fleetq_core.store import snowflake_sign_in
from fleetq_core.store.snowflake_connection import SnowflakeConnection, Statement
from fleetq_core.version import VERSION
from tests.support.emulator import server
from tests.support.waiting import eventually

SECRET = "never-printed"
PLACE = {"SNOWFLAKE_ACCOUNT": "acme", "SNOWFLAKE_DATABASE": "db", "SNOWFLAKE_SCHEMA": "s", "FLEET_Q_POD_ID": "pod-1"}
USER = {"SNOWFLAKE_USER": "u"}
PROBE = Statement.of("probe", "SELECT 1")
CLIENT = {
    "SNOWFLAKE_OAUTH_CLIENT_ID": "client", "SNOWFLAKE_OAUTH_CLIENT_SECRET": SECRET,
    "SNOWFLAKE_OAUTH_TOKEN_REQUEST_URL": "https://idp.example/token",
}  # fmt: skip


def load(**environ: str) -> Config:
    return load_config(environ, env_file=os.devnull)


def sign_in(config: Config, role: str) -> SnowflakeConnection:
    """A connection that has run its first statement."""
    db = SnowflakeConnection(config.snowflake_settings(), config.pod_id, role)
    db.rows(PROBE, {})
    return db


class FakeDriver:
    """Plays the driver of a sign-in: refuses with `error`, else shows the parameters that were asked for."""

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.ran: list[str] = []
        self.closed = 0

    def connect(self, **settings: Any) -> FakeDriver:
        self.given.append(settings)
        if self.error:
            raise self.error
        return self

    def cursor(self) -> FakeDriver:
        return self

    def __enter__(self) -> FakeDriver:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    rowcount = 0

    def execute(self, text: str, values: Any = None, _statement_params: Any = None) -> None:
        self.ran.append(f"{_statement_params['QUERY_TAG']}: {text}")

    def fetchall(self) -> list[tuple[str, str]]:
        asked = self.given[-1]["session_parameters"]
        return [(name, str(value)) for name, value in asked.items()] if "SHOW" in self.ran[-1] else []

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    made = FakeDriver()
    monkeypatch.setattr(snowflake_sign_in.snowflake.connector, "connect", made.connect)
    return made


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey, passphrase: str = "") -> bytes:
    kind = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, kind)


def file(folder: Path, name: str, content: bytes | str) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


# -- what the driver is given -----------------------------------------------------------------------------------------

CREDENTIALS = (
    "password", "private_key", "token", "workload_identity_provider", "oauth_client_id", "oauth_client_secret",
    "oauth_token_request_url", "oauth_scope",
)  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "authenticator", "given"),
    [
        (USER | {"SNOWFLAKE_PASSWORD": SECRET}, "SNOWFLAKE", {"password": SECRET}),
        (USER | {"SNOWFLAKE_TOKEN": SECRET}, "PROGRAMMATIC_ACCESS_TOKEN", {"token": SECRET}),
        ({"SNOWFLAKE_TOKEN": SECRET}, "OAUTH", {"token": SECRET}),
        (USER | {"SNOWFLAKE_TOKEN": SECRET, "SNOWFLAKE_AUTHENTICATOR": "oauth"}, "OAUTH", {"token": SECRET}),
        (
            CLIENT | {"SNOWFLAKE_OAUTH_SCOPE": "session:role:X"},
            "OAUTH_CLIENT_CREDENTIALS",
            {
                "oauth_client_id": "client", "oauth_client_secret": SECRET,
                "oauth_token_request_url": "https://idp.example/token", "oauth_scope": "session:role:X",
            },
        ),
        ({"SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER": "aws"}, "WORKLOAD_IDENTITY", {"workload_identity_provider": "AWS"}),
        (
            {"SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER": "GCP", "SNOWFLAKE_TOKEN": SECRET},
            "WORKLOAD_IDENTITY",
            {"workload_identity_provider": "GCP"},
        ),
        (
            {"SNOWFLAKE_AUTHENTICATOR": "WORKLOAD_IDENTITY", "SNOWFLAKE_TOKEN": SECRET},
            "WORKLOAD_IDENTITY",
            {"workload_identity_provider": "OIDC", "token": SECRET},
        ),
        (USER | {"SNOWFLAKE_TOKEN": SECRET, "SNOWFLAKE_PASSWORD": "other"}, "PROGRAMMATIC_ACCESS_TOKEN", {"token": SECRET}),
    ],
)  # fmt: skip
def test_each_method_hands_the_driver_its_own_and_nothing_of_another(
    fake: FakeDriver, environ: dict[str, str], authenticator: str, given: dict[str, str]
) -> None:
    sign_in(load(**PLACE, **environ), "snowpark")
    (told,) = fake.given
    assert told["authenticator"] == authenticator
    assert {name: told[name] for name in CREDENTIALS if name in told} == given
    assert (told["account"], told["autocommit"], told["paramstyle"]) == ("acme", True, "qmark")


@pytest.mark.parametrize("passphrase", ["", "a long one"])
@pytest.mark.parametrize("where", ["file", "raw", "raw_in_one_line"])
def test_a_private_key_comes_from_a_file_or_the_environment(
    fake: FakeDriver, key: rsa.RSAPrivateKey, tmp_path: Path, passphrase: str, where: str
) -> None:
    text = pem(key, passphrase)
    if where == "file":
        environ = {"SNOWFLAKE_PRIVATE_KEY_FILE": file(tmp_path, "k.p8", text)}
    else:
        own = text.decode().replace("\n", "\\n") if where == "raw_in_one_line" else text.decode()
        environ = {"SNOWFLAKE_PRIVATE_KEY_RAW": own}
    sign_in(load(**PLACE, **USER, **environ, SNOWFLAKE_PRIVATE_KEY_FILE_PWD=passphrase or "not needed"), "x")
    (told,) = fake.given
    loaded: Any = load_der_private_key(told["private_key"], None)
    assert loaded.private_numbers() == key.private_numbers()
    assert told["authenticator"] == "SNOWFLAKE_JWT"
    assert not {"private_key_file", "private_key_raw", "private_key_file_pwd"} & set(told)


def test_the_driver_does_not_read_the_named_connection_again(fake: FakeDriver, tmp_path: Path) -> None:
    os.chmod(file(tmp_path, "connections.toml", f'[pods]\naccount = "acme"\ntoken = "{SECRET}"\n'), 0o600)
    here = PLACE | {"SNOWFLAKE_HOME": str(tmp_path), "SNOWFLAKE_CONNECTION_NAME": "pods"}
    sign_in(load(**here), "x")
    assert fake.given[0]["token"] == SECRET
    assert "connection_name" not in fake.given[0]


def test_of_two_keys_the_file_counts_and_only_it_is_named() -> None:
    both = load(**PLACE, **USER, SNOWFLAKE_PRIVATE_KEY_FILE="/k.p8", SNOWFLAKE_PRIVATE_KEY_RAW=SECRET)
    assert ways.told(both.snowflake_settings()) == "with a key pair (SNOWFLAKE_PRIVATE_KEY_FILE=/k.p8) as u to acme"


def test_a_token_file_is_read_at_each_sign_in_and_without_the_line_end(fake: FakeDriver, tmp_path: Path) -> None:
    path = file(tmp_path, "token", "first\n")
    db = SnowflakeConnection(load(**PLACE, SNOWFLAKE_TOKEN_FILE_PATH=path).snowflake_settings(), "pod-1", "beat")
    db.rows(PROBE, {})
    file(tmp_path, "token", "second\n")
    db._drop()
    db.rows(PROBE, {})
    assert [told["token"] for told in fake.given] == ["first", "second"]
    assert all("token_file_path" not in told for told in fake.given)


def test_a_service_inside_snowflake_needs_no_setting(
    fake: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "SERVICE_TOKEN", Path(file(tmp_path, "token", SECRET)))
    platform = PLACE | {"SNOWFLAKE_HOST": "snowflake.internal"}
    sign_in(load(**platform), "x")
    assert (fake.given[0]["authenticator"], fake.given[0]["token"]) == ("OAUTH", SECRET)
    sign_in(load(**platform, **USER, SNOWFLAKE_PASSWORD="own"), "x")  # what is set counts
    assert (fake.given[1]["authenticator"], fake.given[1]["password"]) == ("SNOWFLAKE", "own")
    named = load(**platform, **USER, SNOWFLAKE_TOKEN_FILE_PATH=str(ways.SERVICE_TOKEN))
    assert named.snowflake_sign_in == "OAUTH"  # no access token of that user
    assert load(**PLACE, **USER).snowflake_problems()  # a file of that name elsewhere is none of ours


def test_a_session_has_the_profile_and_a_tag_of_its_role(fake: FakeDriver) -> None:
    sign_in(load(**PLACE, **USER, SNOWFLAKE_TOKEN=SECRET), "snowpark")
    (told,) = fake.given
    profile = told["session_parameters"]
    assert (profile["QUERY_TAG"], profile["TIMEZONE"]) == (f"fleetq pod-1 snowpark {VERSION}", "UTC")
    assert fake.ran == [
        "fleetq pod-1 snowpark session: SHOW PARAMETERS IN SESSION",
        "fleetq pod-1 snowpark probe: SELECT 1",
    ]


@pytest.mark.parametrize(
    "error", [DatabaseError(msg="gone", errno=250003), ConnectionResetError("gone"), ValueError("odd"), None]
)
def test_a_session_that_is_not_as_asked_for_is_closed(
    fake: FakeDriver, error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch() -> list[tuple[str, str]]:
        if error:
            raise error
        return [("AUTOCOMMIT", "false")]

    monkeypatch.setattr(fake, "fetchall", fetch)
    with pytest.raises(type(error) if isinstance(error, ValueError) else StoreError):
        sign_in(load(**PLACE, **USER, SNOWFLAKE_TOKEN=SECRET), "snowpark")
    assert eventually(lambda: fake.closed == 1)


# -- one line of each that fails --------------------------------------------------------------------------------------

TOKEN = USER | {"SNOWFLAKE_TOKEN": SECRET}


@pytest.mark.parametrize(
    ("environ", "error", "raised", "words"),
    [
        (USER | {"SNOWFLAKE_PASSWORD": SECRET}, (390100, "Incorrect username or password was specified."), StoreError,
         ["390100", "with a password (SNOWFLAKE_PASSWORD) as u to acme at sf.example", "take a key pair"]),
        (TOKEN, (390114, "Authentication token has expired."), StoreUnavailable,
         ["390114", "a programmatic access token (SNOWFLAKE_TOKEN)", "SHOW USER PROGRAMMATIC ACCESS TOKENS"]),
        ({"SNOWFLAKE_TOKEN": SECRET}, (390318, "OAuth access token expired."), StoreError,
         ["390318", "with an OAuth token (SNOWFLAKE_TOKEN) to acme", "look at its expiry"]),
        (CLIENT, (390303, "Invalid OAuth access token."), StoreError,
         ["390303", "OAuth client credentials (SNOWFLAKE_OAUTH_CLIENT_ID=client, SNOWFLAKE_OAUTH_CLIENT_SECRET,"]),
        ({"SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER": "AWS"}, (390100, "no such identity"), StoreError,
         ["a workload identity (SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER=AWS)", "issuer, subject"]),
        (TOKEN, (390189, "Role 'X' is not granted to this user."), StoreError, ["390189", "SNOWFLAKE_ROLE"]),
        (TOKEN, (390422, "Incoming request with IP 10.0.0.1 is not allowed."), StoreError, ["network policy"]),
        (TOKEN, (250001, "Could not connect to Snowflake backend"), StoreUnavailable,
         ["250001", "SNOWFLAKE_ACCOUNT", "as u to acme at sf.example"]),
    ],
)  # fmt: skip
def test_a_refused_sign_in_is_one_line_with_the_method_and_what_to_check(
    fake: FakeDriver, environ: dict[str, str], error: tuple[int, str], raised: type, words: list[str]
) -> None:
    fake.error = (OperationalError if error[0] == 250001 else DatabaseError)(msg=error[1], errno=error[0])
    config = load(**PLACE, **environ, SNOWFLAKE_HOST="sf.example")
    with pytest.raises(StoreError) as caught:
        sign_in(config, "x")
    line = str(caught.value)
    assert type(caught.value) is raised
    assert error[1][:20] in line
    assert [word for word in words if word not in line] == []
    assert "\n" not in line
    assert SECRET not in line
    assert len(line) < 500


def test_a_sign_in_that_breaks_off_says_what_it_tried(fake: FakeDriver) -> None:
    fake.error = ConnectionResetError("reset by peer")
    db = SnowflakeConnection(load(**PLACE, **TOKEN).snowflake_settings(), "pod-1")
    with pytest.raises(StoreUnavailable, match=r"no answer: .*reset by peer.*: cannot sign in with a programmatic"):
        db.rows(PROBE, {})


def test_what_is_wrong_with_a_key_is_said_without_a_piece_of_it(
    fake: FakeDriver, key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    def line(content: bytes | str, **more: str) -> str:
        path = file(tmp_path, "k.p8", content)
        config = load(**PLACE, **USER, SNOWFLAKE_PRIVATE_KEY_FILE=path, **more)
        with pytest.raises(StoreError) as caught:
            sign_in(config, "x")
        assert f"with a key pair (SNOWFLAKE_PRIVATE_KEY_FILE={path}" in str(caught.value)
        return str(caught.value)

    locked = pem(key, "right")
    assert "set SNOWFLAKE_PRIVATE_KEY_FILE_PWD" in line(locked)
    wrong = line(locked, SNOWFLAKE_PRIVATE_KEY_FILE_PWD=SECRET)
    assert "SNOWFLAKE_PRIVATE_KEY_FILE_PWD is not its passphrase" in wrong
    assert SECRET not in wrong
    assert "holds no private key in PEM form" in line("never-mind")
    broken = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"
    assert "the private key cannot be read" in line(broken)
    assert SECRET not in line(broken)
    assert fake.given == []


def test_a_file_that_goes_away_or_is_empty_is_named(fake: FakeDriver, tmp_path: Path) -> None:
    path = file(tmp_path, "token", " \n")
    settings = load(**PLACE, SNOWFLAKE_TOKEN_FILE_PATH=path).snowflake_settings()
    with pytest.raises(StoreError, match=f"OAuth token .SNOWFLAKE_TOKEN_FILE_PATH={path}. to acme: {path} is empty"):
        SnowflakeConnection(settings, "pod-1").rows(PROBE, {})
    os.unlink(path)
    with pytest.raises(StoreError, match=f"{path}: No such file"):
        SnowflakeConnection(settings, "pod-1").rows(PROBE, {})
    assert fake.given == []


def test_somebody_who_waits_is_told_while_the_driver_still_tries(
    fake: FakeDriver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = threading.Event()
    told_line = "still trying to sign in with a programmatic access token"

    def slow(**_: Any) -> None:
        eventually(lambda: told_line in caplog.text)
        told.set()
        raise OperationalError(msg="Could not connect", errno=250001)

    monkeypatch.setattr(snowflake_sign_in, "SAY_AFTER_S", 0.01)
    monkeypatch.setattr(snowflake_sign_in.snowflake.connector, "connect", slow)
    with caplog.at_level(logging.WARNING), pytest.raises(StoreUnavailable):
        sign_in(load(**PLACE, **TOKEN), "x")
    assert told.is_set()
    assert SECRET not in caplog.text


# -- on connector 5 ---------------------------------------------------------------------------------------------------


def test_connector_5_gets_limits_in_its_own_words(fake: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snowflake_sign_in.snowflake.connector, "__version__", "5.2.0")
    sign_in(load(**PLACE, **TOKEN), "x")
    (told,) = fake.given
    assert (told["login_timeout"], told["query_timeout"], told["request_timeout"]) == (10, 90, 90)
    assert not {"network_timeout", "socket_timeout", "backoff_policy"} & set(told)


# -- real sign-ins over HTTP ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulator() -> Any:
    with server() as settings:
        yield settings


@pytest.fixture
def there(emulator: dict[str, Any]) -> Callable[..., Config]:
    place = {f"SNOWFLAKE_{name.upper()}": str(value) for name, value in emulator.items() if name != "password"}
    return lambda **more: load(**{**place, "FLEET_Q_POD_ID": "pod-1"}, **more)


def test_the_driver_takes_each_kind_and_the_session_is_in_force(
    there: Callable[..., Config], key: rsa.RSAPrivateKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = [
        {"SNOWFLAKE_PASSWORD": SECRET}, {"SNOWFLAKE_TOKEN": SECRET},
        {"SNOWFLAKE_TOKEN": SECRET, "SNOWFLAKE_AUTHENTICATOR": "OAUTH"},
        {"SNOWFLAKE_TOKEN_FILE_PATH": file(tmp_path, "token", SECRET)},
        {"SNOWFLAKE_PRIVATE_KEY_FILE": file(tmp_path, "k.p8", pem(key, "p")), "SNOWFLAKE_PRIVATE_KEY_FILE_PWD": "p"},
        {"SNOWFLAKE_PRIVATE_KEY_RAW": pem(key).decode()},
    ]  # fmt: skip
    for kind in kinds:
        db = sign_in(there(**kind), "claim")
        assert db.rows(PROBE, {}) == [(1,)]
        db.close()
    assert [record for record in caplog.records if record.name.startswith("fleetq")] == []


def test_a_key_pair_signs_a_token_for_the_user_and_the_account(
    there: Callable[..., Config], key: rsa.RSAPrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snowflake.connector.auth.keypair import AuthByKeyPair

    bodies: list[dict[str, Any]] = []
    update = AuthByKeyPair.update_body
    monkeypatch.setattr(
        AuthByKeyPair, "update_body", lambda self, body: (update(self, body), bodies.append(body["data"]))[0]
    )
    sign_in(there(SNOWFLAKE_PRIVATE_KEY_FILE=file(tmp_path, "k.p8", pem(key))), "x").close()
    (body,) = bodies
    claims = jwt.decode(body["TOKEN"], key.public_key(), algorithms=["RS256"])
    assert body["AUTHENTICATOR"] == "SNOWFLAKE_JWT"
    assert claims["sub"] == "FAKESNOW.FAKE"
    assert base64.b64decode(claims["iss"].split("SHA256:")[1])


def test_the_real_server_shows_what_a_session_was_set_to(
    there: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    db = SnowflakeConnection(there(SNOWFLAKE_PASSWORD=SECRET).snowflake_settings(), "pod-1", "claim")
    db.use_hybrid()
    found = dict(row[:2] for row in db.rows(Statement.of("look", "SHOW PARAMETERS IN SESSION"), {}))
    db.close()
    assert (found["AUTOCOMMIT"], found["TIMEZONE"], found["LOCK_TIMEOUT"]) == ("true", "UTC", "20")
    assert (found["READ_LATEST_WRITES"], found["HYBRID_TABLE_LOCK_TIMEOUT"]) == ("true", "20")
    assert [record for record in caplog.records if record.name.startswith("fleetq")] == []
