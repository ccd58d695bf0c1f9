"""What the fleet did hour by hour, added up in Snowflake by Snowpark: thousands of samples come back as a few rows."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fleetq_core.model import HourOfWork

from .snowflake_connection import EPOCH, SnowflakeConnection, timestamp
from .snowpark import SessionKeeper, driver_errors

if TYPE_CHECKING:
    from snowflake.snowpark import Session

PURPOSE = "hourly_history"


def hourly_history(connection: SnowflakeConnection, keeper: SessionKeeper, since_ts: float) -> list[HourOfWork]:
    """The hours since `since_ts`, oldest first, read over the store's own connection."""

    def work(driver: Any) -> list[HourOfWork]:
        with driver_errors():
            return _read(keeper.over(driver), since_ts, connection.parameters(PURPOSE))

    return connection.with_driver(work)


def _read(session: Session, since_ts: float, parameters: dict[str, str]) -> list[HourOfWork]:
    from snowflake.snowpark import functions as fn

    sampled = fn.col("sampled_ts")
    hours = (
        session.table("fleet_sample")
        .filter(sampled >= fn.lit(timestamp(since_ts)))
        .group_by(fn.date_trunc("hour", sampled).alias("hour"))
        .agg(
            fn.sum("submitted_delta"), fn.sum("completed_delta"), fn.sum("failed_delta"),
            fn.max("oldest_pending_s"), fn.max("wait_p95_s"), fn.max("run_p95_s"),
        )
        .sort("hour")
    )  # fmt: skip
    return [_hour(row) for row in hours.collect(statement_params=parameters)]


def _hour(row: Any) -> HourOfWork:
    hour, submitted, completed, failed, oldest, wait, run = row
    hour_ts = (hour - EPOCH) / timedelta(seconds=1)
    return HourOfWork(hour_ts, int(submitted), int(completed), int(failed), oldest, wait, run)
