"""The image's HEALTHCHECK: is the process of this container well? Exit code 0 if it is.

A dashboard is asked over HTTP, a headless pod by its sign of life. A process without a pod of its own is asked for
Streamlit's own health, which does not touch the store: each look of /health is a statement, and would keep a Snowflake
warehouse awake while nobody uses the dashboard.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request

PORT = os.environ.get("STREAMLIT_SERVER_PORT", "8501")
PATH = "/health" if os.environ.get("FLEET_Q_ROLE", "pod") == "pod" else "/_stcore/health"
TIMEOUT_S = 8


def problem() -> str | int:
    """What is wrong, or 0. Where nobody listens on the port, this is the container of a headless pod."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{PATH}", timeout=TIMEOUT_S):
            return 0
    except urllib.error.HTTPError as exc:
        return f"{PATH} answers {exc.code}: {exc.read(500).decode('utf-8', 'replace')}"
    except OSError as exc:
        if not isinstance(getattr(exc, "reason", exc), ConnectionRefusedError):
            return f"{PATH}: {exc}"
    asked = [sys.executable, "-m", "fleetq_core", "alive"]
    return subprocess.run(asked, check=False, timeout=TIMEOUT_S).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(problem())
