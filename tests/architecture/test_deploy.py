"""What `deploy/` says holds together, and with the code: names, ports, paths, settings and times."""

from __future__ import annotations

import functools
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from fleetq_core import pod as pod_module
from fleetq_core.cli import main
from fleetq_core.config import Config, variable_of
from fleetq_core.life import LifeSign
from fleetq_core.roles import Role

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SETTINGS = {variable_of(name): name for name in Config.model_fields}
STREAMLIT = {
    "STREAMLIT_SERVER_ADDRESS", "STREAMLIT_SERVER_PORT", "STREAMLIT_LOGGER_HIDE_WELCOME_MESSAGE",
}  # fmt: skip
PORT = 8501
Thing = dict[str, Any]


def documents(path: Path) -> list[Thing]:
    return [found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found]


# -- the image --------------------------------------------------------------------------------------------------------

DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8")


@functools.cache
def instructions() -> tuple[tuple[str, str], ...]:
    """(instruction, arguments) of the Dockerfile, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return tuple((line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in text.splitlines() if line.strip())


def image_env() -> dict[str, str]:
    pairs = (pair.partition("=") for name, rest in instructions() if name == "ENV" for pair in shlex.split(rest))
    return {name: value for name, _, value in pairs}


def test_the_image_is_pinned_by_tag_and_does_not_run_as_root() -> None:
    steps = instructions()
    assert ("ARG", "BASE=python:3.11-slim-bookworm") in steps
    assert [rest for name, rest in steps if name == "FROM"] == ["${BASE} AS build", "${BASE}"]
    assert [rest for name, rest in steps if name == "USER"] == ["10001:10001"]
    assert ("STOPSIGNAL", "SIGTERM") in steps


def test_every_file_of_the_image_is_there_and_in_its_context() -> None:
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [shlex.split(rest)[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    sources = {source for sources in copied for source in sources}
    assert {"requirements.txt", "app.py", "pages", "fleetq_core", "deploy/docker/healthcheck.py"} <= sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source == path or source.startswith(f"{path}/") for path in let_in), source
    assert set(let_in) == sources  # and nothing else gets in: no .env, no key, no database


def test_commands_are_in_exec_form() -> None:
    # Through a shell the signal to stop would end the shell, and the pod would be killed with its claims.
    for name, rest in instructions():
        if name in ("CMD", "ENTRYPOINT"):
            assert isinstance(yaml.safe_load(rest), list), rest
        if name == "HEALTHCHECK":
            assert yaml.safe_load(rest.partition("CMD ")[2]) == ["python", "/app/healthcheck.py"]


def test_the_images_environment_is_known() -> None:
    env = image_env()
    ours = {name for name in env if name.startswith(("FLEET_Q_", "SNOWFLAKE_", "STREAMLIT_"))}
    assert ours <= {*SETTINGS, *STREAMLIT}
    assert (env["STREAMLIT_SERVER_PORT"], ("EXPOSE", str(PORT)) in instructions()) == (str(PORT), True)
    assert env["FLEET_Q_DATA_DIR"] == env["HOME"]
    assert ("VOLUME", env["FLEET_Q_DATA_DIR"]) in instructions()


def test_the_image_installs_what_fleetq_imports_and_nothing_else_by_name() -> None:
    (step,) = [
        rest for name, rest in instructions() if name == "RUN" and "pip install" in rest and "-c /tmp/pins.txt" in rest
    ]
    script = re.search(r"sed -n '([^']*)'", step)
    assert script is not None
    done = subprocess.run(
        ["sed", "-n", script[1], str(ROOT / "requirements.txt")], capture_output=True, text=True, check=True
    )
    named = [line for line in done.stdout.splitlines() if line.strip()]
    assert {"streamlit", "snowflake-connector-python", "pydantic"} <= {line.partition("==")[0] for line in named}
    assert not {"pytest", "fakesnow[server]", "-e ."} & {line.partition("==")[0] for line in named}
    assert all(re.match(r"[A-Za-z0-9_.-]+==", line) for line in named)


# -- its health check -------------------------------------------------------------------------------------------------


class _Server(BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        self.send_response(self.answers.get(self.path, 404))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def checked(port: int, **env: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(DEPLOY / "docker" / "healthcheck.py")]
    whole = os.environ | {"STREAMLIT_SERVER_PORT": str(port)} | env
    return subprocess.run(program, capture_output=True, text=True, cwd=ROOT, env=whole, timeout=60, check=False)


@pytest.mark.parametrize(
    ("answers", "role", "code"),
    [
        ({"/health": 200}, "pod", 0),
        ({"/health": 503, "/_stcore/health": 200}, "pod", 1),
        ({"/_stcore/health": 200, "/health": 503}, "viewer", 0),  # it is not to ask the store
        ({"/_stcore/health": 503, "/health": 200}, "dashboard", 1),
    ],
)
def test_a_dashboards_health(
    port: int, monkeypatch: pytest.MonkeyPatch, answers: dict[str, int], role: str, code: int
) -> None:
    monkeypatch.setattr(_Server, "answers", answers)
    assert checked(port, FLEET_Q_ROLE=role).returncode == code


def test_a_headless_pods_health_is_its_sign_of_life(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), _Server) as taken:
        free = taken.server_port
    env = {"FLEET_Q_DATA_DIR": str(tmp_path), "FLEET_Q_POD_ID": "pod-a"}
    assert checked(free, **env).returncode == 1
    LifeSign(tmp_path, "pod-a").give()
    assert checked(free, **env).returncode == 0


# -- Kubernetes -------------------------------------------------------------------------------------------------------

KUBERNETES = DEPLOY / "kubernetes"
PATCHES = ("workload-identity-pods.yaml", "workload-identity-dashboard.yaml")
NOT_RESOURCES = {"kustomization.yaml", "secret.example.yaml", *PATCHES}
OPTIONAL = {"network-policy.yaml", "autoscaling.yaml"}


def things(kind: str) -> list[Thing]:
    return [
        found for path in sorted(KUBERNETES.glob("*.yaml")) if path.name not in ("kustomization.yaml", *PATCHES)
        for found in documents(path) if found["kind"] == kind
    ]  # fmt: skip


def named(kind: str, name: str) -> Thing:
    (found,) = [thing for thing in things(kind) if thing["metadata"]["name"] == name]
    return found


WORKLOADS = {"pod": named("StatefulSet", "fleetq-pod"), "dashboard": named("Deployment", "fleetq-dashboard")}
workloads = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=list(WORKLOADS))


def template(workload: Thing) -> Thing:
    found: Thing = workload["spec"]["template"]
    return found


def container(workload: Thing) -> Thing:
    (found,) = template(workload)["spec"]["containers"]
    return dict(found)


def environment(workload: Thing) -> dict[str, Thing]:
    """What a container is told, by name: `{"value": …}` or `{"valueFrom": …}`."""
    told = {}
    for source in container(workload)["envFrom"]:
        values = named("ConfigMap", source["configMapRef"]["name"])["data"]
        told.update({name: {"value": value} for name, value in values.items()})
    return told | {entry["name"]: entry for entry in container(workload)["env"]}


def test_every_manifest_is_a_resource_or_meant_not_to_be() -> None:
    kustomization = documents(KUBERNETES / "kustomization.yaml")[0]
    there = {path.name for path in KUBERNETES.glob("*.yaml")}
    assert set(kustomization["resources"]) == there - NOT_RESOURCES - OPTIONAL
    text = (KUBERNETES / "kustomization.yaml").read_text()
    for name in (*PATCHES, *OPTIONAL):
        assert re.search(rf"^ *#.*{re.escape(name)}", text, re.MULTILINE), name
    assert kustomization["images"][0]["name"] == container(WORKLOADS["pod"])["image"]


@workloads
def test_every_setting_exists_and_is_allowed(workload: Thing) -> None:
    told = environment(workload)
    assert set(told) <= set(SETTINGS)
    assert told["FLEET_Q_STORE"]["value"] == "snowflake"
    values = {SETTINGS[name]: entry["value"] for name, entry in told.items() if "value" in entry}
    config = Config(**values)
    # The file is the only thing that this machine lacks.
    problems = [line for line in config.snowflake_problems() if "no file that this user can read" not in line]
    assert (problems, config.problems(), config.snowflake_sign_in) == ([], [], "SNOWFLAKE_JWT")


def test_pods_are_pods_and_the_dashboard_runs_none() -> None:
    pod, dashboard = WORKLOADS["pod"], WORKLOADS["dashboard"]
    assert container(pod)["command"] == ["fleetq", "pod"]
    assert environment(pod)["FLEET_Q_POD_ID"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert "FLEET_Q_ROLE" not in environment(pod)
    assert container(dashboard)["command"] == ["streamlit", "run", "app.py"]
    assert Role(environment(dashboard)["FLEET_Q_ROLE"]["value"]) is Role.DASHBOARD


def test_a_pod_has_time_to_stop() -> None:
    pod = WORKLOADS["pod"]
    grace_s = float(environment(pod)["FLEET_Q_STOP_GRACE"]["value"])
    loops = 8
    assert template(pod)["spec"]["terminationGracePeriodSeconds"] >= grace_s + loops * pod_module.JOIN_S


@workloads
def test_the_container_is_restricted(workload: Thing) -> None:
    spec, one = template(workload)["spec"], container(workload)
    user = next(rest for name, rest in instructions() if name == "USER").partition(":")[0]
    assert spec["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": int(user), "runAsGroup": int(user), "fsGroup": int(user),
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert spec["automountServiceAccountToken"] is False
    assert named("ServiceAccount", spec["serviceAccountName"])["automountServiceAccountToken"] is False
    assert {"requests", "limits"} == set(one["resources"])


@workloads
def test_what_is_mounted_is_there_and_what_is_written_can_be(workload: Thing) -> None:
    spec = template(workload)["spec"]
    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
    mounts = {mount["mountPath"]: mount for mount in container(workload)["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == volumes
    for written in (image_env()["FLEET_Q_DATA_DIR"], "/tmp"):
        assert not mounts[written].get("readOnly")
    key = environment(workload)["SNOWFLAKE_PRIVATE_KEY_FILE"]["value"]
    assert os.path.dirname(key) in mounts
    (secret,) = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
    assert os.path.basename(key) in named("Secret", secret["secretName"])["stringData"]


def test_secrets_that_are_named_are_in_the_example() -> None:
    for workload in WORKLOADS.values():
        for entry in environment(workload).values():
            if reference := entry.get("valueFrom", {}).get("secretKeyRef"):
                assert reference["key"] in named("Secret", reference["name"])["stringData"]


@workloads
def test_selectors_meet_labels(workload: Thing) -> None:
    labels = template(workload)["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"] == labels
    selectors = [thing["spec"]["selector"] for thing in things("Service")]
    selectors += [thing["spec"]["podSelector"]["matchLabels"] for thing in things("NetworkPolicy")]
    assert selectors.count(labels) == 2  # a service and a policy each
    budgets = [thing["spec"]["selector"]["matchLabels"] for thing in things("PodDisruptionBudget")]
    assert budgets == [template(WORKLOADS["pod"])["metadata"]["labels"]]


def test_services_lead_to_ports() -> None:
    dashboard, pod = WORKLOADS["dashboard"], WORKLOADS["pod"]
    (port,) = container(dashboard)["ports"]
    assert port == {"name": "http", "containerPort": PORT}
    service = named("Service", "fleetq-dashboard")["spec"]
    assert (service["type"], service["ports"][0]["targetPort"]) == ("ClusterIP", port["name"])
    (rule,) = named("NetworkPolicy", "fleetq-dashboard")["spec"]["ingress"]
    assert rule["ports"][0]["port"] == port["name"]
    assert named("Service", pod["spec"]["serviceName"])["spec"]["clusterIP"] == "None"


def test_probes_ask_what_is_there_and_never_the_store() -> None:
    for probe in ("startupProbe", "livenessProbe"):
        command = container(WORKLOADS["pod"])[probe]["exec"]["command"]
        assert command == ["fleetq", "alive"]
        assert command[1] in main.commands
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container(WORKLOADS["dashboard"])[probe]["httpGet"] == {"path": "/_stcore/health", "port": "http"}


def test_the_scaler_knows_its_target_and_our_metrics() -> None:
    (scaler,) = things("ScaledObject")
    target = scaler["spec"]["scaleTargetRef"]
    assert named(target["kind"], target["name"])["apiVersion"] == target["apiVersion"]
    told = (ROOT / "docs" / "metrics.md").read_text()
    for trigger in scaler["spec"]["triggers"]:
        (metric,) = re.findall(r"fleetq_\w+", trigger["metadata"]["query"])
        assert metric in told


@pytest.mark.parametrize(("name", "of"), [(PATCHES[0], "pod"), (PATCHES[1], "dashboard")])
def test_workload_identity_takes_the_keys_place(name: str, of: str) -> None:
    (patch,), workload = documents(KUBERNETES / name), WORKLOADS[of]
    for field in ("apiVersion", "kind"):
        assert patch[field] == workload[field]
    assert patch["metadata"]["name"] == workload["metadata"]["name"]
    assert container(patch)["name"] == container(workload)["name"]
    told = environment(workload)
    for entry in container(patch)["env"]:
        if entry.get("$patch") == "delete":
            del told[entry["name"]]  # it was there
        else:
            told[entry["name"]] = entry
    assert set(told) <= set(SETTINGS)
    config = Config(**{SETTINGS[key]: entry["value"] for key, entry in told.items() if "value" in entry})
    assert config.snowflake_sign_in == "WORKLOAD_IDENTITY"
    (volume,) = template(patch)["spec"]["volumes"]
    (source,) = volume["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "snowflakecomputing.com"
    (mount,) = [mount for mount in container(workload)["volumeMounts"] if mount["name"] == volume["name"]]
    assert str(config.snowflake_token_file_path) == f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"


# -- Snowpark Container Services --------------------------------------------------------------------------------------

SPCS = DEPLOY / "spcs"
# What the platform sets in each container.
FROM_PLATFORM = {"SNOWFLAKE_ACCOUNT": "a", "SNOWFLAKE_HOST": "h", "SNOWFLAKE_DATABASE": "D", "SNOWFLAKE_SCHEMA": "S"}


@pytest.mark.parametrize("name", ["pods", "dashboard"])
def test_a_service_signs_in_with_the_platforms_token(name: str) -> None:
    (spec,) = documents(SPCS / f"{name}.yaml")
    (one,) = spec["spec"]["containers"]
    assert set(one["env"]) <= set(SETTINGS)
    told = {SETTINGS[key]: value for key, value in (FROM_PLATFORM | one["env"]).items()}
    config = Config(**told)
    assert (config.store, config.snowflake_sign_in) == ("snowflake", "OAUTH")
    assert str(config.snowflake_token_file_path) == "/snowflake/session/token"
    assert config.role is (Role.POD if name == "pods" else Role.DASHBOARD)
    command = {"pods": "pod", "dashboard": "dashboard"}[name]
    assert one["command"] == container(WORKLOADS[command])["command"]


def test_services_and_their_sql_name_the_same_things() -> None:
    sql = (SPCS / "setup.sql").read_text()
    specs = {name: documents(SPCS / f"{name}.yaml")[0] for name in ("pods", "dashboard")}
    for name, spec in specs.items():
        (one,) = spec["spec"]["containers"]
        assert f"SPECIFICATION_FILE = '{name}.yaml'" in sql
        assert f"@fleetq.queue.specs SPECIFICATION_FILE = '{name}.yaml'" in sql
        repository, tag = one["image"].rsplit("/", 1)
        assert f"CREATE IMAGE REPOSITORY IF NOT EXISTS {repository.strip('/').replace('/', '.')};" in sql
        assert f"/{tag}" in sql
        assert f"QUERY_WAREHOUSE = {one['env']['SNOWFLAKE_WAREHOUSE'].lower()}" in sql
    dashboard = specs["dashboard"]
    (endpoint,) = dashboard["spec"]["endpoints"]
    assert (endpoint["port"], dashboard["spec"]["containers"][0]["readinessProbe"]["port"]) == (PORT, PORT)
    (role,) = dashboard["serviceRoles"]
    assert role["endpoints"] == [endpoint["name"]]
    assert f"fleetq_dashboard!{role['name']}" in sql


# -- Streamlit in Snowflake -------------------------------------------------------------------------------------------

SIS = DEPLOY / "streamlit-in-snowflake"


def test_what_streamlit_in_snowflake_is_given_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    subprocess.run([sys.executable, str(SIS / "assemble.py"), str(folder)], check=True, timeout=60)
    (app,) = documents(folder / "snowflake.yml")[0]["entities"].values()
    for artifact in app["artifacts"]:
        assert (folder / artifact).exists(), artifact
    main_file = folder / app["main_file"]
    assert main_file.exists()
    assert not (main_file.parent / "pages").exists()  # a deep link would run that page alone
    sql = (SIS / "setup.sql").read_text()
    for clause in (
        f"MAIN_FILE = '{app['main_file']}'",
        f"RUNTIME_NAME = '{app['runtime_name']}'",
        f"COMPUTE_POOL = {app['compute_pool'].lower()}",
        f"QUERY_WAREHOUSE = {app['query_warehouse'].lower()}",
        f"EXTERNAL_ACCESS_INTEGRATIONS = ({app['external_access_integrations'][0].lower()})",
    ):
        assert clause in sql
    pins = (folder / "requirements.txt").read_text().splitlines()
    assert set(pins) <= set((ROOT / "requirements.txt").read_text().splitlines())
    names = {line.partition("==")[0] for line in pins}
    assert ("streamlit" in names, "pytest" in names, "" in names) == (True, False, False)


def test_its_settings_are_settings_and_no_secrets() -> None:
    told = tomllib.loads((SIS / "secrets.toml").read_text())
    assert set(told) <= set(SETTINGS)
    assert not any(word in name for name in told for word in ("PASSWORD", "TOKEN", "KEY"))
    # The entry decides about the role, not a file that somebody edits.
    assert "FLEET_Q_ROLE" not in told


@pytest.mark.parametrize("sql", sorted(DEPLOY.rglob("*.sql")), ids=lambda path: path.parent.name)
def test_a_viewer_is_granted_no_write(sql: Path) -> None:
    for grant in re.findall(r"^GRANT ([^;]*) TO ROLE fleetq_viewer;", sql.read_text(), re.MULTILINE):
        assert not re.search(r"\b(INSERT|UPDATE|DELETE|OWNERSHIP|ALL PRIVILEGES)\b", grant), grant
