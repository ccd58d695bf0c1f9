"""The Streamlit dashboard: shell, read models, widgets, charts and actions. The pages stay thin on top of these."""
