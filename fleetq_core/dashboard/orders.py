"""The buttons that order pods to do something, and the answers."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from fleetq_core.commands import CommandKind
from fleetq_core.errors import FleetQError, StoreError

from . import actions, shell, snapshot, widgets
from .views import words

_RECOVERY_KEY = "_recovery_command"


def draw_buttons(alive: Sequence[str], chosen: Sequence[str]) -> None:
    """Pause, resume or drain the chosen pod; pause or resume the whole fleet where none is chosen."""
    pod = chosen[0] if chosen else None
    whom = "1 pod" if pod else f"all {words.plural(len(alive), 'living pod')}"
    with st.container(horizontal=True, vertical_alignment="center"):
        pause = shell.act_button("Pause pod" if pod else "Pause fleet", key="pause", icon=":material/pause:")
        resume = shell.act_button("Resume pod" if pod else "Resume fleet", key="resume", icon=":material/play_arrow:")
        drain = shell.act_button(
            "Drain pod", key="drain", icon=":material/logout:", disabled=pod is None,
            help="Finish what runs, then stop. Select a pod first.",
        )  # fmt: skip
        if pod:
            st.text(pod)
    if pause:
        _ask("Pause?", f"Stops {whom} from claiming new steps. What runs goes on.", CommandKind.PAUSE, pod, alive)
    elif resume:
        _ask("Resume?", f"Lets {whom} claim steps again.", CommandKind.RESUME, pod, alive)
    elif drain and pod:
        question = "1 pod will finish what it runs and then stop. It does not come back by itself."
        _ask("Drain?", question, CommandKind.DRAIN, pod, alive)


def _ask(title: str, question: str, kind: CommandKind, pod: str | None, alive: Sequence[str]) -> None:
    def act() -> str:
        actions.order(shell.runtime(), kind, pod)
        heard = words.plural(1 if pod else len(alive), "pod")
        return f"Ordered {heard} to {kind.value}. Each hears it with its next heartbeat; the answers are in the log."

    widgets.confirm(title, question, act, verb=kind.value.capitalize(), items=[pod] if pod else alive)


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
        try:
            st.session_state[_RECOVERY_KEY] = actions.order(shell.runtime(), CommandKind.RUN_RECOVERY)
        except StoreError as exc:
            widgets.store_down(exc)
        except FleetQError as exc:
            widgets.problem("Nothing was ordered.", str(exc))
    shell.live(_draw_answer, every_s=1.0, running=_RECOVERY_KEY in st.session_state)


def _draw_answer() -> None:
    command_id = st.session_state.get(_RECOVERY_KEY)
    if command_id is None:
        return
    record = snapshot.command(shell.runtime(), command_id)
    if record is None or not record.answers:
        st.info("Ordered. The leader answers with its next heartbeat.", icon=":material/hourglass_top:")
        return
    for one in record.answers:
        (st.success if one.ok else st.error)("The leader ran a recovery." if one.ok else "The leader refused.")
        st.code(f"{one.pod_id}: {one.result}", language=None, wrap_lines=True)
