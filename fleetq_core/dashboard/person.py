"""Who looks at this screen and what they may do, told by the server's own knowledge of the session."""

from __future__ import annotations

import streamlit as st

from fleetq_core.access import Access, Caller, access_of
from fleetq_core.config import Config

NOBODY = Caller("nobody", Access.NONE)


def asks_sign_in() -> bool:
    """Whether Streamlit has an [auth] section to sign people in with."""
    return st.user.get("is_logged_in") is not None


def is_signed_in() -> bool:
    """Whether this session belongs to somebody who has signed in."""
    return bool(st.user.get("is_logged_in"))


def caller(config: Config) -> Caller:
    """Whoever uses this session. Without any sign-in everybody who reaches the port is an operator.

    A list of people without a readable [auth] section lets nobody in: the section may have been lost by a mistake.
    """
    if not asks_sign_in():
        return NOBODY if config.names_people else Caller("dashboard", Access.OPERATOR)
    if not is_signed_in():
        return NOBODY
    address = st.user.get("email")
    if not isinstance(address, str) or not address:
        return Caller("somebody without an e-mail address", Access.NONE)
    # Providers that let people claim any address say that it is not verified; others leave the claim out.
    if st.user.get("email_verified") not in (None, True, "true"):
        return Caller(address, Access.NONE)
    return Caller(address, access_of(address, config.operators, config.viewers))
