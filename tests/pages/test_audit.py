"""The Audit screen: its read models with made-up orders and settings, and the page over real ones."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from fleetq_core import runtime as process
from fleetq_core.config import Config, load_config, variable_of
from fleetq_core.dashboard import audit_log, snapshot
from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.dashboard.views import audit as views
from fleetq_core.model import Command, CommandAnswer, CommandRecord, PodRecord, QueueStats
from fleetq_core.runtime import Runtime
from fleetq_core.version import VERSION
from tests.pages.conftest import ROOT, Open, words
from tests.pages.test_pages import HOSTILE, SilentStore
from tests.support.waiting import eventually

NOW = 1_800_000_000.0
SECRET = "hunter2-and-more"
SECRETS = [name for name, field in Config.model_fields.items() if "SecretStr" in repr(field.annotation)]


def pod(name: str, born: float = -900, version: object = VERSION) -> PodRecord:
    return PodRecord(name, f"inc-{name}", "up", NOW + born, NOW - 2, True, {"version": version})


def snap(*pods: PodRecord) -> Snapshot:
    return Snapshot(NOW, QueueStats(NOW), pods, pods[0] if pods else None, (), (), 60.0)


def order(target: str, *answers: tuple[str, bool], at: float = -10, kind: str = "pause", **args: Any) -> CommandRecord:
    told = tuple(CommandAnswer(name, NOW + at + 3, ok, f"{name} says so") for name, ok in answers)
    return CommandRecord(Command("cmd-1", kind, target, args, "ann@example.com", NOW + at), told)


@pytest.mark.parametrize(
    ("record", "state", "sentence"),
    [
        (order("*"), "open", "No answer. Not yet answered: p1, p2."),
        (order("*", ("p1", True)), "partly", "1 answer. Not yet answered: p2."),
        (order("*", ("p1", True), ("p2", True)), "done", "2 answers."),
        (order("*", ("p1", True), ("p2", False)), "refused", "2 answers, 1 refused."),
        (order("p1", ("p1", True)), "done", "1 answer."),
        (order("p2"), "open", "No answer. Not yet answered: p2."),
        (order("gone"), "open", "No answer. That pod does not live now, or began after the order."),
        (order("leader"), "open", "No answer yet."),
        (order("*", at=-1000), "open", "No answer. No pod that lived when it was ordered lives now."),
        (order("p1", at=-4000), "unheard", "No answer. Pods obey an order for 1 h; this one is older, so nobody will."),
        (order("(store)", ("(store)", True), kind="requeue_steps"), "done", "1 answer."),
    ],
)
def test_what_became_of_an_order_is_said(record: CommandRecord, state: str, sentence: str) -> None:
    fleet = snap(pod("p1"), pod("p2"))
    assert views.state_of(record, fleet) == state
    assert state in views.STATES
    assert views.answers_sentence(record, fleet) == sentence


def test_orders_are_heard_for_as_long_as_the_store_hands_them_out() -> None:
    for name, clause in (("sqlite", ":now - {}"), ("snowflake", "DATEADD(second, -{}, SYSDATE())")):
        sql = (ROOT / "fleetq_core" / "store" / "sql" / f"{name}.sql").read_text()
        assert "c.issued_ts > " + clause.format(int(views.HEARD_FOR_S)) in sql


def test_a_pod_that_began_after_an_order_is_not_waited_for() -> None:
    assert views.state_of(order("*", ("p1", True)), snap(pod("p1"), pod("late", born=-5))) == "done"


def test_an_order_is_a_line_with_the_refusal_first() -> None:
    record = order("*", ("p1", True), ("p2", False), kind="reset_throttle", name="api")
    (line,) = views.order_lines([record], snap(pod("p1")))
    assert (line.order, line.to, line.by, line.issued) == (
        "reset throttle api", "all pods", "ann@example.com", "2027-01-15 07:59:50",
    )  # fmt: skip
    assert line.answers == "p2 refused: p2 says so; p1: p1 says so"
    assert [(a.state, a.pod, a.after) for a in views.answer_lines(record)] == [
        (["refused"], "p2", "3 s"), (["done"], "p1", "3 s"),
    ]  # fmt: skip
    assert views.refusals(record) == ["p2: p2 says so"]
    bulk = order("(store)", kind="requeue_steps", step_ids=["a"], count=12)
    assert (views.order_words(bulk), views.target_words("(store)")) == ("requeue 12 steps", "the store")


def test_orders_are_filtered_by_kind_and_person() -> None:
    log = [order("*"), order("p1", kind="drain"), order("p1", kind="newer_kind")]
    assert [r.command.kind for r in views.matching(log, "newer kind", None)] == ["newer_kind"]
    assert views.matching(log, None, "bob") == []
    assert len(views.matching(log, None, "ann@example.com")) == 3
    assert views.people(log) == ["ann@example.com"]
    assert {"run recovery", "requeue steps", "newer kind"} <= set(views.kinds(log))


def test_no_secret_is_ever_shown() -> None:
    assert {"api_key", "snowflake_password", "snowflake_token"} <= set(SECRETS)
    config = load_config({variable_of(name): SECRET for name in SECRETS} | {"FLEET_Q_API_KEYS": f"ci:viewer:{SECRET}"})
    lines = {line.variable: line for line in views.setting_lines(config)}
    assert SECRET not in json.dumps([asdict(line) for line in lines.values()])
    assert {lines[variable_of(name)].value for name in SECRETS} == {"set (hidden)"}
    for name in SECRETS:  # one that got past the types is hidden too
        object.__setattr__(config, name, SECRET)
    assert SECRET not in json.dumps([asdict(line) for line in views.setting_lines(config)])
    bare = {line.variable: line for line in views.setting_lines(load_config({"FLEET_Q_API_KEY": ""}))}
    assert {bare[variable_of(name)].value for name in SECRETS} == {"not set"}
    object.__setattr__(config, "api_key", SecretStr(""))
    assert next(line for line in views.setting_lines(config) if line.variable == "FLEET_Q_API_KEY").value == "not set"


def test_a_setting_tells_where_it_is_from_and_what_it_means() -> None:
    config = load_config({"FLEET_Q_MAX_RETRIES": "3", "FLEET_Q_HANDLERS": "a.b,c"})
    lines = views.setting_lines(config)
    assert len(lines) == len(Config.model_fields)
    assert [(line.variable, line.value, line.source) for line in lines[:3]] == [
        ("FLEET_Q_MAX_RETRIES", "3", ["set"]),
        ("FLEET_Q_HANDLERS", "a.b, c", ["set"]),
        ("FLEET_Q_POD_ID", config.pod_id, ["default"]),
    ]
    assert lines[0].meaning == Config.model_fields["max_retries"].description
    assert all(line.meaning for line in lines)
    values = {line.variable: line.value for line in lines}
    assert (values["FLEET_Q_HEARTBEAT_INTERVAL"], values["SNOWFLAKE_ROLE"]) == ("10", "not set")
    assert values["FLEET_Q_STORE"] == config.store


def test_versions_that_differ_come_first() -> None:
    old = [pod("p2", version="0.0.9"), pod("p3", version="0.0.9"), pod("p4", version=None)]
    lines = views.version_lines(snap(pod("p1"), *old, replace(pod("dead", version="0.0.1"), status="down")))
    assert [(line.version, line.same, line.pods, line.names) for line in lines] == [
        ("0.0.9", "another", 2, "p2, p3"),
        ("unknown", "another", 1, "p4"),
        (VERSION, "this dashboard's", 1, "p1"),
    ]


@pytest.fixture
def ordered(running: Runtime) -> Runtime:
    """A log with an order that was obeyed, one nobody hears, one that was refused, and a requeue."""
    queue, store = running.queue, running.queue.store
    eventually(lambda: running.pod.leads)
    queue.order("reset_throttle", "pod-under-test", by="ann@example.com", name=HOSTILE)
    eventually(lambda: store.list_commands(1)[0].answers)
    queue.order("pause", "nobody", by=HOSTILE)
    queue.requeue_steps(["unknown"], by="http")
    return running


def test_the_log_shows_who_what_and_what_came_of_it(ordered: Runtime, show: Open) -> None:
    at = show("audit")
    assert not at.exception
    table = at.dataframe[0].value
    assert table["order"].tolist() == ["requeue 1 step", "pause", f"reset throttle {HOSTILE}"]
    assert table["to"].tolist() == ["the store", "nobody", "pod-under-test"]
    assert table["by"].tolist() == ["http", HOSTILE, "ann@example.com"]
    assert [list(state) for state in table["state"]] == [["done"], ["open"], ["refused"]]
    assert table["answers"].tolist()[2].startswith("pod-under-test refused: ")
    markup = "\n".join(str(m.value) for kind in (at.markdown, at.caption, at.error, at.warning) for m in kind)
    assert HOSTILE not in markup
    assert [box.options for box in at.selectbox][1] == ["any", HOSTILE, "ann@example.com", "http"]


def test_the_log_is_filtered_from_the_address(ordered: Runtime, show: Open) -> None:
    assert show("audit", order="pause").dataframe[0].value["order"].tolist() == ["pause"]
    assert show("audit", person="http").dataframe[0].value["by"].tolist() == ["http"]
    assert "None of the newest 3 orders matches" in words(show("audit", order="drain"))
    assert "None of the newest 3 orders matches" in words(show("audit", person="somebody long gone"))


def test_all_viewers_share_one_read_of_the_log(ordered: Runtime, show: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, list_commands = list[int](), ordered.queue.store.list_commands
    monkeypatch.setattr(
        ordered.queue.store, "list_commands", lambda limit, *ids: asked.append(limit) or list_commands(limit, *ids)
    )
    monkeypatch.setattr(
        snapshot, "time", SimpleNamespace(monotonic=lambda: 1e9, thread_time=lambda: 0.0)
    )  # no answer grows old
    ordered.cache.clear()
    show("audit")
    show("audit", order="pause")
    assert asked == [snapshot.RECENT_COMMANDS]


def test_while_a_row_is_selected_the_rows_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, Any] = {}
    picked: list[str] = []
    monkeypatch.setattr(audit_log.st, "session_state", state)
    monkeypatch.setattr(audit_log.tables, "picked", lambda key: picked)
    first, second = order("*"), replace(order("*"), command=replace(order("*").command, command_id="cmd-2"))
    anyone = (None, None)
    assert audit_log._held([first], anyone) == ([first], 0)
    picked.append("cmd-1")
    answered = replace(first, answers=order("*", ("p1", True)).answers)
    assert audit_log._held([second, answered], anyone) == ([answered], 1)
    assert audit_log._held([second], anyone) == ([first], 1)  # too old for the log by now, but still looked at
    picked.clear()
    assert audit_log._held([second, answered], anyone) == ([second, answered], 0)


def test_the_settings_of_this_pod_are_shown_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, running: Runtime, show: Open
) -> None:
    process.shutdown()
    monkeypatch.setenv("FLEET_Q_API_KEY", SECRET)
    monkeypatch.setenv("FLEET_Q_DEAD_POD_THRESHOLD", "0.5")
    at = show("audit")
    assert not at.exception
    table = at.dataframe[-1].value.set_index("variable")
    assert table.loc["FLEET_Q_API_KEY", "value"] == "set (hidden)"
    assert table.loc["FLEET_Q_POD_ID", "value"] == "pod-under-test"
    assert list(table.loc["FLEET_Q_MAX_RETRIES", "source"]) == ["default"]
    assert "under three heartbeats" in words(at)
    assert SECRET not in words(at) + table.to_csv()


def test_the_versions_of_the_fleet_are_compared(running: Runtime, show: Open) -> None:
    eventually(lambda: f"The only living pod runs version {VERSION}" in words(show("audit")))


def test_without_a_store_the_log_is_old_and_the_settings_stay(ordered: Runtime, show: Open) -> None:
    assert len(show("audit").dataframe[0].value) == 3
    store, ordered.queue.store = ordered.queue.store, SilentStore()  # type: ignore[assignment]
    try:
        at = eventually(lambda: (page := show("audit")) and page.error and page)
    finally:
        ordered.queue.store = store
    assert not at.exception
    assert len(at.error) == 1
    assert len(at.dataframe[0].value) == 3
    assert "stale" in words(at)
    assert "FLEET_Q_POD_ID" in at.dataframe[-1].value["variable"].tolist()
