"""`process_data`: profile a CSV or Parquet file, read in batches so that its size does not matter."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetq_core.errors import TerminalError
from fleetq_core.model import Step
from fleetq_core.tasks import task

from .distinct import DistinctCounter

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 4 * 1024 * 1024
BATCH_ROWS = 65_536
MAX_COLUMNS = 500
MAX_TEXT = 200
FORMATS = ("csv", "parquet")


@task("process_data")
def process_data(step: Step) -> dict[str, Any]:
    """Profile the CSV or Parquet file named by `file`: rows, and for each column type, nulls, min, max, mean, distinct.

    Optional: `format` (csv or parquet; default by name and content) and `delimiter` (one character, for CSV).
    """
    path, form, delimiter = _arguments(step.payload)
    try:
        with path.open("rb") as handle:
            handle.read(1)
        rows, columns = _profile_parquet(path) if form == "parquet" else _profile_csv(path, delimiter)
    except OSError as exc:
        raise TerminalError(f"{path}: {exc.strerror or exc}; the file must be readable on this pod's machine") from exc
    return {
        "file": str(path),
        "format": form,
        "bytes": path.stat().st_size,
        "rows": rows,
        "columns": [column.summary() for column in columns],
    }


def _arguments(payload: dict[str, Any]) -> tuple[Path, str, str]:
    name = payload.get("file")
    if not isinstance(name, str) or not name:
        raise TerminalError(f"payload.file is {name!r}; it must be the path of a CSV or Parquet file")
    path = Path(name)
    if path.is_dir():
        raise TerminalError(f"{path} is a folder; name a file in it")
    if not path.exists():
        raise TerminalError(f"{path}: there is no such file on this pod's machine (looked in {Path.cwd()})")
    form = payload.get("format") or _format_of(path)
    if form not in FORMATS:
        raise TerminalError(f"payload.format is {form!r}; it must be csv or parquet")
    delimiter = payload.get("delimiter", "\t" if path.suffix == ".tsv" else ",")
    if not isinstance(delimiter, str) or len(delimiter) != 1 or not delimiter.isascii():
        raise TerminalError(f"payload.delimiter is {delimiter!r}; it must be one ASCII character")
    return path, form, delimiter


def _format_of(path: Path) -> str:
    if path.suffix.lower() in (".parquet", ".pq"):
        return "parquet"
    try:
        with path.open("rb") as handle:
            return "parquet" if handle.read(4) == b"PAR1" else "csv"
    except OSError:
        return "csv"


def _profile_parquet(path: Path) -> tuple[int, list[Column]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            _bound(path, len(schema))
            return _collect(schema, file.iter_batches(batch_size=BATCH_ROWS))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise TerminalError(f"{path} is not a sound Parquet file: {_first_line(exc)}") from exc


def _profile_csv(path: Path, delimiter: str) -> tuple[int, list[Column]]:
    import pyarrow as pa
    from pyarrow import csv

    if path.stat().st_size == 0:
        raise TerminalError(f"{path} is empty; a CSV file needs at least a header line")
    types: dict[str, pa.DataType] = {}
    while True:
        try:
            reader = csv.open_csv(
                path,
                read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
                parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=True),
            )
            with reader:
                _bound(path, len(reader.schema))
                known = reader.schema
                return _collect(reader.schema, reader)
        except (pa.ArrowInvalid, pa.ArrowKeyError) as exc:
            # Types are guessed from the first block. Where a later one does not fit, read again with a wider type.
            clash = re.search(r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to", str(exc))
            if clash is None or "invalid UTF8" in str(exc):
                raise TerminalError(f"{path} is not a sound CSV file: {_first_line(exc)}") from exc
            names = known.names if "known" in locals() else _header(path, delimiter)
            name = names[int(clash.group(1))]
            guessed = types.get(name) or (known.field(name).type if "known" in locals() else None)
            types[name] = _wider(guessed)


def _header(path: Path, delimiter: str) -> list[str]:
    import csv

    with path.open(newline="", encoding="utf-8", errors="replace") as handle:
        return next(csv.reader(handle, delimiter=delimiter), [])


def _wider(guessed: pa.DataType | None) -> pa.DataType:
    import pyarrow as pa

    if guessed is not None and pa.types.is_null(guessed):
        return pa.int64()
    if guessed is not None and pa.types.is_integer(guessed):
        return pa.float64()
    return pa.string()


def _bound(path: Path, columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise TerminalError(f"{path} has {columns:,} columns; the limit is {MAX_COLUMNS}")


def _collect(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> tuple[int, list[Column]]:
    columns = [Column(field.name, str(field.type)) for field in schema]
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        for column, values in zip(columns, batch.columns, strict=True):
            column.add(values)
    return rows, columns


@dataclass
class Column:
    """The running profile of one column."""

    name: str
    type: str
    nulls: int = 0
    present: int = 0
    low: Any = None
    high: Any = None
    total: float = 0.0
    numbers: int = 0
    is_numeric: bool = False
    is_comparable: bool = True
    distinct: DistinctCounter = field(default_factory=DistinctCounter)

    def add(self, values: pa.Array) -> None:
        """Take one batch in."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if isinstance(values, pa.DictionaryArray):
            values = values.dictionary_decode()
        self.nulls += values.null_count
        self.present += len(values) - values.null_count
        kind = values.type
        self.is_numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            self.is_comparable = False
        if not self.is_comparable or pa.types.is_null(kind):
            return
        values = values.drop_null()
        self.distinct.add(pc.unique(values).to_pylist())
        if pa.types.is_floating(kind):
            values = values.filter(pc.is_finite(values))
        if len(values):
            self._extend(pc.min_max(values).as_py())
            if self.is_numeric:
                self.total += pc.sum(pc.cast(values, pa.float64(), safe=False)).as_py()
                self.numbers += len(values)

    def _extend(self, ends: dict[str, Any]) -> None:
        low, high = ends["min"], ends["max"]
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)

    def summary(self) -> dict[str, Any]:
        """The profile as JSON."""
        mean = self.total / self.numbers if self.numbers else None
        return {
            "name": self.name[:MAX_TEXT],
            "type": self.type,
            "nulls": self.nulls,
            # An estimate may overshoot; there cannot be more distinct values than values.
            "distinct": min(self.distinct.count(), self.present) if self.is_comparable else None,
            "distinct_is_exact": self.distinct.is_exact if self.is_comparable else None,
            "min": _plain(self.low),
            "max": _plain(self.high),
            "mean": mean if mean is not None and math.isfinite(mean) else None,
        }


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text.replace("\0", "")[:MAX_TEXT]


def _first_line(exc: BaseException) -> str:
    return str(exc).splitlines()[0][:300]
