"""What the fleet did over time, added up in Snowflake by Snowpark: thousands of samples come back as a few rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetq_core.model import WorkSpan

from .snowflake_connection import SnowflakeConnection, timestamp
from .snowpark import SessionKeeper, driver_errors

if TYPE_CHECKING:
    from snowflake.snowpark import Session

PURPOSE = "work_history"


def work_history(
    connection: SnowflakeConnection, keeper: SessionKeeper, since_ts: float, width_s: float
) -> list[WorkSpan]:
    """The spans since `since_ts`, oldest first, read over the store's own connection."""

    def work(driver: Any) -> list[WorkSpan]:
        with driver_errors():
            return _read(keeper.over(driver), since_ts, width_s, connection.parameters(PURPOSE))

    return connection.with_driver(work)


def _read(session: Session, since_ts: float, width_s: float, parameters: dict[str, str]) -> list[WorkSpan]:
    from snowflake.snowpark import functions as fn

    sampled = fn.col("sampled_ts")
    number = fn.floor(fn.date_part("epoch_second", sampled) / fn.lit(width_s))
    spans = (
        session.table("fleet_sample")
        .filter(sampled >= fn.lit(timestamp(since_ts)))
        .group_by(number.alias("span"))
        .agg(
            fn.sum("interval_s"), fn.sum("submitted_delta"), fn.sum("completed_delta"), fn.sum("failed_delta"),
            fn.max("pending"), fn.max("claimed"), fn.max("failed"), fn.max("oldest_pending_s"),
            fn.avg("wait_p50_s"), fn.max("wait_p95_s"), fn.max("wait_p99_s"),
            fn.avg("run_p50_s"), fn.max("run_p95_s"), fn.max("run_p99_s"),
        )
        .sort("span")
    )  # fmt: skip
    return [_span(row, width_s) for row in spans.collect(statement_params=parameters)]


def _span(row: Any, width_s: float) -> WorkSpan:
    number, seconds, *counts = row
    whole, worst = counts[:6], counts[6:]
    return WorkSpan(float(number) * width_s, float(seconds), *map(int, whole), *worst)
