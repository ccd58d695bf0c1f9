"""Every command of `fleetq`: what it prints for people and for programs, its exit code, and never a traceback."""

from __future__ import annotations

import getpass
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleetq_core import Pod, Status, connect, load_config
from fleetq_core.cli import main
from fleetq_core.errors import StoreUnavailable
from fleetq_core.model import Identity, Outcome, QueueStats
from fleetq_core.queue import SUBMIT_SET, Queue
from fleetq_core.store.sqlite_schema import migrations
from tests.support.waiting import eventually

FLEETQ = str(Path(sys.executable).with_name("fleetq"))
ECHO = '{"task_type": "echo", "message": "hällo"}'


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the commands find in the environment: a store of this test's own, in a folder of its own."""
    for name, value in {
        "STORE": f"sqlite:///{tmp_path}/q.db",
        "DATA_DIR": str(tmp_path / "data"),
        "HEARTBEAT_INTERVAL": "0.1",
        "DEAD_POD_THRESHOLD": "30",
        "SQLITE_SYNCHRONOUS": "NORMAL",
        "STOP_GRACE": "0",
    }.items():
        monkeypatch.setenv(f"FLEET_Q_{name}", value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def queue() -> Iterator[Queue]:
    opened = connect(load_config(pod_id="observer"))
    yield opened
    opened.close()


@pytest.fixture
def pod(queue: Queue) -> Iterator[Pod]:
    """A living pod, which leads."""
    living = Pod(queue, load_config(pod_id="pod-here"))
    living.start()
    yield living
    living.stop()


def run(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result


def complaint(*args: str, code: int = 1) -> str:
    """The one line on stderr with which a command refuses."""
    result = run(*args, code=code)
    (line,) = result.stderr.splitlines()
    assert line.startswith("fleetq: ")
    return line.removeprefix("fleetq: ")


def misuse(*args: str) -> str:
    return run(*args, code=2).stderr


def fail(queue: Queue, step_id: str, error: str = "boom") -> None:
    """Let `step_id`, the only pending step, end as a dead letter."""
    (step,) = queue.claim_steps(1)
    assert step.step_id == step_id
    queue.settle([Outcome(step_id, step.claim_token, Status.FAILED, 0.1, error=error)])


# -- submit -----------------------------------------------------------------------------------------------------------


def test_submit_prints_the_step_id(queue: Queue) -> None:
    (step_id,) = run("submit", ECHO, "--priority", "7").stdout.splitlines()
    record = queue.get_step(step_id)
    assert record is not None
    assert (record.payload, record.priority, record.status) == (json.loads(ECHO), 7, "pending")


def test_the_same_step_id_again_is_a_no_op(queue: Queue) -> None:
    for _ in range(2):
        assert run("submit", ECHO, "--step-id", "mine").stdout == "mine\n"
    assert queue.stats().pending == 1
    assert "'mine' is already used" in complaint("submit", '{"task_type": "other"}', "--step-id", "mine")


def test_count_submits_as_many_and_prints_as_many(queue: Queue) -> None:
    ids = run("submit", ECHO, "--count", str(SUBMIT_SET + 3)).stdout.splitlines()
    assert len(set(ids)) == queue.stats().pending == SUBMIT_SET + 3


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ("{", "PAYLOAD: is not JSON"),
        ("", "PAYLOAD: is not JSON"),
        ("[" * 100_000, "PAYLOAD: is not JSON: it is nested too deeply"),
        ("[1]", "payload: must be a JSON object, not list"),
        ("{}", "payload.task_type: must be"),
        ('{"task_type": "echo", "x": NaN}', "payload.x: is nan"),
        ('{"task_type": "echo", "x": 1, "x": 2}', "x: is there twice"),
        ('{"task_type": "echo", "x": "\\ud800"}', "payload: holds a lone surrogate"),
        ('{"task_type": "echo", "\\ud800": NaN}', r"payload.\ud800: is nan"),
        (b'{"task_type": "\xff"}'.decode("utf-8", "surrogateescape"), "payload: holds a lone surrogate"),
    ],
    ids=range(10),
)
def test_a_bad_payload_is_one_line_that_names_it(payload: str, said: str, queue: Queue) -> None:
    assert complaint("submit", payload).startswith(said)
    assert queue.stats().pending == 0


def test_a_bad_step_id_or_priority_is_named() -> None:
    assert complaint("submit", ECHO, "--step-id", "a b").startswith("step_id: must be")
    assert complaint("submit", ECHO, "--priority", str(2**40)).startswith("priority: must be")


def test_submit_wants_one_source_of_steps(tmp_path: Path) -> None:
    (tmp_path / "steps.jsonl").write_text(ECHO)
    assert "either PAYLOAD or --file" in misuse("submit")
    assert "either PAYLOAD or --file" in misuse("submit", ECHO, "--file", "steps.jsonl")
    assert "go with PAYLOAD" in misuse("submit", "--file", "steps.jsonl", "--step-id", "x")
    assert "go with PAYLOAD" in misuse("submit", "--file", "steps.jsonl", "--count", "1")
    assert "--count" in misuse("submit", ECHO, "--step-id", "x", "--count", "2")
    assert "does not exist" in misuse("submit", "--file", "nowhere.jsonl")
    for count in ("0", "-1", "many", "1000001"):
        assert "--count" in misuse("submit", ECHO, "--count", count)


def test_a_file_of_steps_and_payloads(tmp_path: Path, queue: Queue) -> None:
    lines = [
        '{"task_type": "echo", "payload": "part of the payload"}',
        "",
        '{"payload": {"task_type": "echo", "text": "one line: \u2028 \x85"}, "priority": 9, "step_id": "s-2", "max_retries": 0}\r',
        '  {"payload": {"task_type": "echo"}}  ',
    ]
    (tmp_path / "steps.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    ids = run("submit", "--file", "steps.jsonl", "--priority", "4").stdout.splitlines()
    found = {record.step_id: record for record in queue.store.get_steps(ids)}
    assert (len(ids), ids[1]) == (3, "s-2")
    assert [found[step_id].priority for step_id in ids] == [4, 9, 4]
    assert found["s-2"].max_retries == 0
    assert found["s-2"].payload["text"] == "one line: \u2028 \x85"
    assert found[ids[0]].payload["payload"] == "part of the payload"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "the line: is not JSON"),
        (b"[]", "payload: must be a JSON object"),
        (b'{"task_type": "\xff"}', "the line: is not UTF-8 text"),
        (b'{"payload": {"task_type": "x"}, "prio": 1}', "prio: is not a field of a step"),
        (b'{"payload": {"task_type": "x"}, "priority": true}', "priority: must be a whole number"),
        (b'{"payload": {"task_type": "x"}, "step_id": 7}', "step_id: must be"),
        (b'{"payload": {"task_type": "x"}, "max_retries": "3"}', "max_retries: must be"),
        (b'{"payload": 1, "payload": 2}', "payload: is there twice"),
        (b'{"step_id": "x"}', "payload.task_type: must be"),
    ],
    ids=range(9),
)
def test_a_bad_line_is_named_and_nothing_is_submitted(line: bytes, said: str, tmp_path: Path, queue: Queue) -> None:
    (tmp_path / "steps.jsonl").write_bytes(ECHO.encode() + b"\n\n" + line + b"\n" + ECHO.encode())
    assert complaint("submit", "--file", "steps.jsonl").startswith(f"steps.jsonl, line 3: {said}")
    assert queue.stats().pending == 0


def test_an_empty_file_submits_nothing(tmp_path: Path) -> None:
    (tmp_path / "steps.jsonl").write_text("\n \n")
    assert run("submit", "--file", "steps.jsonl").stdout == ""


# -- look -------------------------------------------------------------------------------------------------------------


def test_status_says_until_when_a_step_is_deferred(queue: Queue) -> None:
    queue.submit_step(json.loads(ECHO), step_id="s-1")
    (step,) = queue.claim_steps(1)
    queue.settle([queue.deferred(step, "the quota is used up", 0.1, 3600.0)])
    told = json.loads(run("status", "s-1", "--json").stdout)
    assert (told["status"], told["deferrals"], told["error"]) == ("pending", 1, "the quota is used up")
    shown = run("status", "s-1").stdout
    assert f"pending, deferred until {told['due_ts']}" in shown
    queue.cancel_steps(["s-1"])
    assert re.search(r"^status +failed$", run("status", "s-1").stdout, re.MULTILINE)


def test_status_tells_a_steps_whole_story(queue: Queue) -> None:
    queue.submit_step(json.loads(ECHO), step_id="s-1")
    fail(queue, "s-1", "boom\n\x1b[31mred\x9b")
    told = json.loads(run("status", "s-1", "--json").stdout)
    assert (told["status"], told["error"], told["payload"]) == ("failed", "boom\n\x1b[31mred\x9b", json.loads(ECHO))
    assert [attempt["outcome"] for attempt in told["history"]] == ["failed"]
    shown = run("status", "s-1").stdout
    assert re.search(r"^status +failed$", shown, re.MULTILINE)
    assert "hällo" in shown
    # What a handler wrote cannot reach the reader's terminal.
    assert r"\x1b[31mred\x9b" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("step_id", ["nothing", "", "\0", "x" * 1000, b"\xff".decode("utf-8", "surrogateescape")])
def test_an_unknown_step_is_one_line_and_exit_1(step_id: str) -> None:
    assert complaint("status", step_id).startswith("there is no step ")
    assert complaint("status", step_id, "--json").startswith("there is no step ")


READING = [["queue"], ["pods"], ["leader"], ["commands"], ["throttles"]]


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
def test_each_reading_command_prints_json_also_where_there_is_nothing(command: list[str]) -> None:
    assert json.loads(run(*command, "--json").stdout) is not None
    assert run(*command).stdout.strip()


@pytest.mark.parametrize("command", [*READING, ["status", "s-1"]], ids=lambda command: command[0])
def test_each_reading_command_prints_json_of_a_living_fleet(command: list[str], pod: Pod, queue: Queue) -> None:
    queue.submit_step(json.loads(ECHO), step_id="s-1")
    queue.cancel_steps(["s-1"], by="a test")
    assert json.loads(run(*command, "--json").stdout) is not None
    assert run(*command).stdout.strip()


def test_queue_counts_by_status(queue: Queue) -> None:
    queue.submit_steps([json.loads(ECHO)] * 3)
    assert json.loads(run("queue", "--json").stdout) == {"pending": 3, "claimed": 0, "completed": 0, "failed": 0}
    assert "pending    3" in run("queue").stdout


def test_pods_and_the_leader(pod: Pod, queue: Queue) -> None:
    gone = Identity("pod-gone", "i")
    queue.store.register_pod(gone, {})
    queue.store.mark_down(gone)
    rows = {row["pod_id"]: row for row in json.loads(run("pods", "--json").stdout)}
    assert (rows["pod-here"]["state"], rows["pod-here"]["leader"]) == ("running", True)
    assert (rows["pod-gone"]["state"], rows["pod-gone"]["leader"]) == ("down", False)
    assert "pod-here" in run("pods").stdout
    assert json.loads(run("leader", "--json").stdout) == {
        "leader_pod_id": "pod-here",
        "total_alive_pods": 1,
        "alive_pods": ["pod-here"],
    }
    assert re.search(r"^leader_pod_id +pod-here$", run("leader").stdout, re.MULTILINE)


def test_throttles_of_living_pods_whatever_figures_they_have(queue: Queue) -> None:
    queue.store.register_pod(Identity("pod-1", "i"), {"throttles": {"b": {"max_inflight": 3}, "a": {"p95": None}}})
    queue.store.register_pod(Identity("pod-2", "i"), {"throttles": {"gone": {}}})
    queue.store.mark_down(Identity("pod-2", "i"))
    assert json.loads(run("throttles", "--json").stdout) == [
        {"throttle": "a", "pod_id": "pod-1", "p95": None},
        {"throttle": "b", "pod_id": "pod-1", "max_inflight": 3},
    ]
    assert run("throttles").stdout.splitlines()[0].split() == ["throttle", "pod_id", "p95", "max_inflight"]
    changes = [{"n": 0, "before": 2, "after": 1, "reason": "throttle", "times": 1, "ago_s": 0.5}]
    queue.store.register_pod(Identity("pod-1", "i"), {"throttles": {"b": {"max_inflight": 3, "changes": changes}}})
    assert "changes" not in run("throttles").stdout
    assert json.loads(run("throttles", "--json").stdout)[0]["changes"] == changes


def test_schema_is_printed_or_applied(tmp_path: Path) -> None:
    assert "CREATE TABLE step_tracker" in run("schema").stdout
    assert not (tmp_path / "q.db").exists()
    for _ in range(2):
        assert run("schema", "--apply").stdout == f"sqlite:///{tmp_path}/q.db has schema version {len(migrations())}\n"
    assert (tmp_path / "q.db").exists()


def test_tables_of_the_snowflake_store(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "CREATE HYBRID TABLE IF NOT EXISTS step_tracker" in run("schema", "--tables", "hybrid").stdout
    assert "for the Snowflake store" in complaint("schema", "--tables", "hybrid", "--apply")
    assert "--tables" in misuse("schema", "--tables", "other")
    monkeypatch.setenv("FLEET_Q_STORE", "snowflake")
    assert run("schema").stdout == (Path(__file__).parents[2] / "schema.sql").read_text()
    assert "fleetq: SNOWFLAKE_ACCOUNT: is not set" in run("schema", "--apply", code=1).stderr


# -- act --------------------------------------------------------------------------------------------------------------


def test_recover_leads_where_nobody_else_does(queue: Queue) -> None:
    told = json.loads(run("recover", "--json").stdout)
    assert re.fullmatch(r"run-[0-9a-f]{12}", told.pop("run_id"))
    assert told == {
        "dead_pods": 0,
        "total_orphans": 0,
        "resubmitted": 0,
        "terminal_failures": 0,
        "held_off": False,
    }
    assert "0 orphans" in run("recover").stdout
    assert len(queue.store.list_recovery_runs(10)) == 2


def test_recover_gives_the_steps_of_a_pod_that_is_gone_to_the_others(queue: Queue) -> None:
    queue.submit_step(json.loads(ECHO), step_id="s-1")
    queue.claim_steps(1)
    queue.store.mark_down(queue.who)
    assert json.loads(run("recover", "--json").stdout)["resubmitted"] == 1
    assert queue.stats().pending == 1


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_recover_is_refused_with_3_where_a_pod_leads(options: list[str], pod: Pod) -> None:
    assert "pod-here leads this fleet" in complaint("recover", *options, code=3)


def test_recover_may_ask_the_leader(pod: Pod) -> None:
    assert run("recover", "--ask").stdout.startswith("pod-here: run-")
    told = json.loads(run("recover", "--ask", "--json").stdout)
    assert [(answer["pod_id"], answer["ok"]) for answer in told["answers"]] == [("pod-here", True)]


def test_nobody_is_asked_where_nobody_leads(queue: Queue) -> None:
    assert "no living pod leads" in complaint("recover", "--ask")
    assert queue.store.list_commands(10) == []


def test_requeue_and_cancel_count_what_moved(queue: Queue) -> None:
    queue.submit_step(json.loads(ECHO), step_id="s-1")
    fail(queue, "s-1")
    assert run("requeue", "s-1", "s-1", "unknown").stdout == "requeued 1 of 2; 1 were unknown or had moved on\n"
    assert run("requeue", "s-1", code=1).stdout.startswith("requeued 0 of 1")
    assert run("cancel", "s-1").stdout == "cancelled 1 of 1\n"
    assert run("cancel", "s-1", "unknown", code=1).stdout.startswith("cancelled 0 of 2")
    record = queue.get_step("s-1")
    assert record is not None
    assert record.is_dead_letter
    assert str(record.error).startswith("cancelled by cli")
    kinds = [row["kind"] for row in json.loads(run("commands", "--json").stdout)]
    assert kinds == ["cancel_steps", "cancel_steps", "requeue_steps", "requeue_steps"]
    assert "STEP_IDS" in misuse("requeue")


def test_pause_resume_and_drain_a_living_pod(pod: Pod, queue: Queue) -> None:
    assert run("pause", "pod-here").stdout == "pod-here: paused; 0 steps are still running\n"
    eventually(lambda: pod.state == "paused")
    queue.submit_step(json.loads(ECHO), step_id="s-1")
    assert run("resume", "--all").stdout == "pod-here: resumed\n"
    assert queue.wait("s-1", 20).status is Status.COMPLETED
    assert run("drain", "pod-here").stdout.startswith("pod-here: draining")
    assert pod.wait_stopped(20)
    assert "1 steps" not in run("commands").stdout


@pytest.mark.parametrize("name", ["pause", "resume", "drain"])
def test_an_order_wants_a_living_pod(name: str, queue: Queue) -> None:
    assert "either POD_ID or --all" in misuse(name)
    assert "either POD_ID or --all" in misuse(name, "pod-1", "--all")
    for pod_id in ("nobody", "leader", "*", ""):
        assert complaint(name, pod_id) == f"no living pod is called {pod_id!r}; see `fleetq pods`"
    assert queue.store.list_commands(10) == []


def test_an_order_that_nobody_answers_says_so(queue: Queue) -> None:
    queue.store.register_pod(Identity("pod-deaf", "i"), {})
    said = complaint("pause", "pod-deaf", "--timeout", "0")
    assert re.fullmatch(r"cmd-\w+: nobody has answered within 0 s; see `fleetq commands`", said)


def test_throttle_reset(pod: Pod, queue: Queue) -> None:
    assert complaint("throttle-reset", "nothing").startswith("no living pod publishes a throttle 'nothing'")
    queue.store.register_pod(Identity("pod-deaf", "i"), {"throttles": {"api": {}}})
    run("throttle-reset", "api", "--timeout", "0", code=1)
    command = queue.store.list_commands(1)[0].command
    assert (command.kind, command.target, command.args) == ("reset_throttle", "*", {"name": "api"})
    run("throttle-reset", "api", "--pod", "pod-deaf", "--timeout", "0", code=1)
    assert queue.store.list_commands(1)[0].command.target == "pod-deaf"
    assert complaint("throttle-reset", "api", "--pod", "p").startswith("no living pod 'p' publishes a throttle 'api'")


def test_a_user_without_a_name_may_act(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", nameless)
    queue.submit_step(json.loads(ECHO), step_id="s-1")
    run("cancel", "s-1")
    assert queue.store.list_commands(1)[0].command.issued_by == "cli"


# -- settings and stores that are wrong -------------------------------------------------------------------------------

COMMANDS = [
    ["pod"], ["submit", ECHO], ["status", "s-1"], ["queue"], ["pods"], ["leader"], ["commands"], ["throttles"],
    ["recover"], ["requeue", "s-1"], ["cancel", "s-1"], ["pause", "--all"], ["resume", "p"], ["drain", "p"],
    ["throttle-reset", "t"], ["schema", "--apply"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_wrong_setting_is_one_line(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_Q_MAX_RETRIES", "many")
    assert (
        complaint(*command)
        == "FLEET_Q_MAX_RETRIES='many': must be a valid integer, unable to parse string as an integer"
    )


def test_two_wrong_settings_are_two_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEET_Q_CLAIM_INTERVAL", "0")
    (tmp_path / ".env").write_text("FLEET_Q_POD_ID=leader\n")
    lines = run("queue", code=1).stderr.splitlines()
    assert [line.partition("=")[0] for line in lines] == ["fleetq: FLEET_Q_POD_ID", "fleetq: FLEET_Q_CLAIM_INTERVAL"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("what", ["a folder", "under a file", "no database"])
def test_a_store_that_cannot_be_opened_is_one_line(
    command: list[str], what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no database" * 1000)
    path = {"a folder": tmp_path, "under a file": tmp_path / "file" / "q.db", "no database": tmp_path / "file"}[what]
    monkeypatch.setenv("FLEET_Q_STORE", f"sqlite:///{path}")
    assert str(path) in complaint(*command)


def test_a_working_directory_that_is_gone_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setenv("FLEET_Q_STORE", "sqlite:///q.db")
    assert "No such file or directory" in complaint("queue")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        left = subprocess.run([FLEETQ, "queue"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert left.returncode == 1
    assert left.stderr == "fleetq: the operating system: No space left on device\n"


@pytest.mark.parametrize("pod_id", ["leader", "*", "a b", ""])
def test_a_pod_needs_a_proper_name(pod_id: str) -> None:
    assert complaint("pod", "--pod-id", pod_id).startswith(f"FLEET_Q_POD_ID={pod_id!r}: ")


# -- the installed command, as a process ------------------------------------------------------------------------------


def shell(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FLEETQ, *args], env=os.environ | env, capture_output=True, text=True, timeout=60)


def test_a_draining_pod_works_and_leaves_with_0(tmp_path: Path, queue: Queue) -> None:
    # The task's module is found in the working directory, as with `python -m`.
    (tmp_path / "mytasks.py").write_text(
        "from fleetq_core import task\n\n@task('mine')\ndef mine(step):\n    return {'by': step.pod_id}\n"
    )
    step_id = queue.submit_step({"task_type": "mine"})
    left = shell("pod", "--drain", "--pod-id", "pod-7", FLEET_Q_HANDLERS="mytasks")
    assert left.returncode == 0, left.stdout + left.stderr
    record = queue.get_step(step_id)
    assert record is not None
    assert (record.status, record.result) == (Status.COMPLETED, {"by": "pod-7"})
    assert [pod.status for pod in queue.store.list_pods()] == ["down"]


def test_a_draining_pod_waits_for_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Callable[[], bool]] = []
    monkeypatch.setattr(Pod, "run", lambda _, until: asked.append(until) or 0)
    run("pod", "--drain")

    def away(_: Queue) -> QueueStats:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(Queue, "stats", away)
    assert [drained() for drained in asked] == [False]
    monkeypatch.setattr(Queue, "stats", lambda _: QueueStats(0.0, completed=1))
    assert [drained() for drained in asked] == [True]


def test_a_module_that_cannot_be_imported_is_one_line_and_exit_1() -> None:
    left = shell("pod", FLEET_Q_HANDLERS="there_is_no_such_module")
    (line,) = (left.stdout + left.stderr).splitlines()
    assert left.returncode == 1
    assert "FLEET_Q_HANDLERS: cannot import there_is_no_such_module" in line


def test_sigterm_ends_a_pod_with_0(queue: Queue) -> None:
    process = subprocess.Popen([FLEETQ, "pod"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        eventually(lambda: [pod for pod in queue.store.list_pods() if pod.status == "up"])
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert "Traceback" not in said


def test_help_and_version() -> None:
    assert run("--version").stdout.startswith("fleetq, version ")
    shown = run("--help").stdout
    names = (
        "pod", "submit", "status", "queue", "pods", "leader", "commands", "throttles", "recover", "requeue", "cancel",
        "pause", "resume", "drain", "throttle-reset", "schema",
    )  # fmt: skip
    for name in names:
        assert re.search(rf"^  {name} +\w", shown, re.MULTILINE), name
        assert run(name, "--help").stdout.startswith(f"Usage: main {name}")
    assert "No such command" in misuse("enqueue")
