"""Faults of a fleet of processes on Snowflake: full lock queues, a store that is away, and settings that are wrong."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fleetq_core.model import Status, StepRow
from fleetq_core.store.snowflake import SnowflakeStore
from fleetq_core.store.snowflake_connection import RETRY_MAX_S, SnowflakeConnection, Statement
from tests.support import emulator
from tests.support.fleet import ROOT, Fleet
from tests.support.server_faults import ServerFaults
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
OUTAGE_S = float(os.environ.get("FLEETQ_OUTAGE_S", "16"))
_schemas = itertools.count(1)


@pytest.fixture(scope="module")
def control(snowflake_settings: dict[str, Any]) -> ServerFaults:
    return ServerFaults(snowflake_settings["port"])


@pytest.fixture
def faults(control: ServerFaults) -> Iterator[ServerFaults]:
    yield control
    control.clear()


def environment(settings: dict[str, Any], **override: Any) -> dict[str, str]:
    """The settings of a process."""
    return {f"SNOWFLAKE_{name.upper()}": str(value) for name, value in (settings | override).items()}


def created(settings: dict[str, Any], tables: Any = "standard") -> tuple[dict[str, Any], SnowflakeStore]:
    """A schema of the test's own: how to connect to it, and a store on it."""
    mine = settings | {"schema": f"FLEET_{next(_schemas)}"}
    store = SnowflakeStore(SnowflakeConnection(mine, "observer"))
    store.create_schema(tables)
    return mine, store


# -- many processes, one lock -----------------------------------------------------------------------------------------

DRAINERS = """
import json, os, sys, threading, time
from fleetq_core.model import Identity, Outcome, Status
from fleetq_core.store.snowflake import SnowflakeStore
from fleetq_core.store.snowflake_connection import SnowflakeConnection

won, pauses = [], []

def pause(seconds):
    pauses.append(seconds)
    time.sleep(seconds)

def drain(name):
    store, who = SnowflakeStore(SnowflakeConnection(json.loads(sys.argv[1]), name, pause=pause)), Identity(name, name)
    store.check_schema()
    store.register_pod(who, {})
    n = 0
    while claimed := store.claim_steps(who, f"{name}-{n}", 50, 3600.0):
        pairs = {(c.step_id, c.claim_token) for c in claimed}
        assert store.settle_steps([Outcome(*pair, Status.COMPLETED, 0.1) for pair in pairs], 3) == pairs
        won.extend(pairs)
        n += 1
    store.close()

def work(process):
    threads = [threading.Thread(target=drain, args=(f"pod-{process}-{n}",)) for n in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    with open(f"{sys.argv[2]}/{process}", "w") as file: json.dump([won, pauses], file)
    os._exit(0)

# Forked, and before any connection: importing the driver takes longer than all of the rest.
children = [os.fork() or work(process) for process in range(8)]
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""
IN_TIME = " - (INFO|WARNING) - |no answer from Snowflake yet"  # not of the fault itself
LOCKING = r" (register_pod|claim_\w+|settle_steps)\n"


@pytest.mark.parametrize("tables", ["standard", "hybrid"])
def test_eight_processes_share_2000_steps_through_full_lock_queues(
    snowflake_settings: dict[str, Any], faults: ServerFaults, tmp_path: Path, tables: str
) -> None:
    settings, store = created(snowflake_settings, tables)
    for half in "ab":
        store.insert_steps([StepRow(f"{half}{n}", "echo", "{}", n % 3, None) for n in range(1000)])
    command = [sys.executable, "-c", DRAINERS, json.dumps(settings), str(tmp_path)]
    holder = SnowflakeStore(SnowflakeConnection(settings, "holder"))
    # A transaction holds the lock until 24 writers have met it: 20 may wait, the others are told 625 and try again.
    faults.add(LOCKING, "watch", times=40)
    for sql in ("ALTER SESSION SET AUTOCOMMIT = FALSE", "UPDATE step_tracker SET error = NULL WHERE 1 = 0"):
        emulator.run(holder, sql)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as processes:
        try:
            eventually(lambda: len(faults.hits()) >= 40, timeout_s=60)
            emulator.run(holder, "ROLLBACK")
            for _ in range(3):  # and the server says so in bursts
                burst = len(faults.hits()) + 30
                faults.add(LOCKING, "error:625", times=30)
                eventually(lambda burst=burst: len(faults.hits()) >= burst, timeout_s=60)
            said = processes.communicate(timeout=100)[1]
            assert [line for line in said.splitlines() if not re.search(IN_TIME, line)] == []
        finally:
            holder.close()
            if processes.returncode is None:
                os.killpg(processes.pid, signal.SIGKILL)
    assert processes.returncode == 0
    answers = [json.loads((tmp_path / str(process)).read_text()) for process in range(8)]
    won = [tuple(pair) for pairs, _ in answers for pair in pairs]
    assert len(won) == len({step_id for step_id, _ in won}) == 2000
    assert set(_rows(store, "SELECT step_id, claim_token FROM step_tracker WHERE status = 'completed'")) == set(won)
    pauses = [pause for _, pauses in answers for pause in pauses]
    assert len(pauses) >= 90
    assert max(pauses) <= RETRY_MAX_S
    assert len({round(pause, 4) for pause in pauses}) > len(pauses) / 2  # no two wait alike
    store.close()


def _rows(store: SnowflakeStore, sql: str) -> list[tuple[Any, ...]]:
    return store._db.rows(Statement.of("test", sql), {})


# -- a store that is away ---------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(snowflake_settings: dict[str, Any]) -> Iterator[TcpProxy]:
    with TcpProxy(snowflake_settings["port"]) as between:
        yield between


def fleet_behind(proxy: TcpProxy, settings: dict[str, Any], folder: Path, **override: str) -> Fleet:
    """A fleet whose pods go through the proxy, and whose observer does not."""
    mine, store = created(settings)
    store.close()
    here = environment(mine) | {"FLEET_Q_STORE": "snowflake"}
    fleet = Fleet(folder, **here | override)
    fleet.settings["SNOWFLAKE_PORT"] = str(proxy.port)
    return fleet


@pytest.mark.timeout(120 + 6 * OUTAGE_S)
@pytest.mark.parametrize("how", ["go_away", "stall"] if "FLEETQ_OUTAGE_S" in os.environ else ["go_away"])
def test_a_fleet_outlives_a_store_that_is_away(
    snowflake_settings: dict[str, Any], proxy: TcpProxy, tmp_path: Path, how: str
) -> None:
    # The driver's own pauses, of seconds, do not shrink with these: the hold-off, which is as long as the threshold, must
    # leave every pod the time to come back.
    fleet = fleet_behind(
        proxy, snowflake_settings, tmp_path,
        FLEET_Q_HEARTBEAT_INTERVAL=f"{OUTAGE_S / 16:g}", FLEET_Q_DEAD_POD_THRESHOLD=f"{0.75 * OUTAGE_S:g}",
        FLEET_Q_RECOVERY_INTERVAL="0.5", FLEET_Q_MAX_PARALLELISM="5", FLEET_Q_MAX_RETRIES="3",
    )  # fmt: skip
    try:
        names = ("pod-1", "pod-2", "pod-3")
        pods = [fleet.start(name) for name in names]
        # Some finish while the store is away, some when it is back, some have not begun.
        inside, across = fleet.submit(6, seconds=OUTAGE_S / 3), fleet.submit(6, seconds=1.3 * OUTAGE_S)
        eventually(lambda: len(fleet.lines("start")) == 12)
        ids = inside + across + fleet.submit(60, seconds=0.05)
        getattr(proxy, how)()
        left = time.time()
        eventually(lambda: len(fleet.lines("finish")) >= 6, timeout_s=OUTAGE_S)
        eventually(lambda: time.time() - left > OUTAGE_S, timeout_s=OUTAGE_S + 5)
        proxy.come_back()
        back = time.time()
        eventually(lambda: fleet.queue.stats().completed > 0, timeout_s=60)
        first = time.time() - back
        eventually(fleet.drained, timeout_s=60 + OUTAGE_S)
        whole = time.time() - back
        eventually(lambda: all("the store is back" in fleet.output(name) for name in names), timeout_s=100)

        assert [pod.poll() for pod in pods] == [None] * 3
        records = {record.step_id: record for record in fleet.queue.store.get_steps(ids)}
        assert {record.status for record in records.values()} == {Status.COMPLETED}
        assert len(records) == len(ids)
        # Nobody was declared dead: nothing ran twice, no retry was counted, and what ran is what stands.
        assert [run for run in fleet.queue.store.list_recovery_runs(50) if run.dead_pods] == []
        assert {record.retry_count for record in records.values()} == {0}
        runs = Counter(line[1] for line in fleet.lines("start"))
        said = {name: fleet.output(name) for name in names}
        assert {step_id: runs[step_id] for step_id in ids if runs[step_id] != 1} == {}, said
        ended = {line[1]: (line[2], float(line[5])) for line in fleet.lines("finish")}
        during = [step_id for step_id, (_, at) in ended.items() if left < at < back]
        assert len(during) >= 6
        assert all(records[step_id].claim_token == ended[step_id][0] for step_id in ids)
        for name in names:
            said = fleet.output(name)
            assert len(re.findall("trying again", said)) == len(re.findall("the store is back", said)) == 1, said
            assert "Traceback" not in said
        print(
            f"\nstore away {back - left:.1f} s ({how}): {len(during)} of {len(ids)} steps finished meanwhile, "
            f"first outcome {first:.1f} s after its return, all of them {whole:.1f} s after; 0 lost, 0 run twice, "
            "0 pods declared dead"
        )
    finally:
        fleet.close()


@pytest.mark.skipif("FLEETQ_OUTAGE_S" not in os.environ, reason="waits for long: make outage")
def test_a_process_stops_on_a_dead_network_and_its_result_arrives_later(
    snowflake_settings: dict[str, Any], proxy: TcpProxy, tmp_path: Path
) -> None:
    fleet = fleet_behind(
        proxy, snowflake_settings, tmp_path,
        FLEET_Q_HEARTBEAT_INTERVAL="1", FLEET_Q_DEAD_POD_THRESHOLD="6", FLEET_Q_STOP_GRACE="1",
    )  # fmt: skip
    try:
        pod = fleet.start("pod-1")
        (step_id,) = fleet.submit(1, seconds=0.5)
        eventually(lambda: fleet.lines("start"))
        proxy.stall()
        eventually(lambda: fleet.lines("finish"))
        started = time.monotonic()
        pod.send_signal(signal.SIGTERM)
        assert pod.wait(40) == 0
        took = time.monotonic() - started
        assert took < 20, fleet.output("pod-1")  # statements hang for up to 105 s
        assert "Traceback" not in fleet.output("pod-1")
        proxy.come_back()
        fleet.start("pod-1")
        eventually(lambda: fleet.queue.get_step(step_id).status is Status.COMPLETED)
        assert len(fleet.lines("start")) == 1
        assert fleet.queue.get_step(step_id).retry_count == 0
    finally:
        fleet.close()


# -- settings that are wrong: one clear line --------------------------------------------------------------------------

# The fault, on what it acts, what is set otherwise, and what the line must name.
WRONG: dict[str, tuple[str, str, dict[str, str], str]] = {
    "password": ("error:390100", "login", {}, "390100.*SNOWFLAKE_USER"),
    "role": ("error:390189", "login", {"ROLE": "NOSUCH"}, "390189.*SNOWFLAKE_ROLE"),
    "anything_validated": ("error:390201", "login", {}, "390201.*SNOWFLAKE_DATABASE.*SNOWFLAKE_WAREHOUSE"),
    "database": ("without:database", "login", {"DATABASE": "NOSUCH"}, "090105.*SNOWFLAKE_DATABASE"),
    "schema": ("without:schema", "login", {"SCHEMA": "NOSUCH"}, "090106.*SNOWFLAKE_SCHEMA"),
    "warehouse": ("without:warehouse", "login", {"WAREHOUSE": "NOSUCH"}, "000606.*SNOWFLAKE_WAREHOUSE"),
    "no_tables": ("", "", {"SCHEMA": "EMPTY"}, "no FLEET-Q tables: run `fleetq schema --apply`"),
    "table": ("error:2003", "statement", {}, "002003.*fleetq schema --apply"),
    "privilege": ("error:3001", "statement", {}, "003001.*STEP_TRACKER.*docs/snowflake.md"),
    "account": ("http:403", "login", {}, "SNOWFLAKE_ACCOUNT"),
    "account_404": ("http:404", "login", {}, "290404.*SNOWFLAKE_ACCOUNT"),
    "host": ("", "", {"HOST": "no-such-host.invalid"}, "250001.*SNOWFLAKE_HOST"),
}  # fmt: skip

# A pod opens the store as the command does; where it needs more than that it says so when it starts.
OF_A_POD = ("password", "warehouse", "table", "privilege", "host")
CASES = [(name, "queue") for name in WRONG] + [(name, "pod") for name in OF_A_POD]


@pytest.fixture(scope="module")
def complaints(
    snowflake_settings: dict[str, Any], control: ServerFaults, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], subprocess.CompletedProcess[str]]]:
    """What `fleetq queue` and `fleetq pod` say in each case; two at a time, for starting takes most of it."""
    settings, store = created(snowflake_settings)
    store.close()
    folder = tmp_path_factory.mktemp("wrong")
    for name, (what, on, _, _) in WRONG.items():
        # A user of its own tells the sign-ins of a case from the others', a pod_id its statements.
        match = f'"LOGIN_NAME": "user_{name}"' if on == "login" else rf"^fleetq pod_{name} .*\b(stats|register_pod)\b"
        if what:
            control.add(match, what, on=on)

    def run(case: tuple[str, str]) -> subprocess.CompletedProcess[str]:
        name, command = case
        own = {f"SNOWFLAKE_{key}": value for key, value in WRONG[name][2].items()}
        env = environment(settings, user=f"user_{name}") | own
        env |= {"FLEET_Q_POD_ID": f"pod_{name}", "FLEET_Q_DATA_DIR": str(folder / name), "PYTHONPATH": str(ROOT)}
        program = [sys.executable, "-m", "fleetq_core", command]
        return subprocess.run(
            program, cwd=folder, env=os.environ | env, capture_output=True, text=True, timeout=100, check=False
        )

    with ThreadPoolExecutor(3) as pool:
        done = dict(zip(CASES, pool.map(run, CASES), strict=True))
    yield done
    control.clear()


@pytest.mark.parametrize(("name", "command"), CASES)
def test_a_wrong_setting_is_one_clear_line(
    complaints: dict[tuple[str, str], subprocess.CompletedProcess[str]], name: str, command: str
) -> None:
    done = complaints[name, command]
    said = (done.stdout + done.stderr).strip()
    lines = [line for line in said.splitlines() if not re.search(IN_TIME, line)]
    assert done.returncode == 1
    assert len(lines) == 1, said
    assert re.search(WRONG[name][3], lines[0]), said
    assert len(lines[0]) < 500
    assert "Traceback" not in said
    assert "never-printed" not in said
