"""Throttles: which one is squeezed and why, its curves and pods, why its limit moved, and its reset."""

import streamlit as st

from fleetq_core.dashboard import playground, shell, throttle_board

st.title("Throttles")
shell.live(throttle_board.draw_board)
if throttle_board.chosen() is not None:
    st.subheader("The chosen throttle")
    st.segmented_control(
        "Window", list(throttle_board.WINDOWS), default="15 minutes", key="throttle_window",
        label_visibility="collapsed",
    )  # fmt: skip
    shell.live(throttle_board.draw_chosen, every_s=shell.SELDOM_S)
    st.subheader("On each pod")
    shell.live(throttle_board.draw_pods)
    st.subheader("Why the limit moved")
    shell.live(throttle_board.draw_log, every_s=shell.SELDOM_S)
playground.draw()
