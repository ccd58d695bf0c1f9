"""Entry point: `streamlit run app.py` serves the dashboard and runs a pod in the same process."""

from pathlib import Path

import streamlit as st

from fleetq_core.http import lifespan, middleware, routes

# Streamlit finds this by reading the source: it must stay a plain assignment of `st.App(...)`.
app = st.App(
    Path(__file__).parent / "fleetq_core" / "dashboard" / "main.py",
    routes=routes(),
    middleware=middleware(),
    lifespan=lifespan,
)
