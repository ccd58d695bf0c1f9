"""Steps: find steps, read the whole story of one, requeue or cancel, download."""

import streamlit as st

from fleetq_core.dashboard import exporter, finder, shell

st.title("Steps")


def story() -> None:
    """The one step that the address names."""
    finder.draw_step(st.query_params.get("step", ""))


def listing() -> None:
    """One page of the steps that match the filters."""
    finder.draw_list()


if st.query_params.get("step"):
    st.page_link(shell.page_path("steps"), label="All steps", icon=":material/arrow_back:")
    shell.live(story)
else:
    finder.draw_filters()
    shell.live(exporter.draw, running=False)
    shell.live(listing)
