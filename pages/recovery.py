"""Recovery: run one now, what past runs did and why, and the dead letters that wait for a person."""

import streamlit as st

from fleetq_core.dashboard import orders, recovery_board, shell

st.title("Recovery")
if st.query_params.get(recovery_board.PARAM):
    st.page_link(shell.page_path("recovery"), label="All runs", icon=":material/arrow_back:")
    # What a run decided does not change any more: its tables are not read again and again.
    shell.live(recovery_board.draw_run, running=False)
else:
    shell.live(recovery_board.draw_head)
    orders.draw_recovery_note()
    orders.draw_recovery_button()
    st.subheader("Runs")
    recovery_board.draw_ranges()
    shell.live(recovery_board.draw_runs, every_s=shell.SELDOM_S)
    st.subheader("Dead letters")
    shell.live(recovery_board.draw_dead_letters, every_s=shell.SELDOM_S)
    st.subheader("Late results")
    shell.live(recovery_board.draw_refused, every_s=shell.SELDOM_S)
