"""The frame around every page: configuration, navigation, the sidebar, and blocks that refresh themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from fleetq_core.access import Access
from fleetq_core.errors import FleetQError, StoreError
from fleetq_core.roles import REFUSAL
from fleetq_core.runtime import Runtime, get_runtime
from fleetq_core.store.tally import asking_for

from . import gate, person, snapshot, widgets
from .snapshot import Answer, Snapshot
from .views import overview

PAGES_DIR = Path(__file__).resolve().parents[2] / "pages"
LIVE_KEY = "live"
_PAGE_KEY = "_page"  # the title of the page that this viewer is on
TICK_S = 2.0
SELDOM_S = 5.0  # for what moves with samples and heartbeats: each refresh costs the server and the browser

# (file, title, icon, path in the address). No path may be one of the HTTP API's: /submit is taken.
_PAGES = (
    ("overview", "Overview", ":material/monitoring:", ""),
    ("steps", "Steps", ":material/list_alt:", "steps"),
    ("submit", "Submit", ":material/add_circle:", "new-step"),
    ("pods", "Pods", ":material/dns:", "pods"),
    ("recovery", "Recovery", ":material/healing:", "recovery"),
    ("throttles", "Throttles", ":material/speed:", "throttles"),
    ("cost", "Cost", ":material/payments:", "cost"),
    ("audit", "Audit", ":material/history:", "audit"),
)


def render() -> None:
    """Draw the whole screen; the main script does nothing else."""
    st.set_page_config(page_title="FLEET-Q", page_icon="🚚", layout="wide", initial_sidebar_state="auto")
    try:
        config = get_runtime().config
    except FleetQError as exc:
        st.title("FLEET-Q")
        widgets.problem("This dashboard cannot start, so there is nothing to show.", str(exc))
        return
    known = person.caller(config)
    let_in = known.access is not Access.NONE
    page = st.navigation(
        [
            st.Page(page_path(name), title=title, icon=icon, url_path=url or None, default=not url)
            for name, title, icon, url in _PAGES
        ],
        position="sidebar" if let_in else "hidden",
    )
    if not let_in:
        gate.draw(known, config)
        return
    st.session_state[_PAGE_KEY] = page.title
    with asking_for(page.title):
        _draw(page)


def _draw(page: StreamlitPage) -> None:
    widgets.show_flash()
    widgets.show_question()
    with st.sidebar:
        st.toggle("Live", value=True, key=LIVE_KEY, help="Refresh the figures every two seconds.")
        live(_status, every_s=SELDOM_S)
        gate.draw_person()
    try:
        page.run()
    except StoreError as exc:
        widgets.store_down(exc)


def page_path(name: str) -> str:
    """The script of a page, for links to it."""
    return str(PAGES_DIR / f"{name}.py")


def runtime() -> Runtime:
    """The pod and the queue of this process."""
    return get_runtime()


def refusal() -> str | None:
    """Why nothing may be changed from here by this person, or None where it may."""
    config = get_runtime().config
    if not config.role.may_act:
        return f"{REFUSAL[0].upper()}{REFUSAL[1:]}."
    known = person.caller(config)
    return None if known.access is Access.OPERATOR else "You may look and not act: you are signed in as a viewer."


def act_button(label: str, *, disabled: bool = False, help: str | None = None, **options: Any) -> bool:  # noqa: A002
    """A button that changes something: dead, with the reason, where this process may not."""
    reason = refusal()
    return st.button(label, disabled=disabled or reason is not None, help=reason or help, **options)


def fleet() -> Answer[Snapshot]:
    """The snapshot that all viewers share."""
    return snapshot.fleet(get_runtime())


def needs() -> list[overview.Attention]:
    """What needs a person: found once for each snapshot, whoever asks."""
    app = get_runtime()
    snap = fleet().value
    if snap is None:
        return []
    known, failure, found = app.cache.get("needs", (None, None, []))
    if known is not snap or failure != app.failure:
        found = overview.attention(snap, app.failure)
        app.cache["needs"] = snap, app.failure, found
    return list(found)


def live(block: Callable[[], None], *, every_s: float = TICK_S, running: bool = True) -> None:
    """Draw `block` now and again every few seconds, while the Live switch is on and `running` holds."""

    @functools.wraps(block)
    def guarded() -> None:
        # A refresh runs this function alone, without what is around it.
        with asking_for(st.session_state.get(_PAGE_KEY, "")):
            try:
                block()
            except StoreError as exc:
                widgets.store_down(exc)

    on = running and bool(st.session_state.get(LIVE_KEY, True))
    st.fragment(guarded, run_every=every_s if on else None)()


def _status() -> None:
    app, answer = get_runtime(), fleet()
    if reason := refusal():
        st.badge("viewer", color="gray")
        st.caption(reason)
    if answer.value is None:
        widgets.sidebar_status(answer, [], 0)
        return
    pod = (app.pod.who.pod_id, app.pod.state) if app.pod is not None else None
    facts = overview.summary(answer.value, pod)
    widgets.sidebar_status(answer, facts, len(needs()))
