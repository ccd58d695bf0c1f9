"""Submit: choose a task, give it its payload or file, and watch the step to its end."""

import streamlit as st

from fleetq_core.dashboard import shell, submitter

st.title("Submit")
form, outcome = st.columns([5, 6], gap="large")
with form:
    submitter.draw_form()
with outcome:
    st.subheader("What became of it")
    shell.live(submitter.draw_outcome, every_s=1.0, running=submitter.is_open())
