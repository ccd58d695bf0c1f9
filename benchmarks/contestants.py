"""The processes that the drain benchmark times: `python -m benchmarks.contestants NAME FOLDER STEPS` prints a rate.

Each submits first, then times from the moment its worker starts until the last step is durably done.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fleetq_core import Pod, Step, TaskRegistry, connect
from fleetq_core.config import Config

POLL_S = 0.005
RAW_SET = 100


def fleetq(folder: Path, steps: int) -> float:
    """One pod with the default settings."""
    tasks = TaskRegistry()

    @tasks.task("noop")
    def noop(step: Step) -> None:
        pass

    config = Config(store=f"sqlite:///{folder}/q.db", data_dir=folder / "data", pod_id="bench")
    queue = connect(config)
    queue.submit_steps({"task_type": "noop"} for _ in range(steps))
    pod = Pod(queue, config, tasks=tasks)
    started = time.perf_counter()
    pod.start()
    _until(lambda: pod.counters.completed >= steps)
    took = time.perf_counter() - started
    _check(queue.stats().completed, steps)
    pod.stop()
    return steps / took


def huey(folder: Path, steps: int) -> float:
    """Huey's own consumer with one worker thread, its fastest way on SQLite; it deletes what it claims."""
    import logging

    from huey import SqliteHuey

    logging.getLogger("huey").setLevel(logging.ERROR)
    app = SqliteHuey(filename=str(folder / "huey.db"))
    done = 0

    @app.task()  # type: ignore[untyped-decorator]
    def noop() -> None:
        nonlocal done
        done += 1

    with app.storage.db() as cursor:  # one transaction: enqueueing is not what is timed
        data = [(app.storage.name, app.serialize_task(noop.s()), 0) for _ in range(steps)]
        cursor.execute("BEGIN")
        cursor.executemany("INSERT INTO task (queue, data, priority) VALUES (?, ?, ?)", data)
        cursor.execute("COMMIT")
    consumer = app.create_consumer(workers=1, periodic=False, initial_delay=0.001, max_delay=0.01)
    started = time.perf_counter()
    consumer.start()
    _until(lambda: done >= steps)
    took = time.perf_counter() - started
    _check(app.storage.queue_size(), 0)
    consumer.stop(graceful=True)
    return steps / took


def raw(folder: Path, steps: int) -> float:
    """What the file itself can do: claim 100, complete 100, a transaction each, nothing else."""
    db = sqlite3.connect(folder / "raw.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE step (id TEXT PRIMARY KEY, status TEXT, payload TEXT, token TEXT, created REAL)")
    db.execute("CREATE INDEX pending ON step (created, id) WHERE status = 'pending'")
    db.execute("BEGIN")
    rows = [(f"step-{n:08}", '{"task_type":"noop"}', float(n)) for n in range(steps)]
    db.executemany("INSERT INTO step (id, status, payload, created) VALUES (?, 'pending', ?, ?)", rows)
    db.execute("COMMIT")
    claim = (
        "UPDATE step SET status = 'claimed', token = ? WHERE status = 'pending' AND id IN "
        "(SELECT id FROM step WHERE status = 'pending' ORDER BY created, id LIMIT ?) RETURNING id"
    )
    complete = "UPDATE step SET status = 'completed' WHERE id = ? AND token = ? AND status = 'claimed'"
    started = time.perf_counter()
    for turn in range(steps // RAW_SET):
        token = f"t{turn}"
        db.execute("BEGIN IMMEDIATE")
        ids = db.execute(claim, (token, RAW_SET)).fetchall()
        db.execute("COMMIT")
        db.execute("BEGIN IMMEDIATE")
        db.executemany(complete, [(step_id, token) for (step_id,) in ids])
        db.execute("COMMIT")
    took = time.perf_counter() - started
    _check(db.execute("SELECT count(*) FROM step WHERE status = 'completed'").fetchone()[0], steps)
    return steps / took


def _until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    while not condition():
        pause.wait(POLL_S)


def _check(found: int, expected: int) -> None:
    if found != expected:
        raise SystemExit(f"{found} steps where there should be {expected}")


if __name__ == "__main__":
    contestant: Callable[[Path, int], float] = {"fleetq": fleetq, "huey": huey, "raw": raw}[sys.argv[1]]
    print(json.dumps({"rate": contestant(Path(sys.argv[2]), int(sys.argv[3]))}))
