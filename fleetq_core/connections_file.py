"""A named connection of Snowflake's own files, which the Snowflake CLI and drivers share.

`connections.toml` holds a table for each name. Where there is none, `[connections.NAME]` of `config.toml` counts. It is
read here and not by the driver, because the driver mixes what it holds with what is set: a key in the file would win
over a token in the environment.
"""

from __future__ import annotations

import stat
import sys
import tomllib
from pathlib import Path
from typing import Any

from .errors import ConfigError

# Names that other tools write for the same.
_ALIASES = {
    "private_key_path": "private_key_file",
    "private_key_passphrase": "private_key_file_pwd",
    "username": "user",
    "dbname": "database",
    "databasename": "database",
    "schemaname": "schema",
    "warehousename": "warehouse",
}


def folder(home: str | None) -> Path:
    """Where the files are: SNOWFLAKE_HOME, ~/.snowflake if it is there, or the user's folder for settings."""
    own = Path(home or "~/.snowflake").expanduser()
    if own.is_dir():
        return own
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/snowflake").expanduser()
    return Path("~/.config/snowflake").expanduser()


def read(name: str, home: str | None = None) -> dict[str, Any]:
    """The settings of connection `name`. Raises ConfigError, whose line names the file."""
    where = folder(home)
    path = where / "connections.toml"
    if path.is_file():
        known = _parse(path)
    else:
        path = where / "config.toml"
        known = _parse(path).get("connections", {}) if path.is_file() else {}
    found = known.get(name) if isinstance(known, dict) else None
    if not isinstance(found, dict):
        names = ", ".join(sorted(known)) if known else "none"
        looked = path if path.is_file() else f"{where}/connections.toml or config.toml"
        raise ConfigError([f"SNOWFLAKE_CONNECTION_NAME={name!r}: is not in {looked}; known: {names}"])
    return {_ALIASES.get(key.lower(), key.lower()): value for key, value in found.items()}


def _parse(path: Path) -> dict[str, Any]:
    try:
        # Who may write this file decides where the pods sign in, and reads what they send.
        if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError([f"{path}: others than its owner may write it; chmod 600 it"])
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError([f"{path}: cannot be read: {exc.strerror}"]) from exc
    except ValueError as exc:  # not TOML, or not UTF-8. The parser's words may hold a piece of the text: a secret.
        line = f" ({exc.args[0].rpartition('(at ')[2].rstrip(')')})" if "(at " in str(exc) else ""
        raise ConfigError([f"{path}: is not TOML{line}"]) from None
