"""Log lines as the specification prints them: `2026-01-17 12:34:56 - worker - INFO - Claimed 3 steps`, in UTC."""

from __future__ import annotations

import logging
import sys
import time


class _ShortNames(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.name = record.name.rpartition(".")[2]
        return super().format(record)


def log_to_stdout(level: int = logging.INFO) -> None:
    """Send the log of fleetq_core to stdout, once."""
    logger = logging.getLogger("fleetq_core")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        formatter = _ShortNames("%(asctime)s - %(name)s - %(levelname)s - %(message)s", "%Y-%m-%d %H:%M:%S")
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
