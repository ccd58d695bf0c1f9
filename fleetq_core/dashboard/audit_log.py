"""The parts of the Audit screen: the command log with one order in full, this pod's settings, the fleet's versions."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from fleetq_core.model import CommandRecord
from fleetq_core.version import VERSION

from . import columns, shell, snapshot, tables, widgets
from .snapshot import RECENT_COMMANDS, Snapshot
from .views import audit as views
from .views import words

TABLE = "orders_table"
ANY = "any"
KIND, PERSON = "order", "person"  # parts of the address
MOST_REFUSALS = 10  # in full
_WHERE, _HELD = "_orders_where", "_orders_held"


def draw_filters() -> None:
    """Which orders to see; both values can be pasted as part of the address."""
    found = snapshot.commands(shell.runtime()).value or []
    left, right = st.columns(2)
    left.selectbox("Order", _with(views.kinds(found), KIND), key=KIND, bind="query-params")
    right.selectbox("Person or door", _with(views.people(found), PERSON), key=PERSON, bind="query-params",
                    help="The e-mail of a signed-in viewer; else the door the order came through.")  # fmt: skip


def _with(names: Sequence[str], key: str) -> list[str]:
    # A link may name somebody whose orders are not among the newest any more.
    asked = st.query_params.get(key)
    extra = [asked] if asked and asked != ANY and asked not in names else []
    return [ANY, *names, *extra]


def draw_log() -> None:
    """The newest orders, and the selected one in full. While a row is selected the rows stay where they are."""
    fleet = shell.fleet()
    snap, answer = widgets.fresh(fleet), snapshot.commands(shell.runtime())
    if snap is None:
        return
    if answer.problem and not fleet.problem:
        widgets.problem("The store does not answer; this log may be old.", answer.problem)
    if answer.value is None:
        return
    if not answer.value:
        widgets.empty(
            "Nobody has ordered anything yet. Pauses, drains, recoveries, resets, requeues and cancels appear here, "
            "with who ordered them and what the pods answered."
        )
        return
    _draw_orders(answer.value, snap)


def _draw_orders(found: Sequence[CommandRecord], snap: Snapshot) -> None:
    kind, person = (_given(st.session_state.get(key)) for key in (KIND, PERSON))
    shown, newer = _held(found, (kind, person))
    if not shown:
        widgets.empty(f"None of the newest {words.plural(len(found), 'order')} matches these filters.")
        return
    widgets.tiles(views.summary(shown, snap))
    ids = [record.command.command_id for record in shown]
    lines = views.order_lines(shown, snap)
    chosen = tables.picker(lines, ids, columns.ORDERS, TABLE, "Orders with their answers, newest first")
    if newer:
        widgets.empty(f"{words.plural(newer, 'newer order')} will appear when no row is selected.")
    if len(found) >= RECENT_COMMANDS:
        widgets.empty(f"From the newest {len(found)} orders; `fleetq commands --limit 1000` lists more.")
    record = next((record for record in shown if record.command.command_id in chosen), None)
    if record is None:
        widgets.empty("Select a row to see its arguments and every answer.")
        return
    _draw_order(record, snap)


def _held(found: Sequence[CommandRecord], where: tuple[str | None, str | None]) -> tuple[list[CommandRecord], int]:
    """The orders to show, and how many newer ones wait because a row is selected."""
    state, matching = st.session_state, views.matching(found, *where)
    if state.get(_WHERE) != where:
        state[_WHERE] = where
        tables.unpick(TABLE)
    if not tables.picked(TABLE):
        state[_HELD] = matching
        return matching, 0
    held: list[CommandRecord] = state[_HELD]
    now = {record.command.command_id: record for record in found}
    known = {record.command.command_id for record in held}
    newer = sum(record.command.command_id not in known for record in matching)
    return [now.get(record.command.command_id, record) for record in held], newer


def _given(value: str | None) -> str | None:
    return None if value in (None, "", ANY) else value


def _draw_order(record: CommandRecord, snap: Snapshot) -> None:
    st.subheader("The selected order")
    st.code(record.command.command_id, language=None)
    widgets.facts_grid(views.order_facts(record))
    refused = views.refusals(record)
    if refused:
        widgets.problem("Not everybody could do it." if len(refused) < len(record.answers) else "Nobody could do it.",
                        "\n".join(refused[:MOST_REFUSALS]))  # fmt: skip
        if len(refused) > MOST_REFUSALS:
            widgets.empty(f"{words.plural(len(refused) - MOST_REFUSALS, 'more refusal')} in the table.")
    st.caption("Arguments")
    if record.command.args:
        st.json(record.command.args, expanded=len(str(record.command.args)) < 2_000)
    else:
        widgets.empty("This order takes none.")
    st.caption("Answers")
    st.text(views.answers_sentence(record, snap))
    if record.answers:
        tables.table(views.answer_lines(record), columns.ANSWERS, "The answers to this order, refusals first")


def draw_settings() -> None:
    """The settings this process runs with. They come from the environment, so they are shown without a store too."""
    config = shell.runtime().config
    lines = views.setting_lines(config)
    was_set = sum(line.source == ["set"] for line in lines)
    st.caption(
        f"{was_set} of {len(lines)} settings are set, the others have their defaults. They were read when this process "
        "started; a change needs a restart. Secrets are never shown."
    )
    if doubtful := config.warnings():
        st.warning("Legal, but doubtful:", icon=":material/warning:")
        st.code("\n".join(doubtful), language=None, wrap_lines=True)
    tables.table(lines, columns.SETTINGS, "The settings of this pod", height=35 * (len(lines) + 1) + 3)


def draw_versions() -> None:
    """Whether all living pods run the version of this dashboard."""
    answer = shell.fleet()
    if (snap := answer.value) is None:
        widgets.empty("The pods cannot be seen while the store does not answer.")
        return
    widgets.as_of(snap.now_ts, stale=bool(answer.problem))
    lines = views.version_lines(snap)
    count, other = sum(line.pods for line in lines), sum(line.pods for line in lines if line.same == "another")
    if not lines:
        widgets.empty("No pod lives.")
    elif not other:
        whole = "The only living pod runs" if count == 1 else f"All {count:,} living pods run"
        st.success(f"{whole} version {VERSION}, as this dashboard does.", icon=":material/check_circle:")
    else:
        st.warning(
            f"{other:,} of {words.plural(count, 'living pod')} do not run version {VERSION}, as this dashboard does.",
            icon=":material/warning:",
        )
        tables.table(lines, columns.VERSIONS, "The versions of the living pods")
