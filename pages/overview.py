"""Overview: is the fleet well, what does it do now, and what needs a person."""

import streamlit as st

from fleetq_core.dashboard import overview_board, shell

st.title("Overview")
shell.live(overview_board.draw_health)
st.subheader("History")
overview_board.draw_ranges()
shell.live(overview_board.draw_history, every_s=overview_board.history_refresh_s())
st.subheader("Running now")
shell.live(overview_board.draw_running, every_s=shell.SELDOM_S)
