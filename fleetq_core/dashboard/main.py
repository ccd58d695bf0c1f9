"""The script Streamlit runs.

It lives here because next to `pages/` a deep link would run that page alone, without the shell. Streamlit makes it the
`__main__` of its process, and a process that a handler spawns from there begins by running that under another name: it
must draw nothing, and above all start no pod.
"""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from fleetq_core.dashboard import shell  # noqa: E402

if __name__ == "__main__":
    shell.render()
