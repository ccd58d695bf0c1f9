"""Settings: what an operator may write, and what is said about a mistake."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fleetq_core.config import DEFAULT_SQLITE, Config, load_config, variable_of
from fleetq_core.connect import connect
from fleetq_core.connections_file import folder
from fleetq_core.errors import ConfigError
from fleetq_core.sign_in import told

# The names and defaults of the specification.
SPECIFIED = {
    "FLEET_Q_HEARTBEAT_INTERVAL": 10,
    "FLEET_Q_CLAIM_INTERVAL": 5,
    "FLEET_Q_RECOVERY_INTERVAL": 30,
    "FLEET_Q_MAX_PARALLELISM": 8,
    "FLEET_Q_CAPACITY_THRESHOLD": 0.8,
    "FLEET_Q_DEAD_POD_THRESHOLD": 60,
    "FLEET_Q_MAX_RETRIES": 3,
}
SECRET = "hunter2-correct-horse"
NUMERIC_SECRET = 123456789
SECRETS = (
    "api_key", "snowflake_password", "snowflake_token", "snowflake_private_key_raw", "snowflake_private_key_file_pwd",
    "snowflake_oauth_client_secret",
)  # fmt: skip
NUMBER, WHOLE = "must be a valid number", "must be a valid integer"
FINITE = "must be a finite number"


def load(env_file: str | Path = "there-is-no-such-file", override: Any = None, **environ: str) -> Config:
    return load_config(environ, env_file=env_file, **(override or {}))


def problems_of(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(**environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


# -- defaults and values ----------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_specification() -> None:
    config = load()
    assert {name: getattr(config, name.removeprefix("FLEET_Q_").lower()) for name in SPECIFIED} == SPECIFIED
    assert (config.store, config.api_key, config.handlers) == ("sqlite:///.fleetq/fleetq.db", None, ())
    assert config.warnings() == []


def test_every_variable_of_the_specification_is_read() -> None:
    environ = dict.fromkeys(SPECIFIED, "1") | {"FLEET_Q_POD_ID": "pod-001"}
    environ |= {f"SNOWFLAKE_{x}": x.lower() for x in ("ACCOUNT", "USER", "PASSWORD", "DATABASE", "SCHEMA", "WAREHOUSE")}
    environ |= {"FLEET_Q_HEARTBEAT_INTERVAL": "0.5"}
    config = load(**environ)
    assert [getattr(config, name.removeprefix("FLEET_Q_").lower()) for name in SPECIFIED] == [0.5, 1, 1, 1, 1, 1, 1]
    assert config.pod_id == "pod-001"
    assert (config.snowflake_account, config.snowflake_user, config.snowflake_database) == (
        "account",
        "user",
        "database",
    )
    assert (config.snowflake_schema, config.snowflake_warehouse) == ("schema", "warehouse")
    assert config.snowflake_password is not None
    assert config.snowflake_password.get_secret_value() == "password"


@pytest.mark.parametrize("name", [x for x in Config.model_fields if x.endswith(("_interval", "_threshold"))])
def test_intervals_and_thresholds_may_be_fractions(name: str) -> None:
    short = {"FLEET_Q_HEARTBEAT_INTERVAL": "0.1", "FLEET_Q_CLAIM_INTERVAL": "0.1"}  # the others must fit to them
    assert getattr(load(**short | {variable_of(name): "0.25"}), name) == 0.25


def test_an_empty_value_means_the_default() -> None:
    config = load(FLEET_Q_MAX_RETRIES="", FLEET_Q_API_KEY="", FLEET_Q_STORE="", SNOWFLAKE_ACCOUNT="")
    assert (config.max_retries, config.api_key, config.store) == (3, None, load().store)


def test_handlers_are_module_names_between_commas() -> None:
    assert load(FLEET_Q_HANDLERS=" mytasks, team.more_tasks ,,").handlers == ("mytasks", "team.more_tasks")


@pytest.mark.parametrize("host", ["web_1.example.com", "-edge-", "fünf", "", "ö", "a" * 250])
def test_the_default_pod_id_is_the_host_and_something_random(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    first, second = load().pod_id, load().pod_id
    assert first != second
    assert first.rpartition("-")[0] == second.rpartition("-")[0] != ""
    assert load(FLEET_Q_POD_ID=first).pod_id == first  # it is a name that one could also set


CAPACITIES = [(8, 0.8, 6), (10, 0.7, 7), (1, 0.1, 1), (3, 0.34, 1), (1024, 1.0, 1024)]


@pytest.mark.parametrize(("slots", "share", "capacity"), CAPACITIES)
def test_capacity_is_the_whole_part_of_the_share_and_at_least_one(slots: int, share: float, capacity: int) -> None:
    assert Config(max_parallelism=slots, capacity_threshold=share).capacity == capacity


def test_what_the_caller_gives_wins_over_the_environment() -> None:
    assert load(override={"pod_id": "given"}, FLEET_Q_POD_ID="from-the-environment").pod_id == "given"


def test_a_config_is_frozen() -> None:
    config = load()
    with pytest.raises(ValidationError, match="frozen"):
        config.max_retries = 4  # type: ignore[misc]
    assert config.max_retries == 3


# -- .env -------------------------------------------------------------------------------------------------------------


def test_a_dotenv_file_of_the_working_directory_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("FLEET_Q_POD_ID=pod-file\nFLEET_Q_MAX_RETRIES=9\n")
    monkeypatch.setenv("FLEET_Q_MAX_RETRIES", "5")
    config = load_config()
    assert (config.pod_id, config.max_retries) == ("pod-file", 5)


def test_the_exports_that_the_specification_prints_are_a_legal_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# Required\n"
        'export FLEET_Q_POD_ID="pod-001"  # Unique identifier for this pod\n'
        'export SNOWFLAKE_PASSWORD="your_password"\n'
        'export FLEET_Q_HEARTBEAT_INTERVAL="12"       # seconds\n'
    )
    config = load(env_file=tmp_path / ".env")
    assert (config.pod_id, config.heartbeat_interval) == ("pod-001", 12)


def test_mistakes_in_a_dotenv_file_are_reported_like_others(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FLEET_Q_MAX_RETRYS=1\nFLEET_Q_CLAIM_INTERVAL=soon\nOTHER_PROGRAM=x\n")
    with pytest.raises(ConfigError) as caught:
        load(env_file=tmp_path / ".env")
    assert [line.partition(":")[0] for line in caught.value.problems] == [
        "FLEET_Q_MAX_RETRYS",
        "FLEET_Q_CLAIM_INTERVAL='soon'",
    ]


def test_a_dotenv_file_that_is_not_utf_8_is_a_problem_with_a_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("FLEET_Q_POD_ID=pod\n# für später\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"\.env") as caught:
        load(env_file=tmp_path / ".env")
    assert len(caught.value.problems) == 1


def test_a_byte_order_mark_does_not_hide_the_first_setting_of_a_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfFLEET_Q_POD_ID=pod-first\n")
    assert load(env_file=tmp_path / ".env").pod_id == "pod-first"


# -- mistakes ---------------------------------------------------------------------------------------------------------


def bad_seconds() -> list[tuple[str, str, str]]:
    names = (
        "HEARTBEAT_INTERVAL", "CLAIM_INTERVAL", "RECOVERY_INTERVAL", "DEAD_POD_THRESHOLD", "RETRY_BASE_DELAY",
        "RETRY_MAX_DELAY", "SAMPLE_INTERVAL", "SQLITE_BUSY_TIMEOUT",
    )  # fmt: skip
    values = {
        "0": "must be greater than 0",
        "-1": "must be greater than 0",
        "86401": "must be less than or equal to 86400",
        "nan": FINITE,
        "inf": FINITE,
        "5s": NUMBER,
    }
    return [(f"FLEET_Q_{name}", value, allowed) for name in names for value, allowed in values.items()]


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        *bad_seconds(),
        ("FLEET_Q_MAX_PARALLELISM", "0", "must be greater than or equal to 1"),
        ("FLEET_Q_MAX_PARALLELISM", "1025", "must be less than or equal to 1024"),
        ("FLEET_Q_MAX_PARALLELISM", "2.5", WHOLE),
        ("FLEET_Q_MAX_PARALLELISM", "many", WHOLE),
        ("FLEET_Q_CAPACITY_THRESHOLD", "0", "must be greater than 0"),
        ("FLEET_Q_CAPACITY_THRESHOLD", "80", "must be less than or equal to 1"),
        ("FLEET_Q_CAPACITY_THRESHOLD", "nan", "must be less than or equal to 1"),
        ("FLEET_Q_CAPACITY_THRESHOLD", "80%", NUMBER),
        ("FLEET_Q_MAX_RETRIES", "-1", "must be greater than or equal to 0"),
        ("FLEET_Q_MAX_RETRIES", "1001", "must be less than or equal to 1000"),
        ("FLEET_Q_CLAIM_AHEAD", "-1", "must be greater than or equal to 0"),
        ("FLEET_Q_CLAIM_AHEAD", "100001", "must be less than or equal to 100000"),
        ("FLEET_Q_STOP_GRACE", "-0.1", "must be greater than or equal to 0"),
        ("FLEET_Q_STOP_GRACE", "nan", "must be less than or equal to 3600"),
        ("FLEET_Q_MAX_PAYLOAD_BYTES", "1023", "must be greater than or equal to 1024"),
        ("FLEET_Q_MAX_PAYLOAD_BYTES", "1GB", WHOLE),
        ("FLEET_Q_RETENTION_DAYS", "0", "must be greater than 0"),
        ("FLEET_Q_FAILED_RETENTION_DAYS", "0", "must be greater than 0"),
        ("FLEET_Q_FAILED_RETENTION_DAYS", "forever", NUMBER),
        ("FLEET_Q_POD_ID", "pod 1", "letters, digits"),
        ("FLEET_Q_POD_ID", "*", "letters, digits"),  # as the target of an order it means all pods
        ("FLEET_Q_POD_ID", "leader", ""),  # as the target of an order it means whoever leads
        ("FLEET_Q_POD_ID", "../pod", "letters, digits"),
        ("FLEET_Q_POD_ID", "x" * 129, "1 to 128"),
        ("FLEET_Q_STORE", "postgres://host/db", "must be sqlite:///PATH"),
        ("FLEET_Q_STORE", "sqlite://fleetq.db", "must be sqlite:///PATH"),
        ("FLEET_Q_STORE", "sqlite:///", "must be sqlite:///PATH"),
        ("FLEET_Q_STORE", "fleetq.db", "or snowflake"),
        ("FLEET_Q_STORE", "Snowflake", "or snowflake"),
        ("FLEET_Q_STORE", "sqlite:///:memory:", ""),  # each connection would see a queue of its own
        ("FLEET_Q_HANDLERS", "tasks.py, my-tasks", "'my-tasks' is not a module name"),
        ("FLEET_Q_SQLITE_SYNCHRONOUS", "OFF", "must be FULL, NORMAL or EXTRA"),
    ],
)
def test_a_bad_value_is_one_line_with_variable_value_and_what_is_allowed(
    variable: str, value: str, allowed: str
) -> None:
    (line,) = problems_of(**{variable: value})
    name, _, said = line.partition(": ")
    assert (name, "\n" in line) == (f"{variable}={value!r}", False)
    assert allowed in said
    assert said


def test_all_problems_are_reported_together_a_line_each() -> None:
    lines = problems_of(
        FLEET_Q_CLAIM_INTERVAL="soon", FLEET_Q_MAX_RETRIES="-1", FLEET_Q_STORE="mysql", FLEET_Q_POD_IDD="x"
    )
    assert sorted(line.partition(":")[0] for line in lines) == [
        "FLEET_Q_CLAIM_INTERVAL='soon'",
        "FLEET_Q_MAX_RETRIES='-1'",
        "FLEET_Q_POD_IDD",
        "FLEET_Q_STORE='mysql'",
    ]


MISSPELT = {
    "FLEET_Q_PODID": "FLEET_Q_POD_ID",
    "FLEET_Q_HEARTBEAT_INTERVALL": "FLEET_Q_HEARTBEAT_INTERVAL",
    "FLEET_Q_MAX_PARALELISM": "FLEET_Q_MAX_PARALLELISM",
    "FLEET_Q_DEAD_POD_TRESHOLD": "FLEET_Q_DEAD_POD_THRESHOLD",
}


@pytest.mark.parametrize(("misspelt", "meant"), MISSPELT.items())
def test_a_misspelt_name_gets_a_suggestion(misspelt: str, meant: str) -> None:
    assert problems_of(**{misspelt: "1"}) == [f"{misspelt}: is not a setting; did you mean {meant}?"]


def test_variables_of_other_programs_are_no_business_of_ours() -> None:
    assert load(FLEETQ="x", PATH="/bin", SNOWFLAKE_HOME="/root/.snowflake").max_retries == 3


# -- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_kept_but_never_printed(name: str) -> None:
    config = load(**{variable_of(name): SECRET})
    field = getattr(config, name)
    assert field is not None
    assert field.get_secret_value() == SECRET
    for text in (repr(config), str(config), f"{config}", str(config.model_dump()), config.model_dump_json()):
        assert SECRET not in text


def test_errors_do_not_print_secrets() -> None:
    with pytest.raises(ConfigError) as caught:
        load(FLEET_Q_API_KEY=SECRET, SNOWFLAKE_PASSWORD=SECRET, FLEET_Q_APIKEY=SECRET, FLEET_Q_MAX_RETRIES="x")
    assert len(caught.value.problems) == 2
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("field", SECRETS)
def test_a_bad_secret_is_named_and_hidden(field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(override={field: NUMERIC_SECRET})
    assert caught.value.problems == [f"{variable_of(field)}=(hidden): must be a valid string"]
    assert str(NUMERIC_SECRET) not in "".join(traceback.format_exception(caught.value))


# -- doubtful values --------------------------------------------------------------------------------------------------


# A fleet on Snowflake whose heartbeat lets the warehouse sleep in between.
SLEEPY = {
    "FLEET_Q_STORE": "snowflake", "SNOWFLAKE_TOKEN": "t", "SNOWFLAKE_USER": "u", "FLEET_Q_DEAD_POD_THRESHOLD": "900",
    "FLEET_Q_HEARTBEAT_INTERVAL": "300", "FLEET_Q_RECOVERY_INTERVAL": "300", "FLEET_Q_SAMPLE_INTERVAL": "300",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"FLEET_Q_DEAD_POD_THRESHOLD": "29"}, "FLEET_Q_DEAD_POD_THRESHOLD=29 is under three heartbeats"),
        ({"FLEET_Q_HEARTBEAT_INTERVAL": "20.5"}, "(FLEET_Q_HEARTBEAT_INTERVAL=20.5)"),
        (
            SLEEPY | {"FLEET_Q_HEARTBEAT_INTERVAL": "119"},
            "HEARTBEAT_INTERVAL=119 is a little more than the warehouse's",
        ),
        (SLEEPY | {"FLEET_Q_SAMPLE_INTERVAL": "60"}, "FLEET_Q_SAMPLE_INTERVAL=60: keeps the warehouse awake"),
        (SLEEPY | {"FLEET_Q_RECOVERY_INTERVAL": "60"}, "FLEET_Q_RECOVERY_INTERVAL=60: keeps the warehouse awake"),
        ({"FLEET_Q_RECOVERY_INTERVAL": "601"}, "FLEET_Q_RECOVERY_INTERVAL=601 is long"),
        ({"FLEET_Q_SQLITE_SYNCHRONOUS": "normal"}, "FLEET_Q_SQLITE_SYNCHRONOUS=NORMAL may lose"),
    ],
)
def test_a_doubtful_value_is_legal_and_warned_of(environ: dict[str, str], named: str) -> None:
    (line,) = load(**environ).warnings()
    assert named in line


def test_values_at_the_edge_are_not_warned_of() -> None:
    config = load(FLEET_Q_DEAD_POD_THRESHOLD="30", FLEET_Q_RECOVERY_INTERVAL="300", FLEET_Q_SQLITE_SYNCHRONOUS="EXTRA")
    assert config.warnings() == []
    assert load(**SLEEPY).warnings() == []
    assert load(**SLEEPY | {"FLEET_Q_SAMPLE_INTERVAL": "5", "FLEET_Q_REST_AFTER": "600"}).warnings() == []


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        (
            {"FLEET_Q_HEARTBEAT_INTERVAL": "55"},
            "FLEET_Q_HEARTBEAT_INTERVAL=55: must be less than 55, or the pod counts",
        ),
        ({"FLEET_Q_DEAD_POD_THRESHOLD": "10"}, "FLEET_Q_HEARTBEAT_INTERVAL=10: must be less than 9, or"),
        ({"FLEET_Q_IDLE_INTERVAL": "4"}, "FLEET_Q_IDLE_INTERVAL=4: must be 0 or at least FLEET_Q_CLAIM_INTERVAL=5"),
    ],
)
def test_intervals_that_cannot_work_together_stop_the_start(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**environ)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(problem)


def test_intervals_that_just_fit_are_taken() -> None:
    assert load(FLEET_Q_HEARTBEAT_INTERVAL="54.9", FLEET_Q_IDLE_INTERVAL="5").heartbeat_interval == 54.9


# -- the choice of the store ------------------------------------------------------------------------------------------


def test_a_snowflake_account_chooses_snowflake_unless_a_store_is_named() -> None:
    assert load(SNOWFLAKE_ACCOUNT="acme").store == "snowflake"
    assert load(SNOWFLAKE_ACCOUNT="acme", FLEET_Q_STORE="sqlite:///x.db").store == "sqlite:///x.db"


SIGN_IN = {"SNOWFLAKE_USER": "u", "SNOWFLAKE_PASSWORD": SECRET}
PLACE = {"SNOWFLAKE_ACCOUNT": "acme", "SNOWFLAKE_DATABASE": "db", "SNOWFLAKE_SCHEMA": "s"}


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({}, ["ACCOUNT", "DATABASE", "SCHEMA", "USER", "PRIVATE_KEY_FILE"]),
        (PLACE, ["USER", "PRIVATE_KEY_FILE"]),
        (PLACE | SIGN_IN, []),
        (SIGN_IN, ["ACCOUNT", "DATABASE", "SCHEMA"]),
        (PLACE | {"SNOWFLAKE_TOKEN": "t"}, []),
        (PLACE | {"SNOWFLAKE_TOKEN_FILE_PATH": "/no/such/file"}, ["TOKEN_FILE_PATH"]),
        (PLACE | {"SNOWFLAKE_USER": "u", "SNOWFLAKE_PRIVATE_KEY_FILE": "/no/such/key"}, ["PRIVATE_KEY_FILE"]),
        (PLACE | SIGN_IN | {"SNOWFLAKE_AUTHENTICATOR": "snowflake_jwt"}, ["PRIVATE_KEY_FILE"]),
        (PLACE | SIGN_IN | {"SNOWFLAKE_AUTHENTICATOR": "OAUTH"}, ["TOKEN"]),
        (PLACE | {"SNOWFLAKE_OAUTH_CLIENT_ID": "c"}, ["OAUTH_CLIENT_SECRET", "OAUTH_TOKEN_REQUEST_URL"]),
        (PLACE | {"SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER": "OIDC"}, ["TOKEN"]),
        (PLACE | {"SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER": "AZURE"}, []),
        (PLACE | {"SNOWFLAKE_PRIVATE_KEY_RAW": "k"}, ["USER"]),
        (PLACE | SIGN_IN | {"SNOWFLAKE_TOKEN_FILE_PATH": "/no/such", "SNOWFLAKE_AUTHENTICATOR": "SNOWFLAKE"}, []),
    ],
)
def test_what_the_snowflake_store_lacks_is_named_a_line_each(environ: dict[str, str], missing: list[str]) -> None:
    config = load(FLEET_Q_STORE="snowflake", **environ)
    found = config.snowflake_problems()
    assert [re.match(r"SNOWFLAKE_([A-Z_]+)", line).group(1) for line in found] == missing  # type: ignore[union-attr]
    assert SECRET not in "".join(found)
    if missing:
        with pytest.raises(ConfigError) as caught:
            connect(config)
        assert caught.value.problems == found


@pytest.mark.parametrize(
    ("environ", "sign_in", "given"),
    [
        (SIGN_IN, "SNOWFLAKE", {"password": SECRET}),
        ({"SNOWFLAKE_PRIVATE_KEY_FILE": "/k.p8"}, "SNOWFLAKE_JWT", {"private_key_file": "/k.p8"}),
        ({"SNOWFLAKE_USER": "u", "SNOWFLAKE_TOKEN": SECRET}, "PROGRAMMATIC_ACCESS_TOKEN", {"token": SECRET}),
        ({"SNOWFLAKE_TOKEN_FILE_PATH": "/t"}, "OAUTH", {"token_file_path": "/t"}),
        (
            {"SNOWFLAKE_AUTHENTICATOR": "workload_identity", "SNOWFLAKE_TOKEN_FILE_PATH": "/t"},
            "WORKLOAD_IDENTITY",
            {"token_file_path": "/t", "workload_identity_provider": "OIDC"},
        ),
    ],
)
def test_how_to_sign_in_follows_from_what_is_given(
    environ: dict[str, str], sign_in: str, given: dict[str, str]
) -> None:
    settings = load(**PLACE, **environ).snowflake_settings()
    secrets = ("password", "private_key_file", "token", "token_file_path", "workload_identity_provider")
    assert settings["authenticator"] == sign_in
    assert {name: settings[name] for name in secrets if name in settings} == given
    assert (settings["account"], settings["port"], settings["protocol"]) == ("acme", 443, "https")
    assert "role" not in settings


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("ACCOUNT", "https://acme.snowflakecomputing.com", "without https://"),
        ("DATABASE", "my-db", "plain identifier"),
        ("ROLE", 'x"; DROP', "plain identifier"),
        ("PORT", "0", "greater than or equal to 1"),
        ("PROTOCOL", "ftp", "'https' or 'http'"),
        ("AUTHENTICATOR", "externalbrowser", "must be one of SNOWFLAKE, SNOWFLAKE_JWT"),
        ("WORKLOAD_IDENTITY_PROVIDER", "heroku", "must be one of OIDC, AWS, AZURE, GCP"),
        ("OAUTH_TOKEN_REQUEST_URL", "http://idp.example", "https://"),
    ],
)
def test_a_bad_snowflake_setting_is_one_line(name: str, value: str, allowed: str) -> None:
    (line,) = problems_of(**{f"SNOWFLAKE_{name}": value})
    assert line.startswith(f"SNOWFLAKE_{name}={value!r}: ")
    assert allowed in line


# -- a named connection -----------------------------------------------------------------------------------------------

CONNECTIONS = f"""
[pods]
account = "acme"
user = "svc"
database = "FLEETQ"
schema = "QUEUE"
private_key_path = "/k.p8"
private_key_passphrase = "{SECRET}"
client_session_keep_alive = true
port = 8443
[people]
account = "acme"
authenticator = "externalbrowser"
[spaced]
account = "acme"
database = "my db"
"""
NAMED = {"FLEET_Q_STORE": "snowflake", "SNOWFLAKE_CONNECTION_NAME": "pods"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "connections.toml"
    path.write_text(CONNECTIONS)
    path.chmod(0o600)
    return tmp_path


def test_a_named_connection_gives_the_place_and_the_way_in(home: Path) -> None:
    config = load(**NAMED, SNOWFLAKE_HOME=str(home))
    settings = config.snowflake_settings()
    assert (settings["account"], settings["user"], settings["port"]) == ("acme", "svc", 8443)
    assert (config.snowflake_database, config.snowflake_schema) == ("FLEETQ", "QUEUE")
    assert (settings["authenticator"], settings["private_key_file"]) == ("SNOWFLAKE_JWT", "/k.p8")
    assert settings["private_key_file_pwd"] == SECRET
    assert SECRET not in repr(config)
    assert "(SNOWFLAKE_PRIVATE_KEY_FILE=/k.p8, SNOWFLAKE_PRIVATE_KEY_FILE_PWD, connection 'pods')" in told(settings)


def test_what_is_set_wins_over_the_named_connection_and_ways_in_do_not_mix(home: Path) -> None:
    own = {"SNOWFLAKE_HOME": str(home), "SNOWFLAKE_SCHEMA": "OTHER", "SNOWFLAKE_USER": "me", "SNOWFLAKE_TOKEN": "t"}
    settings = load(**NAMED, **own).snowflake_settings()
    assert (settings["account"], settings["schema"], settings["user"]) == ("acme", "OTHER", "me")
    assert (settings["authenticator"], settings["token"]) == ("PROGRAMMATIC_ACCESS_TOKEN", "t")
    assert not {"private_key_file", "private_key_file_pwd"} & set(settings)
    passphrase = load(**NAMED, SNOWFLAKE_HOME=str(home), SNOWFLAKE_PRIVATE_KEY_FILE_PWD="own").snowflake_settings()
    assert (passphrase["private_key_file"], passphrase["private_key_file_pwd"]) == ("/k.p8", "own")


def test_config_toml_counts_where_there_is_no_other_file_and_a_default_name_where_no_account_is_set(
    tmp_path: Path, home: Path
) -> None:
    (home / "connections.toml").rename(home / "kept")
    (home / "config.toml").write_text('[connections.dev]\naccount = "dev"\n')
    (home / "config.toml").chmod(0o600)
    where = {"SNOWFLAKE_HOME": str(home), "SNOWFLAKE_DEFAULT_CONNECTION_NAME": "dev"}
    assert load(FLEET_Q_STORE="snowflake", **where).snowflake_account == "dev"
    assert load(SNOWFLAKE_ACCOUNT="own", **where).snowflake_account == "own"
    assert load(**where).snowflake_account is None  # not on Snowflake
    assert load(**where).store == DEFAULT_SQLITE
    (home / "kept").rename(home / "connections.toml")
    (line,) = problems_of(FLEET_Q_STORE="snowflake", **where)
    assert "known: people, pods, spaced" in line


@pytest.mark.parametrize(
    ("name", "text", "mode", "words"),
    [
        ("nosuch", CONNECTIONS, 0o600, ["SNOWFLAKE_CONNECTION_NAME='nosuch'", "connections.toml", "people, pods, spaced"]),
        ("pods", None, 0o600, ["SNOWFLAKE_CONNECTION_NAME='pods'", "connections.toml or config.toml", "known: none"]),
        ("pods", CONNECTIONS, 0o620, ["connections.toml: others than its owner may write it; chmod 600 it"]),
        ("pods", CONNECTIONS, 0o602, ["connections.toml: others than its owner may write it; chmod 600 it"]),
        ("pods", f'[pods]\npassword = {SECRET}"', 0o600, ["connections.toml: is not TOML (line 2, column 12)"]),
        ("pods", b"\xff", 0o600, ["connections.toml: is not TOML"]),
        ("people", CONNECTIONS, 0o600, ["SNOWFLAKE_AUTHENTICATOR='externalbrowser': must be one of SNOWFLAKE,"]),
        ("spaced", CONNECTIONS, 0o600, ["SNOWFLAKE_DATABASE='my db': must be a plain identifier"]),
    ],
)  # fmt: skip
def test_a_named_connection_that_is_of_no_use_is_one_line(
    home: Path, name: str, text: str | bytes | None, mode: int, words: list[str]
) -> None:
    path = home / "connections.toml"
    path.unlink()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
    (line,) = problems_of(FLEET_Q_STORE="snowflake", SNOWFLAKE_CONNECTION_NAME=name, SNOWFLAKE_HOME=str(home))
    assert [word for word in words if word not in line] == []
    assert SECRET not in line


def test_where_the_named_connections_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert folder(None) == tmp_path / ".config/snowflake"
    (tmp_path / ".snowflake").mkdir()
    assert folder(None) == tmp_path / ".snowflake"
    monkeypatch.setattr("sys.platform", "darwin")
    assert folder("~/nowhere") == tmp_path / "Library/Application Support/snowflake"


def test_a_password_alone_is_warned_of() -> None:
    assert any("SNOWFLAKE_PASSWORD" in line for line in load(**PLACE, **SIGN_IN).warnings())
    assert load(**PLACE, SNOWFLAKE_TOKEN="t").warnings() == []


def test_payloads_that_snowflake_may_not_take_are_warned_of() -> None:
    (line,) = load(**PLACE, SNOWFLAKE_TOKEN="t", FLEET_Q_MAX_PAYLOAD_BYTES="500001").warnings()
    assert "FLEET_Q_MAX_PAYLOAD_BYTES=500001" in line
    assert load(FLEET_Q_MAX_PAYLOAD_BYTES="500001").warnings() == []


def test_three_slashes_are_relative_and_four_absolute() -> None:
    assert load(FLEET_Q_STORE="sqlite:///fleetq.db").sqlite_path == Path("fleetq.db")
    assert load(FLEET_Q_STORE="sqlite:////var/lib/fleetq.db").sqlite_path == Path("/var/lib/fleetq.db")
