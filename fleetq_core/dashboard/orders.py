"""The buttons that order pods to do something, and the answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from fleetq_core.commands import CommandKind
from fleetq_core.errors import FleetQError, StoreError
from fleetq_core.model import CommandRecord, PodRecord

from . import actions, shell, snapshot, widgets
from .snapshot import Snapshot
from .views import orders as views
from .views import recovery, words
from .views.audit import kind_words

_RECOVERY_KEY, _ORDER_KEY = "_recovery_command", "_pod_order"
_LONG_S = 60.0  # an answer that takes longer needs a word of explanation


@dataclass(slots=True)
class _Ordered:
    """An order that this viewer has given. Once everybody has answered, `record` is not read again."""

    command_id: str
    kind: CommandKind
    addressed: list[str]
    given: float
    record: CommandRecord | None = None
    answered: bool = False


def draw_buttons(snap: Snapshot, pods: Sequence[PodRecord], chosen: PodRecord | None) -> None:
    """Pause, resume or drain the chosen pod; pause or resume `pods`, all that hear, where none is chosen."""
    deaf = chosen is not None and chosen not in pods
    addressed = [] if deaf else [chosen] if chosen else list(pods)
    whom, why = ("pod" if chosen else "fleet"), "It is not alive: nobody there hears an order." if deaf else None
    drain_why = why or ("Finish what it holds, then stop." if chosen else "Select a pod first.")
    with st.container(horizontal=True, vertical_alignment="center"):
        pause = shell.act_button(
            f"Pause {whom}", key="pause", icon=":material/pause:", disabled=not addressed, help=why
        )
        resume = shell.act_button(
            f"Resume {whom}", key="resume", icon=":material/play_arrow:", disabled=not addressed, help=why
        )
        drain = shell.act_button(
            "Drain pod", key="drain", icon=":material/logout:", disabled=chosen is None or deaf, help=drain_why
        )
        whole = f"for all {words.plural(len(pods), 'pod')}" if pods else "No pod lives that could hear an order."
        st.text(chosen.pod_id if chosen else whole)
    if deaf:
        widgets.empty("This pod is not alive, so it cannot be ordered anything.")
    for asked, kind in ((pause, CommandKind.PAUSE), (resume, CommandKind.RESUME), (drain, CommandKind.DRAIN)):
        if asked:
            _ask(kind, snap, addressed, None if chosen is None else chosen.pod_id)


def _ask(kind: CommandKind, snap: Snapshot, pods: Sequence[PodRecord], pod_id: str | None) -> None:
    names, whom = [pod.pod_id for pod in pods], words.plural(len(pods), "pod")
    own = shell.runtime().pod

    def act() -> str:
        command_id = actions.order(shell.runtime(), kind, pod_id)
        st.session_state[_ORDER_KEY] = _Ordered(command_id, kind, names, time.monotonic())
        return f"Ordered from {whom}: {kind.value}. Each hears it with its next heartbeat."

    widgets.confirm(
        f"{kind.value.capitalize()} {whom}?",
        views.question(kind, pods, snap, own.who.pod_id if own else None),
        act, verb=f"{kind.value.capitalize()} {whom}", items=names,
    )  # fmt: skip


def draw_pod_answers(snap: Snapshot) -> None:
    """What the pods have answered to the order that this viewer gave last."""
    ordered: _Ordered | None = st.session_state.get(_ORDER_KEY)
    if ordered is None:
        return
    _refresh(ordered)
    told = views.answers(ordered.record, ordered.addressed)
    ordered.answered = not told.open
    count = f"{len(told.lines)} of {words.plural(len(ordered.addressed), 'pod')} answered"
    with st.container(border=True, gap="xsmall", key="pod_answers"):
        with st.container(horizontal=True, vertical_alignment="center"):
            refused = f", {told.refused:,} refused" if told.refused else ""
            st.text(f"You ordered: {ordered.kind.value}. {count}{refused}.", width="content")
            st.page_link(
                shell.page_path("audit"), label="All orders", icon=":material/history:",
                query_params={"order": kind_words(ordered.kind)},
            )  # fmt: skip
        if told.open:
            st.caption(views.waiting_sentence(told.open, snap))
        if told.lines:
            st.code("\n".join(told.lines[: views.MOST_NAMED]), language=None, wrap_lines=True)


def _refresh(ordered: _Ordered) -> None:
    if not ordered.answered:
        ordered.record = snapshot.command(shell.runtime(), ordered.command_id)


def draw_recovery_note() -> None:
    """What recovery is, and how often it happens by itself."""
    every = words.duration(shell.runtime().config.recovery_interval)
    st.caption(
        f"About every {every} the leader gives the steps of dead pods back, retries failed steps that are due, and "
        "ends those without a retry left."
    )


def draw_recovery_button() -> None:
    """Run a recovery cycle now, and say what came of it."""
    if shell.act_button("Run now", type="primary", key="run_recovery", icon=":material/healing:"):
        _order_recovery()
    shell.live(_draw_answer, every_s=1.0, running=_RECOVERY_KEY in st.session_state)


def _order_recovery() -> None:
    snap = shell.fleet().value
    st.session_state.pop(_RECOVERY_KEY, None)
    if snap is not None and (reason := recovery.nobody_leads(snap)):
        widgets.problem("Nothing was ordered.", reason)
        return
    try:
        command_id = actions.order(shell.runtime(), CommandKind.RUN_RECOVERY)
        st.session_state[_RECOVERY_KEY] = _Ordered(command_id, CommandKind.RUN_RECOVERY, [], time.monotonic())
    except StoreError as exc:
        widgets.store_down(exc)
    except FleetQError as exc:
        widgets.problem("Nothing was ordered.", str(exc))


def _draw_answer() -> None:
    ordered: _Ordered | None = st.session_state.get(_RECOVERY_KEY)
    if ordered is None:
        return
    _refresh(ordered)
    if ordered.record is None or not ordered.record.answers:
        waited_s = time.monotonic() - ordered.given
        st.info("Ordered. The leader answers with its next heartbeat.", icon=":material/hourglass_top:")
        if waited_s > _LONG_S:
            widgets.empty(
                f"Nobody has answered for {words.duration(waited_s)}. If the leader has died, the pod that leads next "
                "hears the order: orders are heard for an hour."
            )
        return
    ordered.answered = True
    for one in ordered.record.answers:
        (st.success if one.ok else st.error)("The leader ran a recovery." if one.ok else "The leader refused.")
        st.code(f"{one.pod_id}: {one.result}", language=None, wrap_lines=True)
