"""Every route of the HTTP API, and everything it refuses: always JSON, never a 5xx for what a caller did."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from pydantic import SecretStr

from fleetq_core import http, runtime
from fleetq_core.config import load_config
from fleetq_core.connect import connect
from fleetq_core.http_guard import body_limit
from fleetq_core.model import Identity, StepRow
from fleetq_core.queue import Queue
from fleetq_core.runtime import Runtime
from tests.doors.conftest import LOOPBACK, Api, quiet_config, variant
from tests.support.stores import FaultyStore
from tests.support.waiting import eventually

ApiOf = Callable[[Runtime], Api]
ECHO = {"task_type": "echo", "message": "hällo"}
JSON_TYPE = {"Content-Type": "application/json"}
SPECIFIED = {
    "step_id", "status", "claimed_by", "payload", "retry_count", "priority", "created_ts", "last_update_ts",
}  # fmt: skip
FIGURES = {
    "max_inflight": 15, "current_inflight": 8, "available_capacity": 7, "total_requests": 1000,
    "total_successes": 950, "total_throttles": 50, "throttle_rate": 0.05, "current_p95_latency": 0.45,
    "baseline_latency": 0.3,
}  # fmt: skip


# -- the answers of the specification ---------------------------------------------------------------------------------


def test_a_step_is_submitted_and_its_status_told(api: Api) -> None:
    answer = api("POST", "/submit", json={"payload": ECHO, "priority": 1})
    assert answer.status_code == 201
    assert answer.json() == {"step_id": answer.json()["step_id"], "status": "submitted"}
    path = f"/status/{answer.json()['step_id']}"
    told = eventually(lambda: (body := api("GET", path).json())["status"] == "completed" and body)
    assert told.keys() >= SPECIFIED
    assert (told["payload"], told["priority"], told["retry_count"], told["claimed_by"]) == (ECHO, 1, 0, "pod-here")
    assert told["result"] == ECHO
    assert len(told["created_ts"]) == len("2026-01-17 12:34:56")


def test_a_step_that_another_program_wrote_with_half_a_character_is_told(api: Api) -> None:
    payload = '{"task_type": "nobody knows", "text": "\\ud800"}'
    api.runtime.queue.store.insert_steps([StepRow("half", "nobody knows", payload, 0, 0)])
    assert api("GET", "/status/half").json()["payload"]["text"] == "\ud800"


def test_the_counts_by_status(api: Api) -> None:
    assert api("GET", "/admin/queue").json().keys() == {"pending", "claimed", "completed", "failed"}


def test_the_leader(api: Api) -> None:
    assert api("GET", "/admin/leader").json() == {
        "leader_pod_id": "pod-here",
        "this_pod_id": "pod-here",
        "is_leader": True,
        "total_alive_pods": 1,
        "alive_pods": ["pod-here"],
    }


def test_a_recovery_by_hand(api: Api) -> None:
    answer = api("POST", "/admin/recovery/run")
    assert answer.status_code == 200
    assert answer.json() == {
        "message": "Recovery cycle completed successfully",
        "stats": {"dead_pods": 0, "total_orphans": 0, "resubmitted": 0, "terminal_failures": 0},
    }


def test_health(api: Api, api_of: ApiOf, running: Runtime) -> None:
    assert (api("GET", "/health").status_code, api("GET", "/health").json()) == (
        200,
        {"status": "ok", "pod": "running"},
    )
    broken = variant(running.pod, failure=RuntimeError("a loop died"))
    answer = api_of(variant(running, pod=broken))("GET", "/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "failed")


def test_a_pod_that_does_not_lead_runs_no_recovery(tmp_path: Path, api_of: ApiOf) -> None:
    config = quiet_config(tmp_path)
    queue = connect(config)
    queue.store.register_pod(Identity("pod-older", "i"), {})
    queue.close()
    app = Runtime(config)
    app.start()
    try:
        answer = api_of(app)("POST", "/admin/recovery/run")
        told = answer.json()
        assert (answer.status_code, told["leader_pod_id"], told["is_leader"]) == (409, "pod-older", False)
        assert "pod-here does not lead" in told["error"]
        assert app.queue.store.list_recovery_runs(10) == []
    finally:
        app.stop()


def test_a_stopped_pod_runs_no_recovery(tmp_path: Path, api_of: ApiOf) -> None:
    app = Runtime(quiet_config(tmp_path))
    app.start()
    app.pod.stop()
    try:
        answer = api_of(app)("POST", "/admin/recovery/run")
        assert (answer.status_code, answer.json()["leader_pod_id"]) == (409, None)
        assert api_of(app)("GET", "/health").json()["pod"] == "stopped"
    finally:
        app.stop()


# -- throttles --------------------------------------------------------------------------------------------------------


def test_no_throttles_yet(api: Api) -> None:
    assert api("GET", "/admin/throttle").json() == {"throttles": {}}
    assert "'bedrock'" in api.refuses(404, "name", "POST", "/admin/throttle/bedrock/reset")
    for path in ("/admin/throttle//reset", "/admin/throttle/a%2Fb/reset", "/admin/throttle/a%0Ab/reset"):
        api.refuses(404, "name", "POST", path)
    assert api.runtime.queue.store.list_commands(10) == []


def test_throttles_of_the_whole_fleet(tmp_path: Path, api_of: ApiOf) -> None:
    app = Runtime(quiet_config(tmp_path, dead_pod_threshold=3600))
    app.start()
    store, api = app.queue.store, api_of(app)
    try:
        store.register_pod(Identity("pod-1", "i1"), {"throttles": {"bedrock": FIGURES}})
        store.register_pod(
            Identity("pod-2", "i2"),
            {
                "throttles": {
                    "bedrock": FIGURES | {"current_p95_latency": 0.9},
                    "new": {"current_p95_latency": float("nan")},
                }
            },
        )
        store.register_pod(Identity("pod-3", "i3"), {"throttles": {"gone": FIGURES}})
        store.mark_down(Identity("pod-3", "i3"))
        told = api("GET", "/admin/throttle").json()["throttles"]
        assert told.keys() == {"bedrock", "new"}
        assert told["bedrock"].keys() == FIGURES.keys() | {"pods"}
        assert {name: told["bedrock"][name] for name in ("max_inflight", "total_requests", "throttle_rate")} == {
            "max_inflight": 30,
            "total_requests": 2000,
            "throttle_rate": 0.05,
        }
        assert (told["bedrock"]["current_p95_latency"], told["bedrock"]["baseline_latency"]) == (0.9, 0.3)
        assert told["bedrock"]["pods"]["pod-1"] == FIGURES
        assert told["new"]["current_p95_latency"] is None

        api.refuses(404, "name", "POST", "/admin/throttle/gone/reset")
        answer = api("POST", "/admin/throttle/bedrock/reset")
        assert answer.status_code == 202
        (record,) = store.list_commands(10, [answer.json()["command_id"]])
        command = record.command
        assert (command.kind, command.target, command.args) == ("reset_throttle", "*", {"name": "bedrock"})
        # This process's pod hears it at once, not at its next beat.
        eventually(lambda: "pod-here" in [a.pod_id for a in store.list_commands(10)[0].answers])
    finally:
        app.stop()


def test_throttles_that_pods_share_or_describe_oddly(tmp_path: Path, api_of: ApiOf) -> None:
    app = Runtime(quiet_config(tmp_path, dead_pod_threshold=3600))
    app.start()
    store, api = app.queue.store, api_of(app)
    change = {"n": 0, "before": 9, "after": 7, "reason": "fleet share", "times": 1, "ago_s": 1.0}
    shared = FIGURES | {"scope": "fleet", "fleet_limit": 24, "total_timeouts": 2, "waiting": 3, "changes": [change]}
    try:
        store.register_pod(Identity("pod-1", "i1"), {"throttles": {"bedrock": shared}})
        store.register_pod(
            Identity("pod-2", "i2"), {"throttles": {"bedrock": shared | {"max_inflight": "odd"}, "x": 4}}
        )
        store.register_pod(Identity("pod-3", "i3"), {"throttles": ["odd"]})
        told = api("GET", "/admin/throttle").json()["throttles"]
        assert told.keys() == {"bedrock"}
        assert told["bedrock"].keys() == FIGURES.keys() | {"scope", "fleet_limit", "total_timeouts", "waiting", "pods"}
        assert {name: told["bedrock"][name] for name in ("max_inflight", "scope", "fleet_limit", "waiting")} == {
            "max_inflight": 15, "scope": "fleet", "fleet_limit": 24, "waiting": 6,
        }  # fmt: skip
        assert told["bedrock"]["pods"]["pod-1"]["changes"] == [change]

        path = "/admin/throttle/bedrock/reset"
        answer = api("POST", path, json={"pod_id": "pod-2"})
        assert answer.status_code == 202
        assert "pod pod-2" in answer.json()["message"]
        api.refuses(404, "pod_id", "POST", path, json={"pod_id": "pod-3"})
        api.refuses(422, "pod_id", "POST", path, json={"pod_id": 3})
        api.refuses(422, "pod", "POST", path, json={"pod": "pod-1"})
        assert api("POST", path, json={}).status_code == 202
        assert [record.command.target for record in store.list_commands(10)] == ["*", "pod-2"]
    finally:
        app.stop()


# -- what a submit refuses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "payload"),
        ({"payload": None}, "payload"),
        ({"payload": [1]}, "payload"),
        ({"payload": "echo"}, "payload"),
        ({"payload": {}}, "payload.task_type"),
        ({"payload": {"task_type": ""}}, "payload.task_type"),
        ({"payload": {"task_type": 7}}, "payload.task_type"),
        ({"payload": {"task_type": "x" * 201}}, "payload.task_type"),
        ({"payload": ECHO | {"n": 2**63}}, "payload.n"),
        ({"payload": ECHO | {"text": "\0"}}, "payload.text"),
        ({"payload": ECHO, "priority": True}, "priority"),
        ({"payload": ECHO, "priority": "1"}, "priority"),
        ({"payload": ECHO, "priority": 1.0}, "priority"),
        ({"payload": ECHO, "priority": None}, "priority"),
        ({"payload": ECHO, "priority": 2**31}, "priority"),
        ({"payload": ECHO, "step_id": ""}, "step_id"),
        ({"payload": ECHO, "step_id": 7}, "step_id"),
        ({"payload": ECHO, "step_id": "a b"}, "step_id"),
        ({"payload": ECHO, "step_id": "a\n"}, "step_id"),
        ({"payload": ECHO, "step_id": "x" * 201}, "step_id"),
        ({"payload": ECHO, "step_id": "\ud800"}, "step_id"),
        ({"payload": ECHO, "max_retries": False}, "max_retries"),
        ({"payload": ECHO, "max_retries": -1}, "max_retries"),
        ({"payload": ECHO, "max_retries": 1001}, "max_retries"),
        ({"payload": ECHO, "max_retries": "3"}, "max_retries"),
        ({"payload": ECHO, "prioritty": 1}, "prioritty"),
        ({"payload": ECHO, "": 1}, ""),
        ({"task_type": "echo"}, "task_type"),
    ],
    ids=lambda value: None if isinstance(value, str) else json.dumps(value)[:60],
)
def test_a_wrong_field_is_named(api: Api, body: dict[str, Any], field: str) -> None:
    before = api("GET", "/admin/queue").json()
    api.refuses(422, field, "POST", "/submit", content=json.dumps(body), headers=JSON_TYPE)
    assert sum(api("GET", "/admin/queue").json().values()) == sum(before.values())


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, "body"),
        (b"{", 400, "body"),
        (b'{"payload": {"task_type": "echo"}} x', 400, "body"),
        (b'{"payload": \xff}', 400, "body"),
        ("\ufeff{}".encode(), 400, "body"),
        (json.dumps({"payload": ECHO}).encode("utf-16"), 400, "body"),
        (b"[" * 100_000, 400, "body"),
        (b'{"priority": ' + b"9" * 5000 + b"}", 400, "body"),
        (b'{"payload": {"task_type": "echo"}, "priority": 1, "priority": 2}', 400, "priority"),
        (b'{"payload": {"task_type": "echo", "task_type": "sleep"}}', 400, "task_type"),
        (b"null", 422, "body"),
        (b'["payload"]', 422, "body"),
        (b'"payload"', 422, "body"),
        (b'{"payload": {"task_type": "echo", "x": NaN}}', 422, "payload.x"),
        (b'{"payload": {"task_type": "echo", "x": [1, -Infinity]}}', 422, "payload.x[1]"),
        (b'{"payload": {"task_type": "echo", "x": 1e999}}', 422, "payload.x"),
        (b'{"payload": {"task_type": "echo"}, "priority": NaN}', 422, "priority"),
        (b'{"payload": {"task_type": "echo", "x": "\\ud800"}}', 422, "payload"),
        (b'{"payload": {"task_type": "echo"}, "\\ud800": 1}', 422, "\\ud800"),
        (b'{"payload": {"task_type": "echo", "x": ' + b"[" * 70 + b"]" * 70 + b"}}", 422, "payload.x" + "[0]" * 63),
    ],
    ids=range(20),
)
def test_a_body_that_is_no_step(api: Api, body: bytes, status: int, field: str) -> None:
    api.refuses(status, field, "POST", "/submit", content=body, headers=JSON_TYPE)


def test_an_error_is_bounded_whatever_was_sent(api: Api) -> None:
    long = "x" * 100_000
    body = {"payload": ECHO, long: 1}
    answer = api("POST", "/submit", json=body)
    assert answer.status_code == 422
    assert len(answer.content) < 2000
    api.refuses(422, "priority", "POST", "/submit", json={"payload": ECHO, "priority": long})


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_the_content_type_must_be_json(api: Api, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    api.refuses(415, "Content-Type", "POST", "/submit", content=json.dumps({"payload": ECHO}), headers=headers)


def test_the_content_type_may_carry_a_charset(api: Api) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert api("POST", "/submit", content=json.dumps({"payload": ECHO}), headers=headers).status_code == 201


def test_a_body_that_is_too_large(api: Api) -> None:
    over = body_limit(api.runtime.config) + 1
    api.refuses(413, "body", "POST", "/submit", content=b" " * over, headers=JSON_TYPE)
    api.refuses(422, "payload", "POST", "/submit", json={"payload": ECHO | {"x": "x" * 262_144}})
    # The same text, written with escapes, is three times as long on the wire; it is not too large for that.
    body = json.dumps({"payload": ECHO | {"x": "é" * 131_000}})
    assert len(body) > 2 * 262_144
    assert api("POST", "/submit", content=body, headers=JSON_TYPE).status_code == 201


def test_the_same_step_id_again(api: Api) -> None:
    first = api.submit(payload=ECHO, step_id="twice", priority=1)
    assert api.submit(payload=ECHO, step_id="twice", priority=1) == first == "twice"
    other = ECHO | {"message": "other"}
    api.refuses(409, "step_id", "POST", "/submit", json={"payload": other, "step_id": "twice", "priority": 1})


def test_null_stands_for_an_optional_field_that_is_not_given(api: Api) -> None:
    assert api.submit(payload=ECHO, step_id=None, max_retries=None).startswith("step-")


# -- addresses and methods --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step_id",
    [
        "",
        "unknown",
        "x" * 5000,
        "%20",
        "%00",
        "a%0Ab",
        "%0A",
        "%FF%FE",
        "%ED%A0%80",
        "a/b",
        "a%2Fb/",
        "..%2F..",
        "%E2%82%AC",
    ],
    ids=lambda value: value[:12] or "empty",
)
def test_an_unknown_step_is_a_json_404(api: Api, step_id: str) -> None:
    api.refuses(404, "step_id", "GET", f"/status/{step_id}")


def test_a_step_id_may_hold_what_an_address_must_escape(api: Api) -> None:
    name = "orders/2026:a@b+c-d_e."
    api.submit(payload=ECHO, step_id=name)
    for path in ("/status/orders/2026:a@b+c-d_e.", "/status/orders%2F2026%3Aa%40b%2Bc-d_e."):
        assert api("GET", path).json()["step_id"] == name


READS = ("/status/x", "/admin/queue", "/admin/leader", "/admin/throttle", "/health")
WRITES = ("/submit", "/admin/recovery/run", "/admin/throttle/x/reset")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FLY")


@pytest.mark.parametrize(
    ("path", "allowed"), [*((path, ("GET", "HEAD")) for path in READS), *((path, ("POST",)) for path in WRITES)]
)
def test_a_wrong_method_is_a_405_that_tells_the_right_ones(api: Api, path: str, allowed: tuple[str, ...]) -> None:
    for method in METHODS:
        if method not in allowed:
            answer = api(method, path, json={"payload": ECHO})
            assert (answer.status_code, answer.headers["allow"]) == (405, ", ".join(allowed))
            assert method == "HEAD" or answer.json()["error"].startswith(path)


@pytest.mark.parametrize(
    "path",
    ["/status", "/admin", "/admin/", "/admin/nothing", "/admin/queue/", "/admin/queue/x", "/admin/recovery",
     "/admin/throttle/", "/admin/throttle/x", "/admin/a%0Ab", "/admin/queue%0A", "/admin/throttle/x/reset%0A",
     "/submit/", "/submit/x", "/health/", "/health/x%0A"],
)  # fmt: skip
def test_an_unknown_address_under_our_prefixes_is_a_json_404_for_every_method(api: Api, path: str) -> None:
    assert api("HEAD", path).status_code == 404
    for method in METHODS:
        if method != "HEAD":
            api.refuses(404, None, method, path)


def test_everything_else_is_streamlits(api: Api) -> None:
    for path in ("/", "/steps", "/new-step", "/submitted", "/administration", "/healthy", "/statuses"):
        assert api("GET", path).text == "a page of Streamlit's"


# -- who may write ----------------------------------------------------------------------------------------------------

ORIGINS = ["http://evil.example", "http://localhost:9999", "https://localhost", "null", ""]


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("origin", ORIGINS)
def test_another_sites_page_may_not_write(api: Api, path: str, origin: str) -> None:
    assert "cross-site" in api.refuses(403, "Origin", "POST", path, json={"payload": ECHO}, headers={"Origin": origin})


def test_our_own_pages_may_write(api: Api) -> None:
    headers = {"Origin": "http://localhost:8501"}
    assert api("POST", "/submit", json={"payload": ECHO}, headers=headers).status_code == 201


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("client", ["10.1.2.3", "192.168.0.7", "2001:db8::1", "::ffff:10.1.2.3", "a-name", ""])
def test_other_machines_may_not_write_without_a_key(api: Api, path: str, client: str) -> None:
    assert "FLEET_Q_API_KEY" in api.refuses(403, None, "POST", path, json={"payload": ECHO}, client=(client, 1))
    assert api("GET", "/admin/queue", client=(client, 1)).status_code == 200


def test_a_caller_without_an_address_may_not_write(api: Api) -> None:
    api.refuses(403, None, "POST", "/submit", json={"payload": ECHO}, client=None)


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8501", "127.0.0.1:80", "[::1]:8501", "[::1]"])
def test_this_machine_may_write(api: Api, client: str, host: str) -> None:
    answer = api("POST", "/submit", json={"payload": ECHO}, client=(client, 1), headers={"Host": host})
    assert answer.status_code == 201


@pytest.mark.parametrize("host", ["evil.example:8501", "localhost.evil.example", "10.1.2.3:8501", "[::2]", "", "::::"])
def test_a_name_that_was_pointed_at_this_machine_does_not_let_a_page_write(api: Api, host: str) -> None:
    # DNS rebinding: the page's own host name resolves to 127.0.0.1, so that Origin and Host agree.
    headers = {"Host": host, "Origin": f"http://{host}"}
    api.refuses(403, "Host", "POST", "/submit", json={"payload": ECHO}, headers=headers)


@pytest.fixture
def keyed(api_of: ApiOf, running: Runtime) -> Api:
    config = running.config.model_copy(update={"api_key": SecretStr("schlüssel-4711")})
    return api_of(variant(running, config=config))


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic schlüssel-4711".encode()},
        {"Authorization": "schlüssel-4711".encode()},
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"X-API-Key": b"\xff\xfe"},
    ],
    ids=range(9),
)
def test_without_the_right_key_nobody_writes(keyed: Api, path: str, headers: dict[str, Any]) -> None:
    answer = keyed("POST", path, json={"payload": ECHO}, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "4711" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer schlüssel-4711".encode()},
        {"Authorization": "bearer  schlüssel-4711".encode()},
        {"X-API-Key": "schlüssel-4711".encode()},
    ],
    ids=range(3),
)
def test_with_the_right_key_everybody_writes(keyed: Api, headers: dict[str, Any]) -> None:
    answer = keyed("POST", "/submit", json={"payload": ECHO}, headers=headers, client=("10.1.2.3", 1))
    assert answer.status_code == 201
    assert keyed("GET", "/admin/queue").status_code == 200


# -- the store away ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [*(("GET", path) for path in READS), *(("POST", path) for path in WRITES if "recovery" not in path)],
)
def test_a_store_that_is_away_is_a_503_that_says_when_to_come_again(
    api_of: ApiOf, running: Runtime, method: str, path: str
) -> None:
    store = FaultyStore(running.queue.store, before=lambda _: True, after=lambda _: False)
    api = api_of(variant(running, queue=Queue(store, running.config)))
    answer = api(method, path, **({"json": {"payload": ECHO}} if path == "/submit" else {}))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"].startswith("the store is away")


def test_a_recovery_while_the_store_is_away_is_a_503(api_of: ApiOf, running: Runtime) -> None:
    lead_store = FaultyStore(running.queue.store, before=lambda _: True, after=lambda _: False)
    pod = variant(running.pod, recovery=variant(running.pod.recovery, _store=lead_store))
    answer = api_of(variant(running, pod=pod))("POST", "/admin/recovery/run")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


# -- a real server ----------------------------------------------------------------------------------------------------


@pytest.fixture
def served(api: Api) -> Iterator[tuple[str, int]]:
    server = uvicorn.Server(uvicorn.Config(api.app, port=0, lifespan="off", ws="none", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join(20)


def exchange(address: tuple[str, int], request: bytes) -> bytes:
    with socket.create_connection(address, timeout=20) as wire:
        wire.sendall(request)
        answer = bytearray()
        while chunk := wire.recv(65536):
            answer += chunk
    return bytes(answer)


def test_over_the_wire(served: tuple[str, int]) -> None:
    def ask(line: bytes, *more: bytes, body: bytes = b"") -> tuple[int, bytes]:
        head = b"\r\n".join([line + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *more])
        answer = exchange(served, head + b"\r\n\r\n" + body)
        return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]

    assert ask(b"HEAD /health") == (200, b"")
    assert ask(b"HEAD /status/unknown") == (404, b"")
    assert ask(b"HEAD /submit") == (405, b"")
    assert ask(b"GET /status/%ff%00%0a")[0] == 404
    assert ask(b"GET /status/" + b"x" * 60_000)[0] in (400, 404)
    sent = json.dumps({"payload": ECHO}).encode()
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(sent), sent)
    typed = b"Content-Type: application/json"
    assert ask(b"POST /submit", typed, b"Transfer-Encoding: chunked", body=chunks)[0] == 201
    assert ask(b"POST /submit", typed, b"Content-Length: 0")[0] == 400


def test_a_caller_that_hangs_up_in_the_middle_of_its_body_breaks_nothing(api: Api) -> None:
    events = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(events)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/submit", "headers": headers, "client": LOOPBACK}
    anyio.run(api.app, scope | {"query_string": b"", "root_path": ""}, receive, send)
    assert sent[0]["status"] == 400


# -- start and stop ---------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """Settings for the process's own runtime; the signals of the test run stay as they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "stop_claiming_on_signals", lambda: None)
    monkeypatch.setattr("gc.freeze", lambda: None)
    runtime.shutdown()
    yield monkeypatch
    runtime.shutdown()


async def live() -> Runtime:
    async with http.lifespan(None):
        app = runtime.get_runtime()
        assert app.pod.state == "running"
    return app


def test_the_pod_lives_as_long_as_the_server(settings: pytest.MonkeyPatch) -> None:
    assert anyio.run(live).pod.state == "stopped"
    queue = connect(load_config())
    assert [pod.status for pod in queue.store.list_pods()] == ["down"]
    queue.close()


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_head(settings: pytest.MonkeyPatch) -> None:
    with socket.socket() as listening, socket.socket() as other:  # as Streamlit makes it: no word of TCP
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        anyio.run(live)
        with socket.create_connection(listening.getsockname()) as _, listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not other.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_server_that_cannot_start_says_why_and_leaves(
    settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.setenv("FLEET_Q_MAX_RETRIES", "many")
    settings.setenv("FLEET_Q_STORE", "mysql")
    with pytest.raises(SystemExit) as left:
        anyio.run(live)
    assert left.value.code == 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith("FLEET-Q cannot start: FLEET_Q_") for line in said)
