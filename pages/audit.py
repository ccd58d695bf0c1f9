"""Audit: who ordered what and what came of it, how this pod is configured, and which versions the pods run."""

import streamlit as st

from fleetq_core.dashboard import audit_log, shell

st.title("Audit")
st.subheader("Command log")
audit_log.draw_filters()
shell.live(audit_log.draw_log)
st.subheader("Versions")
shell.live(audit_log.draw_versions, every_s=shell.SELDOM_S)
st.subheader("Configuration of this pod" if shell.runtime().pod else "Configuration of this process")
audit_log.draw_settings()
