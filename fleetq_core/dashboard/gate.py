"""What somebody sees who is not let in: the way to sign in, or why it leads nowhere. And the way out again."""

from __future__ import annotations

import streamlit as st
from streamlit.errors import StreamlitAPIException

from fleetq_core.access import Caller
from fleetq_core.config import Config

from . import person, widgets


def draw(known: Caller, config: Config) -> None:
    """The screen in place of every page."""
    st.title("FLEET-Q")
    if not person.asks_sign_in():
        widgets.problem(
            "Nobody can sign in here, so there is nothing to show.",
            "FLEET_Q_OPERATORS or FLEET_Q_VIEWERS names people, but there is no [auth] section in "
            ".streamlit/secrets.toml, or the file cannot be read. docs/security.md says what belongs there.",
        )
    elif not person.is_signed_in():
        st.text("This fleet is for people who have signed in.")
        if st.button("Sign in", type="primary", icon=":material/login:", key="sign_in"):
            _sign_in()
    else:
        st.warning("You are signed in, and have no access to this fleet.", icon=":material/lock:")
        st.code(known.name, language=None, wrap_lines=True)
        st.text(_way_in(config))
        _draw_sign_out()


def _way_in(config: Config) -> str:
    if not config.names_people:
        return "Nobody has been given access yet: name people in FLEET_Q_OPERATORS or FLEET_Q_VIEWERS, then restart."
    if st.user.get("email_verified") not in (None, True, "true"):
        return "Your sign-in provider says that this address is not verified. Verify it there, then sign in again."
    return "Ask whoever runs it to name this address in FLEET_Q_OPERATORS or FLEET_Q_VIEWERS."


def _sign_in() -> None:
    try:
        st.login()
    except StreamlitAPIException as exc:
        widgets.problem("Sign-in is not set up right in the [auth] section of .streamlit/secrets.toml.", str(exc))


def draw_person() -> None:
    """Who is signed in, in the sidebar; nothing where nobody needs to."""
    if person.is_signed_in():
        st.caption("Signed in")
        st.text(str(st.user.get("email")))
        _draw_sign_out()


def _draw_sign_out() -> None:
    if st.button("Sign out", icon=":material/logout:", key="sign_out"):
        st.logout()
