"""The script Streamlit runs.

It lives here because next to `pages/` a deep link would run that page alone, without the shell.
"""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from fleetq_core.dashboard import shell  # noqa: E402

shell.render()
