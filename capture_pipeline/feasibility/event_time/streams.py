"""The streams whose origin times are looked at: two columns, `origin_ns` and `receipt_ns`, a row a message, of any file in any size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.parquet import scan_tables
from capture_pipeline.replay.sources._crypto_lake_columns import find_column, open_parquet
from capture_pipeline.tables.golden import DEPTH, SNAPSHOTS, TRADES


@dataclass(frozen=True)
class TimedStream:
    """One stream of messages.

    Attributes:
        name: For people.
        frame: `origin_ns`, null where the exchange sent none, and `receipt_ns`, in the order of receipt.
        judged: Whether it counts in the criteria; REST answers do not, for they carry no time and are placed by their id.
    """

    name: str
    frame: pl.LazyFrame
    judged: bool = True


def golden_streams(tables: GoldenTables, symbol: str) -> list[TimedStream]:
    """Trades by event and by trade time, diffs and snapshots of one symbol of a session.

    Raises:
        LakeError: The session has no tables, or a file of them is gone.
    """
    trades, receipt = tables.scan(TRADES, symbol), pl.col("capture_ns").alias("receipt_ns")
    return [
        TimedStream("trades", trades.select(_from_us("event_us"), receipt)),
        TimedStream("trades, trade time", trades.select(_from_us("trade_us"), receipt)),
        TimedStream(
            "deltas", _first_of(tables.scan(DEPTH, symbol), "line").select(_from_us("event_us"), receipt)
        ),
        TimedStream(
            "snapshots",
            _first_of(tables.scan(SNAPSHOTS, symbol), "line").select(
                pl.lit(None, pl.Int64).alias("origin_ns"), receipt
            ),
            judged=False,
        ),
    ]


def crypto_lake_streams(
    trades: Path | None = None, deltas: Path | None = None, books: Path | None = None
) -> list[TimedStream]:
    """The tables `trades`, `book_delta_v2` and `book` of Crypto Lake, as far as they are given.

    Raises:
        LakeError: A file is not there.
        MalformedDataError: A file has another layout.
    """
    files = {"trades": (trades, ()), "deltas": (deltas, ("sequence_number",)), "books": (books, ())}
    return [
        TimedStream(name, _of_lake(path, keys)) for name, (path, keys) in files.items() if path is not None
    ]


def _of_lake(path: Path, keys: tuple[str, ...]) -> pl.LazyFrame:
    with open_parquet(path) as file:
        there = file.schema_arrow.names
    origin, receipt = (find_column(there, name, str(path)) for name in ("origin", "receipt"))
    for key in keys:
        find_column(there, key, str(path))
    frame = scan_tables([path], "fetch it again")
    if keys:
        frame = _first_of(frame, receipt, *keys)
    return frame.select(_nanoseconds(origin).alias("origin_ns"), _nanoseconds(receipt).alias("receipt_ns"))


def _nanoseconds(column: str) -> pl.Expr:
    """A datetime, or nanoseconds as a number."""
    return pl.col(column).to_physical().cast(pl.Int64)


def _from_us(column: str) -> pl.Expr:
    return (pl.col(column) * 1000).alias("origin_ns")


def _first_of(frame: pl.LazyFrame, *keys: str) -> pl.LazyFrame:
    """The first row of each message."""
    return frame.filter(pl.any_horizontal(pl.col(key).ne_missing(pl.col(key).shift(1)) for key in keys))
