"""The dashboard as a Streamlit app inside Snowflake: it shows the fleet and changes nothing.

A plain script, for `streamlit run` on a server that is not ours: no HTTP routes, and no pod. It lies in a folder of its
own, because beside `pages/` a deep link would run that page alone. Settings come from `.streamlit/secrets.toml`, whose
keys Streamlit makes environment variables, and none of them is a secret.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOKEN = Path("/snowflake/session/token")

os.environ["FLEET_Q_ROLE"] = "viewer"  # whatever the settings say: this copy never acts
os.environ.setdefault("FLEET_Q_STORE", "snowflake")
if TOKEN.exists():
    os.environ.setdefault("SNOWFLAKE_TOKEN_FILE_PATH", str(TOKEN))
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from fleetq_core.dashboard import shell  # noqa: E402

if __name__ == "__main__":
    shell.render()
