"""Pods: who is alive, who leads, how busy each is; pause, resume or drain; who led when; one pod's story."""

import streamlit as st

from fleetq_core.dashboard import pod_board, shell

st.title("Pods")
shell.live(pod_board.draw_fleet)
shell.live(pod_board.draw_story, running=bool(st.query_params.get(pod_board.PARAM)))
st.subheader("Over time")
pod_board.draw_ranges()
shell.live(pod_board.draw_timelines, every_s=shell.SELDOM_S)
