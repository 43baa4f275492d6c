"""Build of a frame of klines from parsed integers: unit of the times, and limits of times and prices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from capture_pipeline.binance.archive.klines.columns import KLINE_SCHEMA, PRICE, REMEDY
from capture_pipeline.errors import MalformedDataError

_MS_FROM, _US_FROM, _US_TO = 10**11, 10**14, 10**17
_PRICE_LIMIT = 10**18


def build_frame(
    low: NDArray[np.int64], high: NDArray[np.int64] | None, where: str, first_line: int
) -> pl.DataFrame:
    """Build a frame of `KLINE_SCHEMA` from the numbers of its columns.

    Args:
        low: Low 64 bits of the values, one row per column; decimals in units of 1e-8.
        high: High 64 bits of decimals; None if every decimal fits 64 bits.
        where: Name of the file, for errors.
        first_line: Number of the first line, for errors.

    Raises:
        MalformedDataError: A value is not a time, or a price has more than ten digits before the point.
    """
    factor, unit = _detect_unit(low[0], where, first_line)
    closes = _convert_close_times(low[6], factor, where, first_line)
    # Each is a copy, because a view would keep all of `low` in memory, 96 bytes per row.
    integers = {0: low[0] * factor, 6: closes, 8: low[8].copy()}
    columns: dict[str, pa.Array] = {}
    for index, (name, kind) in enumerate(list(KLINE_SCHEMA.items())[:-1]):
        if not isinstance(kind, pl.Decimal):
            columns[name] = pa.array(integers[index])
            continue
        if kind == PRICE:
            _check_price(low[index], high if high is None else high[index], where, first_line)
        bits = np.empty((low.shape[1], 2), np.int64)
        bits[:, 0], bits[:, 1] = low[index], low[index] >> 63 if high is None else high[index]
        columns[name] = pa.Array.from_buffers(
            pa.decimal128(kind.precision or 38, kind.scale), low.shape[1], [None, pa.py_buffer(bits)]
        )
    frame = pl.from_arrow(pa.table(columns))
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(type(frame))
    return frame.with_columns(unit.alias("time_unit"))


class _TimeUnit(NamedTuple):
    """Factor to microseconds and name of a unit, for all rows or for each row if they differ."""

    factor: NDArray[np.int64] | int
    name: pl.Expr


def _detect_unit(opens: NDArray[np.int64], where: str, first_line: int) -> _TimeUnit:
    is_us = (opens >= _US_FROM) & (opens < _US_TO)
    is_ms = (opens >= _MS_FROM) & (opens < _US_FROM)
    if is_us.all():
        return _TimeUnit(1, pl.lit("us"))
    if is_ms.all():
        return _TimeUnit(1000, pl.lit("ms"))
    _reject_times("open", opens, ~(is_us | is_ms), where, first_line)
    return _TimeUnit(np.where(is_us, 1, 1000), pl.lit(pl.Series(np.where(is_us, "us", "ms"))))


def _convert_close_times(
    closes: NDArray[np.int64], factor: NDArray[np.int64] | int, where: str, first_line: int
) -> NDArray[np.int64]:
    """Return close times in microseconds. The unit follows from the value; if it is unclear, from the row."""
    _reject_times("close", closes, (closes >= _US_TO) | (closes <= -_US_FROM), where, first_line)
    own = np.where(closes >= _US_FROM, 1, np.where(closes >= _MS_FROM, 1000, factor))
    scaled: NDArray[np.int64] = closes * own
    return scaled


def _reject_times(
    name: str, times: NDArray[np.int64], strange: NDArray[np.bool_], where: str, first_line: int
) -> None:
    if strange.any():
        at = int(np.argmax(strange))
        what = f"{name} time {times[at]} is not a time in milliseconds or microseconds"
        raise MalformedDataError(what, where=f"{where}, line {first_line + at}", remedy=REMEDY)


def _check_price(low: NDArray[np.int64], high: NDArray[np.int64] | None, where: str, first_line: int) -> None:
    outside = (low >= _PRICE_LIMIT) | (low <= -_PRICE_LIMIT)
    if high is not None:
        outside |= high != low >> 63
    if outside.any():
        raise MalformedDataError(
            "a price has more than ten digits",
            where=f"{where}, line {first_line + int(np.argmax(outside))}",
            remedy=REMEDY,
        )
