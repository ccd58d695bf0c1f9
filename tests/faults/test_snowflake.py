"""A fleet on Snowflake, with the genuine connector on a server of this machine, or on a real account."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fleetq_core.config import Config, load_config
from fleetq_core.errors import SchemaMismatch, StoreError, StoreUnavailable
from fleetq_core.model import Identity, Outcome, Status, StepRow
from fleetq_core.store import open_snowflake, open_store
from fleetq_core.store.protocol import RecoveryOrder
from fleetq_core.store.snowflake import SnowflakeStore
from fleetq_core.store.snowflake_connection import SnowflakeConnection, Statement
from fleetq_core.store.snowflake_statements import SQL
from tests.support import account, emulator

pytestmark = [pytest.mark.slow, pytest.mark.account]
THRESHOLD = 3600.0
ME, DEAD = Identity("pod-a", "inc-a"), Identity("pod-b", "inc-b")


@pytest.fixture
def environ(snowflake_schemas: Callable[[], dict[str, str]], tmp_path: Path) -> dict[str, str]:
    """The variables of a fleet in a schema of the test's own, without tables."""
    return snowflake_schemas() | {
        "FLEET_Q_STORE": "snowflake", "FLEET_Q_POD_ID": "pod-a", "FLEET_Q_DATA_DIR": str(tmp_path / "data")
    }  # fmt: skip


@pytest.fixture
def config(environ: dict[str, str]) -> Config:
    return load_config(environ, env_file=os.devnull)


def opened(config: Config, tables: Any) -> Any:
    """A store with fresh tables; an account without hybrid ones skips the test."""
    try:
        return open_snowflake(config, create=True, tables=tables)
    except StoreError as exc:
        if tables == "hybrid" and account.WANTED:
            pytest.skip(f"this account has no hybrid tables: {exc}")
        raise


@pytest.fixture(params=["standard", "hybrid"])
def store(request: pytest.FixtureRequest, config: Config) -> Iterator[Any]:
    store = opened(config, request.param)
    yield store
    store.close()


def steps(count: int, prefix: str = "s") -> list[StepRow]:
    return [StepRow(f"{prefix}{n}", "echo", '{"task_type":"echo"}', n % 3, None) for n in range(count)]


def rows(store: SnowflakeStore, sql: str) -> list[tuple[Any, ...]]:
    return store._db.rows(Statement.of("test", sql), {})


# -- the schema -------------------------------------------------------------------------------------------------------


def test_without_tables_a_pod_says_what_to_run(config: Config) -> None:
    with pytest.raises(StoreError, match="has no FLEET-Q tables: run `fleetq schema --apply`"):
        open_store(config)


def test_the_schema_may_be_created_again_and_keeps_what_is_there(store: Any, config: Config) -> None:
    store.insert_steps(steps(2))
    for tables in (None, store.tables):
        again = open_snowflake(config, create=True, tables=tables)
        assert (again.stats().pending, again.tables) == (2, store.tables)
        again.close()
    with pytest.raises(StoreError, match=f"has {store.tables} tables of FLEET-Q already"):
        open_snowflake(config, create=True, tables="hybrid" if store.tables == "standard" else "standard")
    assert len(rows(store, "SELECT * FROM fleetq_schema")) == 1


def test_tables_of_another_version_are_refused(store: Any, config: Config) -> None:
    emulator.run(store, "UPDATE fleetq_schema SET version = 99")
    with pytest.raises(SchemaMismatch, match=r"have version 99, this program knows .*run the same FLEET-Q everywhere"):
        open_store(config)


def test_tables_of_an_older_version_are_brought_up_to_date(store: Any, config: Config) -> None:
    store.insert_steps(steps(2))
    emulator.run(store, "UPDATE fleetq_schema SET version = 3")
    for table, column in (("fleet_sample", "pods"), ("recovery_run", "verdicts"), ("recovery_run", "statements")):
        emulator.run(store, f"ALTER TABLE {table} DROP COLUMN {column}")
    with pytest.raises(SchemaMismatch, match=r"have version 3, .* run `fleetq schema --apply`"):
        open_store(config)
    open_snowflake(config, create=True).close()
    upgraded = open_store(config)
    assert (upgraded.stats().pending, upgraded.tables) == (2, store.tables)
    assert (upgraded.list_recovery_runs(1), upgraded.list_pod_samples(0.0)) == ([], [])
    upgraded.close()


def test_a_lost_table_is_one_clear_line(store: Any) -> None:
    emulator.run(store, "DROP TABLE command_log")
    with pytest.raises(StoreError, match=r"^Snowflake: .*2003.*fleetq schema --apply") as caught:
        store.list_commands(1)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_unavailable(config: Config) -> None:
    nowhere = {"host": "127.0.0.1", "port": 9, "protocol": "http", "login_timeout": 1}
    away = SnowflakeStore(SnowflakeConnection(config.snowflake_settings() | nowhere, "pod-a"))
    with pytest.raises(StoreUnavailable, match="SNOWFLAKE_ACCOUNT"):
        away.now()
    away.close()


def test_another_connection_knows_the_kind_of_the_tables(store: Any) -> None:
    other = store.reopen()
    assert (other.tables, other._db.hybrid) == (store.tables, store.tables == "hybrid")
    other.close()


# -- many at once -----------------------------------------------------------------------------------------------------


def test_eight_claimers_hand_no_step_to_two_winners(store: Any) -> None:
    count = 600
    store.insert_steps(steps(count))
    pods = [Identity(f"pod-{n}", f"inc-{n}") for n in range(8)]
    for who in pods:
        store.register_pod(who, {})

    def drain(who: Identity) -> list[tuple[str, str]]:
        mine, own = [], store.reopen()
        for n in itertools.count():
            token = f"{who.pod_id}-{n}"
            claimed = own.claim_steps(who, token, 25, THRESHOLD)
            if not claimed:
                own.close()
                return mine
            pairs = [(c.step_id, token) for c in claimed]
            assert own.settle_steps([Outcome(*pair, Status.COMPLETED, 0.1) for pair in pairs], 3) == set(pairs)
            mine += pairs
        raise AssertionError

    with ThreadPoolExecutor(len(pods)) as pool:
        won = [pair for found in pool.map(drain, pods) for pair in found]
    assert len(won) == len({step_id for step_id, _ in won}) == count
    assert set(rows(store, "SELECT step_id, claim_token FROM step_tracker WHERE status = 'completed'")) == set(won)


CLAIMER = """
import json, os, sys
from fleetq_core.config import load_config
from fleetq_core.model import Identity
from fleetq_core.store import open_store
store, who = open_store(load_config(env_file=os.devnull)), Identity(sys.argv[1], sys.argv[1])
store.register_pod(who, {})
won, n = [], 0
while claimed := store.claim_steps(who, f"{who.pod_id}-{n}", 50, 3600.0):
    won += [c.step_id for c in claimed]
    n += 1
store.close()
print(json.dumps(won))
"""


def test_processes_hand_no_step_to_two_winners(store: Any, environ: dict[str, str]) -> None:
    store.insert_steps(steps(500))
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, f"pod-{n}"], env=os.environ | environ, stdout=subprocess.PIPE, text=True
        )
        for n in range(4)
    ]
    won = [step_id for claimer in claimers for step_id in json.loads(claimer.communicate(timeout=100)[0])]
    assert len(won) == len(set(won)) == 500
    assert store.stats().claimed == 500


def test_two_submits_of_the_same_steps_leave_each_step_once(store: Any) -> None:
    others = [store.reopen() for _ in range(4)]
    with ThreadPoolExecutor(len(others)) as pool:
        new = list(pool.map(lambda other: other.insert_steps(steps(100)), others))
    for other in others:
        other.close()
    assert sum(new) == 100
    assert rows(store, "SELECT COUNT(*), COUNT(DISTINCT step_id) FROM step_tracker") == [(100, 100)]


def test_pods_drain_a_queue_on_snowflake(environ: dict[str, str], config: Config, tmp_path: Path) -> None:
    settings = environ | {
        "FLEET_Q_HEARTBEAT_INTERVAL": "1", "FLEET_Q_CLAIM_INTERVAL": "0.2", "FLEET_Q_DEAD_POD_THRESHOLD": "20"
    }  # fmt: skip

    def fleetq(*args: str) -> subprocess.CompletedProcess[str]:
        data = {"FLEET_Q_DATA_DIR": str(tmp_path / args[-1])}
        command = [sys.executable, "-m", "fleetq_core", *args]
        environment = os.environ | settings | data
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    told = fleetq("schema", "--apply").stdout
    place = f"{config.snowflake_database}.{config.snowflake_schema}"
    assert told == f"{place} on Snowflake has schema version 4, standard tables\n"
    assert len(fleetq("submit", '{"task_type":"echo","message":"hi"}', "--count", "100").stdout.split()) == 100
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda name: fleetq("pod", "--drain", "--pod-id", name), ("pod-1", "pod-2")))
    assert [end.returncode for end in ends] == [0, 0], ends
    said = "".join(end.stdout + end.stderr for end in ends)
    secrets = [value for name, value in environ.items() if name in ("SNOWFLAKE_PASSWORD", "SNOWFLAKE_TOKEN")]
    assert not [secret for secret in secrets if secret in said]
    assert json.loads(fleetq("queue", "--json").stdout)["completed"] == 100


# -- what no key forbids ----------------------------------------------------------------------------------------------


@pytest.fixture
def standard(config: Config) -> Iterator[Any]:
    store = opened(config, "standard")
    store.register_pod(ME, {})
    yield store
    store.close()


def double(store: Any, step_id: str, token: str) -> None:
    """Another submit's copy of a step, as a standard table would take it from a statement that saw none."""
    emulator.run(
        store,
        "INSERT INTO step_tracker (step_id, task_type, payload, priority, status, retry_count, deferrals, created_ts,"
        f" last_update_ts, write_token) SELECT '{step_id}', 'echo', '{{}}', 0, 'pending', 0, 0, SYSDATE(), SYSDATE(),"
        f" '{token}'",
    )


def test_of_two_copies_of_a_step_both_submits_keep_the_same_one(standard: Any) -> None:
    double(standard, "s0", "a")
    double(standard, "s0", "b")
    assert [standard._undouble(["s0"], token, again=False) for token in ("b", "a")] == [1, 0]
    assert rows(standard, "SELECT write_token FROM step_tracker") == [("a",)]


def test_a_copy_that_has_moved_on_stays(standard: Any) -> None:
    double(standard, "s0", "z")
    standard.claim_steps(Identity("pod-a", "inc-a"), "t", 1, THRESHOLD)
    double(standard, "s0", "a")
    assert standard._run.write("drop_doubles", step_ids='["s0"]', token=None) == 1
    assert rows(standard, "SELECT write_token, status FROM step_tracker") == [("z", "claimed")]


def test_a_submit_that_comes_again_clears_up_after_one_whose_reply_was_lost(standard: Any) -> None:
    double(standard, "s0", "a")
    double(standard, "s0", "b")  # its submit never heard of it, so nobody has looked
    assert standard.insert_steps(steps(1)) == 0
    assert rows(standard, "SELECT write_token FROM step_tracker") == [("a",)]


def test_a_submit_of_new_steps_leaves_the_copies_of_others_to_them(standard: Any) -> None:
    """They look for themselves, and count what they took back."""
    double(standard, "s0", "a")
    double(standard, "s0", "b")
    assert standard._undouble(["s0"], "c", again=False) == 0
    assert rows(standard, "SELECT COUNT(*) FROM step_tracker") == [(2,)]


def test_a_step_that_is_there_twice_is_claimed_and_settled_as_one(standard: Any) -> None:
    double(standard, "s0", "a")
    double(standard, "s0", "b")
    me = Identity("pod-a", "inc-a")
    assert [c.step_id for c in standard.claim_steps(me, "t1", 5, THRESHOLD)] == ["s0"]
    assert standard.claim_steps(me, "t2", 5, THRESHOLD) == []
    assert standard.settle_steps([Outcome("s0", "t1", Status.COMPLETED, 0.1)], 3) == {("s0", "t1")}
    assert rows(standard, "SELECT DISTINCT status FROM step_tracker") == [("completed",)]


# -- what is read back, and what it costs -----------------------------------------------------------------------------


def test_what_a_recovery_did_is_read_back_by_its_run(standard: Any) -> None:
    me, dead = Identity("pod-a", "inc-a"), Identity("pod-b", "inc-b")
    standard.register_pod(dead, {})
    standard.insert_steps(steps(2))
    standard.claim_steps(dead, "t", 1, THRESHOLD)
    standard.mark_down(dead)
    order = RecoveryOrder("run-1", me, THRESHOLD, 3, False)
    (decision,) = standard.recover(order).decisions
    assert (decision.cause, decision.action, decision.owner, decision.retry_count) == ("orphan", "requeued", "pod-b", 1)
    assert decision.reason == "pod pod-b stopped or was declared dead"
    standard.claim_steps(me, "t2", 2, THRESHOLD)  # moved on since
    assert standard.recover(order).decisions == (decision,)


@pytest.fixture
def ran(standard: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the statements that the store runs."""
    names: list[str] = []
    execute = standard._db._execute
    monkeypatch.setattr(standard._db, "_execute", lambda name, *rest: (names.append(name), execute(name, *rest))[1])
    return names


def test_a_thousand_steps_take_few_statements(standard: Any, ran: list[str]) -> None:
    """Submitted in sets of 500 as the queue does, claimed and settled in sets of 100."""
    me = Identity("pod-a", "inc-a")
    for half in ("a", "b"):
        standard.insert_steps(steps(500, half))
    for n in range(10):
        claimed = standard.claim_steps(me, f"t{n}", 100, THRESHOLD)
        done = [Outcome(c.step_id, c.claim_token, Status.COMPLETED, 0.1, "1") for c in claimed]
        assert len(standard.settle_steps(done, 3)) == 100
    assert standard.stats().completed == 1000
    assert len(ran) - 1 <= 45, ran


def test_an_idle_pod_looks_before_it_claims(standard: Any, ran: list[str]) -> None:
    me = Identity("pod-a", "inc-a")
    for n in range(3):
        assert standard.claim_steps(me, f"t{n}", 5, THRESHOLD) == []
    assert ran == ["claim_steps", "read_claim", "any_pending", "any_pending"]
    standard.insert_steps(steps(1))
    assert len(standard.claim_steps(me, "t9", 5, THRESHOLD)) == 1
    statement = Statement.of("any_pending", SQL["any_pending"])
    assert len(statement.parts) == 1  # nothing is bound
    assert "SYSDATE" not in statement.parts[0]


def test_a_beat_that_knows_the_claims_saves_the_write_that_releases_unknown_ones(standard: Any, ran: list[str]) -> None:
    standard.insert_steps(steps(3))
    standard.claim_steps(ME, "mine", 1, THRESHOLD)
    standard.claim_steps(ME, "lost", 1, THRESHOLD)
    beat = standard.beat(ME, {}, THRESHOLD)
    assert standard.release_unknown(ME, {"mine", "lost"}, beat.now_ts) == 0  # nothing is unknown
    first = standard.get_steps(["s0", "s1", "s2"])
    oldest = min(record.claimed_ts for record in first if record.claimed_ts)
    assert standard.release_unknown(ME, set(), oldest) == 0  # too new: their replies may be on their way
    assert "release_unknown" not in ran
    assert standard.release_unknown(ME, {"mine"}, beat.now_ts) == 1
    assert standard.held_claims(ME) == {("s2", "mine")}  # the best of them


def test_what_the_last_beat_could_not_know_is_asked(standard: Any, ran: list[str]) -> None:
    standard.insert_steps(steps(2))
    standard.register_pod(DEAD, {})
    standard.claim_steps(DEAD, "other", 1, THRESHOLD)
    beat = standard.beat(ME, {}, THRESHOLD)
    assert standard.release_unknown(DEAD, set(), beat.now_ts) == 1
    standard.claim_steps(ME, "later", 1, THRESHOLD)
    assert standard.release_unknown(ME, set(), standard.now()) == 1
    assert ran.count("release_unknown") == 2


def test_an_idle_leader_asks_for_little(standard: Any, ran: list[str]) -> None:
    """What each of its loops costs when there is nothing to do, after the first time."""
    standard.insert_steps(steps(1))

    def of(turn: Callable[[], object]) -> list[str]:
        del ran[:]
        turn()
        return list(ran)

    assert of(lambda: standard.beat(ME, {}, THRESHOLD)) == ["beat", "fleet_view"]
    assert of(lambda: standard.release_unknown(ME, set(), standard.now() - 60)) == ["now"]
    assert of(lambda: standard.recover(RecoveryOrder("r", ME, THRESHOLD, 3, False))) == ["recovery_look"]
    assert of(lambda: standard.take_sample(ME, 60.0, THRESHOLD)) == ["sample_look", "insert_sample"]
    assert of(lambda: standard.purge(0.0, 0.0, 100)) == ["purge_look"]
    assert of(lambda: standard.list_commands(10)) == ["list_commands"]


def test_few_claims_look_in_a_long_queue_and_all_at_its_end(standard: Any, ran: list[str]) -> None:
    standard.insert_steps(steps(200))
    ran.clear()
    for n in range(5):
        assert len(standard.claim_steps(ME, f"t{n}", 5, THRESHOLD)) == 5
    claim = ["claim_steps", "read_claim"]
    assert ran == [*claim, "any_pending", *claim, *claim, *claim, "any_pending", *claim]
    assert len(standard.claim_steps(ME, "t6", 200, THRESHOLD)) == 175
    ran.clear()
    assert standard.claim_steps(ME, "t7", 5, THRESHOLD) == []
    assert ran == ["any_pending"]


# -- guards that stand behind a look ----------------------------------------------------------------------------------


def test_what_a_leader_writes_is_refused_to_another(standard: Any) -> None:
    """The store looks before it recovers; the statements must hold for one that looked too early."""
    me, dead, other = Identity("pod-a", "inc-a"), Identity("pod-b", "inc-b"), Identity("pod-c", "inc-c")
    for who in (dead, other):
        standard.register_pod(who, {})
    standard.insert_steps(steps(2))
    standard.claim_steps(dead, "t1", 1, THRESHOLD)
    standard.claim_steps(me, "t2", 1, THRESHOLD)
    standard.settle_steps([Outcome("s0", "t2", Status.FAILED, 0.1, error="x", retry_delay_s=0.0)], 3)
    standard.mark_down(dead)
    run = {"run_id": "run-1", "limit": 10, "threshold_us": int(THRESHOLD * 1e6), "max_retries": 3}

    def counts(who: Identity, silence_us: int) -> list[int]:
        bind = run | {"incarnation": who.incarnation, "silence_us": silence_us}
        return [standard._run.write(name, **bind) for name in ("recover_orphans", "retry_failed", "bury_dead_pods")]

    assert counts(other, 10**15) == [0, 0, 0]
    assert counts(me, 10**15) == [1, 1, 0]
    assert counts(other, -(10**6)) == [0, 0, 0]
    assert counts(me, -(10**6)) == [0, 0, 2]


def test_a_living_pods_claim_is_no_orphan_whoever_looks(standard: Any) -> None:
    me = Identity("pod-a", "inc-a")
    standard.insert_steps(steps(1))
    standard.claim_steps(me, "t", 1, THRESHOLD)
    bind = {"run_id": "r", "limit": 10, "threshold_us": 10**10, "max_retries": 3, "silence_us": 10**10}
    assert standard._run.write("recover_orphans", incarnation=me.incarnation, **bind) == 0
    (record,) = standard.get_steps(["s0"])
    assert (record.status, record.claim_token) == (Status.CLAIMED, "t")
