"""How many statements an idle fleet sends to Snowflake in an hour: two pods over the emulator, beating and at rest."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fleetq_core import Pod, connect
from fleetq_core.config import Config
from fleetq_core.store import open_snowflake

from . import harness

WATCHED_S = 120.0
SETTLED_S = 3.0
PATIENCE_S = 60.0
PER_HOUR = 3600 / WATCHED_S


def run() -> harness.Report:
    """Statements an hour of the leader and of another pod, with the default settings and with FLEET_Q_REST_AFTER."""
    from tests.support import emulator

    logging.disable(logging.WARNING)
    report = harness.Report(f"Statements of an idle fleet on Snowflake, watched for {WATCHED_S:g} s over the emulator")
    with emulator.server() as settings:
        _watch(report, settings, "beating")
        _watch(report, settings, "at rest", rest_after=1.0)
    logging.disable(logging.NOTSET)
    return report


def _watch(report: harness.Report, settings: dict[str, Any], state: str, **given: Any) -> None:
    with harness.scratch() as folder, _fleet(settings, folder, **given) as pods:
        pause = threading.Event()
        pause.wait(SETTLED_S)
        for _ in range(int(PATIENCE_S)):
            if not given or all(pod.state == "resting" for pod in pods):
                break
            pause.wait(1.0)
        before = [_counts(pod) for pod in pods]
        pause.wait(WATCHED_S)
        for pod, then in zip(pods, before, strict=True):
            now = _counts(pod)
            who = "leader" if pod is pods[0] else "another pod"
            by_kind = {
                kind: (now[kind] - then.get(kind, 0)) * PER_HOUR for kind in now if now[kind] > then.get(kind, 0)
            }
            for kind, count in sorted(by_kind.items(), key=lambda item: -item[1]):
                report.add(f"{state}, {who}: {kind}", count, "an hour")
            report.add(f"{state}, {who}: all", sum(by_kind.values()), "an hour")


@contextmanager
def _fleet(settings: dict[str, Any], folder: Path, **given: Any) -> Iterator[list[Pod]]:
    """Two pods with tables of their own, the first of which leads."""
    place = {f"snowflake_{name}": value for name, value in settings.items()}
    schema = f"IDLE_{folder.name.upper().replace('-', '_')}"
    common = place | {"snowflake_schema": schema, "store": "snowflake"} | given
    with ExitStack() as stack:
        open_snowflake(Config(**common, pod_id="schema"), create=True).close()
        pods = []
        for name in ("first", "second"):
            config = Config(**common, pod_id=name, data_dir=folder / name)
            queue = connect(config)
            stack.callback(queue.close)
            pods.append(Pod(queue, config))
            pods[-1].start()
            stack.callback(pods[-1].stop)
        yield pods


def _counts(pod: Pod) -> dict[str, int]:
    return {kind: figures.statements for kind, figures in pod.meter.read().items() if figures.statements}
