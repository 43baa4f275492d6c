"""Streams whose origin times are measured: lazy frames with the columns `origin_ns` and `receipt_ns`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.parquet import scan_tables
from capture_pipeline.replay.sources._crypto_lake_columns import find_column, open_parquet
from capture_pipeline.tables.golden.depth import DEPTH
from capture_pipeline.tables.golden.snapshots import SNAPSHOTS
from capture_pipeline.tables.golden.trades import TRADES


@dataclass(frozen=True)
class TimedStream:
    """One stream of messages.

    Attributes:
        name: Title for readers.
        frame: One row for each message in the order of receipt: `origin_ns`, null if the exchange sent no
            time, and `receipt_ns`.
        judged: The stream counts in the criteria. REST answers do not count, because they have no time.
    """

    name: str
    frame: pl.LazyFrame
    judged: bool = True


def golden_streams(tables: GoldenTables, symbol: str) -> list[TimedStream]:
    """Return trades by event time, trades by trade time, diffs and snapshots of one symbol of a session.

    Raises:
        LakeError: The session has no tables, or a file of its tables is missing.
    """
    trades, receipt = tables.scan(TRADES, symbol), pl.col("capture_ns").alias("receipt_ns")
    return [
        TimedStream("trades", trades.select(_to_origin_ns("event_us"), receipt)),
        TimedStream("trades, trade time", trades.select(_to_origin_ns("trade_us"), receipt)),
        TimedStream(
            "deltas",
            _select_first(tables.scan(DEPTH, symbol), "line").select(_to_origin_ns("event_us"), receipt),
        ),
        TimedStream(
            "snapshots",
            _select_first(tables.scan(SNAPSHOTS, symbol), "line").select(
                pl.lit(None, pl.Int64).alias("origin_ns"), receipt
            ),
            judged=False,
        ),
    ]


def crypto_lake_streams(
    trades: Path | None = None, deltas: Path | None = None, books: Path | None = None
) -> list[TimedStream]:
    """Return streams of the tables `trades`, `book_delta_v2` and `book` of Crypto Lake, for the given files.

    Raises:
        LakeError: A file is missing.
        MalformedDataError: A file has another layout.
    """
    files = {"trades": (trades, ()), "deltas": (deltas, ("sequence_number",)), "books": (books, ())}
    return [
        TimedStream(name, _scan_lake(path, keys)) for name, (path, keys) in files.items() if path is not None
    ]


def _scan_lake(path: Path, keys: tuple[str, ...]) -> pl.LazyFrame:
    with open_parquet(path) as file:
        columns = file.schema_arrow.names
    origin, receipt = (find_column(columns, name, str(path)) for name in ("origin", "receipt"))
    for key in keys:
        find_column(columns, key, str(path))
    frame = scan_tables([path], "download it again")
    if keys:
        frame = _select_first(frame, receipt, *keys)
    return frame.select(
        _to_nanoseconds(origin).alias("origin_ns"), _to_nanoseconds(receipt).alias("receipt_ns")
    )


def _to_nanoseconds(column: str) -> pl.Expr:
    """Convert a column of datetimes, or of nanoseconds as numbers, to nanoseconds."""
    return pl.col(column).to_physical().cast(pl.Int64)


def _to_origin_ns(column: str) -> pl.Expr:
    return (pl.col(column) * 1000).alias("origin_ns")


def _select_first(frame: pl.LazyFrame, *keys: str) -> pl.LazyFrame:
    """Select the first row of each message."""
    return frame.filter(pl.any_horizontal(pl.col(key).ne_missing(pl.col(key).shift(1)) for key in keys))
