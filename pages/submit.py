"""Submit: one step with its payload or file, or a file of many steps; and what became of them."""

import streamlit as st

from fleetq_core.dashboard import bulk, shell, submitter

MANY = "A file of steps"

st.title("Submit")
what = st.segmented_control("What", ["One step", MANY], default="One step", key="what", label_visibility="collapsed")
form, outcome = st.columns([5, 6], gap="large")
with form:
    if reason := shell.refusal():
        st.info(reason, icon=":material/visibility:")
    else:
        (bulk if what == MANY else submitter).draw_form()
with outcome:
    st.subheader("What became of it")
    if what == MANY:
        bulk.draw_outcome()
    else:
        shell.live(submitter.draw_outcome, every_s=1.0, running=submitter.is_open())
