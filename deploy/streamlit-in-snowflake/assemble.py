"""Put together what Streamlit in Snowflake is given: `python deploy/streamlit-in-snowflake/assemble.py FOLDER`.

The packages are those that FLEET-Q imports, with the pins of requirements.txt, the one place for pins.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SKIPPED = shutil.ignore_patterns("__pycache__", "*.pyc")


def requirements(pins: str) -> str:
    """The lines of requirements.txt between the headings of what FLEET-Q imports and of what its tests import."""
    found = re.search(r"^# what FLEET-Q imports\n(.*?)^# what its tests", pins, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit("requirements.txt has no section `what FLEET-Q imports`")
    return found[1].rstrip() + "\n"


def assemble(folder: Path) -> None:
    """Make `folder`, which must not be there yet, into the app's source."""
    folder.mkdir(parents=True)
    for name in ("fleetq_core", "pages"):
        shutil.copytree(ROOT / name, folder / name, ignore=SKIPPED)
    (folder / "viewer").mkdir()
    shutil.copy(HERE / "streamlit_app.py", folder / "viewer")
    (folder / ".streamlit").mkdir()
    shutil.copy(ROOT / ".streamlit" / "config.toml", folder / ".streamlit")
    shutil.copy(HERE / "secrets.toml", folder / ".streamlit")
    shutil.copy(HERE / "snowflake.yml", folder)
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    (folder / "requirements.txt").write_text(requirements(pins), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    assemble(Path(sys.argv[1]))
