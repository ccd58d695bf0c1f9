"""The tasks every pod knows. Importing this package registers them; heavy libraries are imported when a step runs."""

from . import basics, http_request, process_data, simulated_api, snowflake_sql

__all__ = ["basics", "http_request", "process_data", "simulated_api", "snowflake_sql"]
