"""The tasks that every pod knows, on real files and a real server on loopback."""

from __future__ import annotations

import asyncio
import datetime
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleetq_core.builtin.basics import echo, sleep
from fleetq_core.builtin.distinct import DistinctCounter
from fleetq_core.builtin.http_request import HttpFailure, http_request
from fleetq_core.builtin.process_data import process_data
from fleetq_core.errors import TerminalError, Throttled
from fleetq_core.model import Step
from fleetq_core.throttle import ThrottleConfig, get_or_create_throttle

ROOT = Path(__file__).parents[2]


def step(**payload: Any) -> Step:
    return Step("s1", {"task_type": "t", **payload}, 0, 0, "token", "pod-a")


def profile(path: Path, **payload: Any) -> dict[str, Any]:
    result = process_data(step(file=str(path), **payload))
    json.dumps(result, allow_nan=False)
    return result


def column(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for c in result["columns"] if c["name"] == name)


def test_a_csv_is_profiled(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("id,name,price,day\n1,ann,1.5,2026-01-01\n2,bob,,2026-01-03\n3,ann,4.5,2026-01-02\n")
    result = profile(path)
    assert (result["rows"], result["format"], result["bytes"]) == (3, "csv", path.stat().st_size)
    assert column(result, "id") == {
        "name": "id", "type": "int64", "nulls": 0, "distinct": 3, "distinct_is_exact": True, "min": 1, "max": 3, "mean": 2.0,
    }  # fmt: skip
    assert (column(result, "name")["distinct"], column(result, "name")["min"], column(result, "name")["mean"]) == (
        2,
        "ann",
        None,
    )
    price = column(result, "price")
    assert (price["nulls"], price["min"], price["max"], price["mean"]) == (1, 1.5, 4.5, 3.0)
    assert (column(result, "day")["min"], column(result, "day")["max"]) == ("2026-01-01", "2026-01-03")


def test_parquet_of_many_types_is_profiled(tmp_path: Path) -> None:
    path = tmp_path / "no_suffix"
    table = pa.table(
        {
            "n": [1, None, 3],
            "f": [1.0, float("nan"), float("inf")],
            "s": pa.array(["b", "a", "b"]).dictionary_encode(),
            "t": [datetime.datetime(2026, 1, n) for n in (1, 2, 3)],  # noqa: DTZ001
            "d": [Decimal("1.10"), Decimal("2.20"), None],
            "b": [True, False, True],
            "l": [[1], [2, 3], None],
            "x": pa.array([None, None, None]),
            "bin": [b"\xff", b"a", b"b"],
        }
    )
    pq.write_table(table, path)
    result = profile(path)
    assert (result["format"], result["rows"]) == ("parquet", 3)
    assert (column(result, "f")["max"], column(result, "f")["mean"]) == (1.0, 1.0)
    assert column(result, "s")["distinct"] == 2
    assert column(result, "t")["max"] == "2026-01-03T00:00:00"
    assert column(result, "d")["mean"] == pytest.approx(1.65)
    assert (column(result, "b")["min"], column(result, "b")["max"]) == (False, True)
    assert (column(result, "l")["nulls"], column(result, "l")["distinct"]) == (1, None)
    assert column(result, "x")["nulls"] == 3


@pytest.mark.parametrize(
    ("late", "type_", "least"),
    [("x-ray", "string", "1"), ("2.5", "double", 1.0), ("99999999999999999999", "double", 1.0)],
)
def test_a_type_that_changes_late_in_a_large_file_does_not_break_it(
    tmp_path: Path, late: str, type_: str, least: Any
) -> None:
    path = tmp_path / "late.csv"
    path.write_text("a,b,empty\n" + "1,some text to fill the block with,\n" * 300_000 + f"{late},y,7\n")
    result = profile(path)
    assert (result["rows"], column(result, "a")["type"], column(result, "a")["min"]) == (300_001, type_, least)
    assert (column(result, "empty")["type"], column(result, "empty")["max"]) == ("int64", 7)


def test_a_header_alone_is_a_file_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text("a,b\n")
    result = profile(path)
    assert (result["rows"], [c["name"] for c in result["columns"]]) == (0, ["a", "b"])


def test_other_delimiters_and_quoted_newlines(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('a;b\n1;"two\nlines"\n2;z\n')
    assert profile(path, delimiter=";")["rows"] == 2
    tsv = tmp_path / "x.tsv"
    tsv.write_text("a\tb\n1\t2\n")
    assert len(profile(tsv)["columns"]) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; a CSV file needs at least a header line"),
        (b"a,b\n1,2\n1,2,3\n", "is not a sound CSV file: CSV parse error: Expected 2 columns, got 3"),
        (b"a\nok\n\xff\xfe\n" * 3, "is not a sound CSV file"),
        (b"PAR1 but nothing else", "is not a sound Parquet file"),
        (b",".join(b"c%d" % n for n in range(600)) + b"\n", "has 600 columns; the limit is 500"),
    ],
)
def test_bad_files_are_named_with_what_is_wrong(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    if b"\xff" in content:  # bytes that are no text are binary to Arrow, and are profiled as such
        assert column(profile(path), "a")["distinct"] is None
        return
    with pytest.raises(TerminalError, match=said):
        profile(path)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({}, "payload.file is None; it must be the path"),
        ({"file": 3}, "payload.file is 3"),
        ({"file": "/no/such.csv"}, "no such file on this pod's machine"),
        ({"file": "/tmp"}, "is a folder"),
        ({"file": __file__, "format": "xml"}, "must be csv or parquet"),
        ({"file": __file__, "delimiter": "ab"}, "must be one ASCII character"),
        ({"file": __file__, "format": "parquet"}, "is not a sound Parquet file"),
    ],
)
def test_bad_arguments_are_named(payload: dict[str, Any], said: str) -> None:
    with pytest.raises(TerminalError, match=said):
        process_data(step(**payload))


@pytest.mark.slow
def test_a_large_file_is_profiled_in_bounded_memory(tmp_path: Path) -> None:
    """Ten times the file must not take much more memory."""
    code = (
        "import sys, resource\n"
        "from fleetq_core.builtin.process_data import process_data\n"
        "from fleetq_core.model import Step\n"
        "r = process_data(Step('s', {'task_type': 't', 'file': sys.argv[1]}, 0, 0, 't', 'p'))\n"
        "print(r['rows'], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    peaks = []
    for megabytes in (12, 120):
        path = tmp_path / f"{megabytes}.csv"
        line = "{},some text that takes up room in the file,3.25\n"
        with path.open("w") as handle:
            handle.write("n,text,f\n")
            for block in range(megabytes):
                handle.writelines(line.format((block * 20_000 + n) % 5_000) for n in range(20_000))
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        rows, peak = map(int, done.stdout.split())
        assert rows == megabytes * 20_000
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 60, peaks


def test_distinct_is_exact_when_small_and_close_when_large() -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    small, large = DistinctCounter(), DistinctCounter()
    small.add([1, 1, 2, "x"])
    small.add([2, 3])
    assert (small.count(), small.is_exact) == (4, True)
    for start in range(0, 100_000, 10_000):
        large.add(f"{seed}-{n}" for n in range(start, start + 10_000))
        large.add(f"{seed}-{n}" for n in range(start))
    assert not large.is_exact
    assert large.count() == pytest.approx(100_000, rel=0.08)  # five standard errors


# -- http_request -----------------------------------------------------------------------------------------------------


class Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = int(self.path.rpartition("/")[2] or 200)
        asked = self.path.split("/")[1].removeprefix("later-") if self.path.startswith("/later-") else None
        body = b"x" * 100_000 if "large" in self.path else b"secret " + self.headers.get("X-Key", "").encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/302")
        if asked:
            self.send_header("Retry-After", asked)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(5)


def call(**payload: Any) -> dict[str, Any]:
    return asyncio.run(http_request(step(**payload)))


def test_answers_become_results(service: str) -> None:
    assert call(url=f"{service}/200", headers={"X-Key": "k"})["body"] == "secret k"
    assert call(url=service, method="POST", json={"a": 1})["body"] == '{"a":1}'
    assert call(url=service, method="POST", body="é")["status"] == 201
    large = call(url=f"{service}/large/200")
    assert (len(large["body"]), large["truncated"]) == (65_536, True)


@pytest.mark.parametrize(
    ("status", "error"), [(503, HttpFailure), (429, HttpFailure), (404, TerminalError), (302, TerminalError)]
)
def test_bad_answers_are_errors(service: str, status: int, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        call(url=f"{service}/{status}", headers={"X-Key": "hunter2"} if status == 302 else {})
    assert "hunter2" not in str(caught.value)


def test_a_refusal_through_a_throttle_hands_the_step_back(service: str) -> None:
    throttle = get_or_create_throttle("svc", ThrottleConfig(initial_limit=4))
    assert call(url=f"{service}/200", throttle="svc")["status"] == 200
    with pytest.raises(Throttled, match="answered 429") as caught:
        call(url=f"{service}/429", throttle="svc")
    assert caught.value.retry_after_s is None
    with pytest.raises(Throttled, match="answered 429") as caught:
        call(url=f"{service}/later-30/429", throttle="svc")
    assert 29 < caught.value.retry_after_s <= 30 * 1.25
    stats = throttle.stats()
    assert (stats["total_successes"], stats["total_throttles"], stats["current_inflight"]) == (1, 2, 0)
    with pytest.raises(Throttled, match="throttle 'svc' is shut") as caught:  # without another call
        call(url=f"{service}/200", throttle="svc")
    assert 28 < caught.value.retry_after_s <= 30 * 1.25
    assert throttle.stats()["total_requests"] == 3


def test_other_failures_through_a_throttle_are_failures(service: str) -> None:
    throttle = get_or_create_throttle("svc", ThrottleConfig(initial_limit=10))
    with pytest.raises(HttpFailure, match="answered 503"):
        call(url=f"{service}/503", throttle="svc")
    with pytest.raises(TerminalError, match="answered 404"):
        call(url=f"{service}/404", throttle="svc")
    assert (throttle.max_inflight, throttle.stats()["current_inflight"]) == (10, 0)


def test_a_refused_connection_may_be_better_next_time() -> None:
    with pytest.raises(HttpFailure, match="ConnectError"):
        call(url="http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({}, "payload.url is None"),
        ({"url": "file:///etc/passwd"}, "must be an http"),
        ({"url": "http://x", "method": "BREW"}, "payload.method"),
        ({"url": "http://x", "headers": {"a": 1}}, "payload.headers"),
        ({"url": "http://x", "timeout_s": 0}, "payload.timeout_s"),
        ({"url": "http://x", "timeout_s": True}, "payload.timeout_s"),
        ({"url": "http://x", "json": 1, "body": "x"}, "both json and body"),
        ({"url": "http://x", "body": 1}, "payload.body"),
        ({"url": "http://x", "throttle": ""}, "payload.throttle is ''"),
        ({"url": "http://x", "throttle": 3}, "payload.throttle is 3"),
        ({"url": "http://x", "throttle": "a b"}, "payload.throttle"),
    ],
)
def test_bad_requests_are_named(payload: dict[str, Any], said: str) -> None:
    with pytest.raises(TerminalError, match=said):
        call(**payload)


# -- echo and sleep ---------------------------------------------------------------------------------------------------


def test_echo_and_sleep() -> None:
    assert echo(step(x=1)) == {"task_type": "t", "x": 1}
    assert sleep(step(seconds=0)) == {"slept_s": 0}
    for bad in (-1, "2", True, 10**9):
        with pytest.raises(TerminalError, match=r"payload\.seconds"):
            sleep(step(seconds=bad))


def test_an_estimate_never_exceeds_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("id\n" + "".join(f"{n}\n" for n in range(50_000)))  # by itself the sketch says 50,989
    found = column(profile(path), "id")
    assert (found["distinct"], found["distinct_is_exact"]) == (50_000, False)
