"""Small valid tables, which tests change."""

from __future__ import annotations

import polars as pl

from capture_pipeline.binance.archive.klines.parser import parse_csv
from capture_pipeline.binance.periods import MINUTE_US, parse_time
from capture_pipeline.tables.klines.bars import BARS

START_US = parse_time("2025-01-01")


def kline_csv(minutes: int, start_us: int = START_US, *, skip: frozenset[int] = frozenset()) -> str:
    """Return CSV rows of consecutive one-minute klines in microseconds."""
    rows = []
    for minute in range(minutes):
        if minute not in skip:
            opened = start_us + minute * MINUTE_US
            low = 100 + minute % 7
            rows.append(
                f"{opened},{low + 1},{low + 3}.5,{low},{low + 2},10.5,{opened + MINUTE_US - 1},"
                f"1050.25,{minute},4,400.5,0"
            )
    return "\n".join(rows) + "\n"


def klines(minutes: int, start_us: int = START_US, *, skip: frozenset[int] = frozenset()) -> pl.DataFrame:
    """Return a frame of consecutive one-minute klines."""
    return parse_csv(kline_csv(minutes, start_us, skip=skip).encode(), "made")


def bars(
    minutes: int, start_us: int = START_US, *, source: str = "monthly", skip: frozenset[int] = frozenset()
) -> pl.DataFrame:
    """Return consecutive one-minute klines as bars of one source."""
    return (
        klines(minutes, start_us, skip=skip).with_columns(pl.lit(source).alias("source")).select(*BARS.schema)
    )


def changed(frame: pl.DataFrame, row: int, column: str, value: pl.Expr) -> pl.DataFrame:
    """Return a frame with one value replaced by that of an expression."""
    kind = frame.schema[column]
    here = pl.int_range(pl.len()) == row
    return frame.with_columns(pl.when(here).then(value.cast(kind)).otherwise(pl.col(column)).alias(column))
