"""Parser of klines: from the CSV of an archive file, or from a REST answer, to a frame with exact values.

The unit of times (milliseconds or microseconds) and the header are recognised from the bytes, and not from a
date or a name. A row that is not a kline is an error with its line number. No rule about times or values
rejects a row here, because rows are facts of the exchange. A table is rejected if most of its rows have
another interval. Source: the exchange's REST documentation of `klines` and its public-data README.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from capture_pipeline.binance.archive import _klines_kernel as kernel
from capture_pipeline.binance.decimals import PLACES, SUM_DIGITS
from capture_pipeline.binance.periods import DAY_US, Interval
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.parsing import guard_parser

PRICE = pl.Decimal(18, PLACES)
VOLUME = pl.Decimal(SUM_DIGITS + PLACES, PLACES)
"""Sums have up to 18 digits before the point. Prices have up to ten, because they are stored in 64 bits."""

KLINE_SCHEMA = {
    "open_time_us": pl.Int64(),
    "open": PRICE,
    "high": PRICE,
    "low": PRICE,
    "close": PRICE,
    "volume": VOLUME,
    "close_time_us": pl.Int64(),
    "quote_volume": VOLUME,
    "trades": pl.Int64(),
    "taker_buy_volume": VOLUME,
    "taker_buy_quote_volume": VOLUME,
    "time_unit": pl.String(),
}
"""Columns of a parsed frame. Times are microseconds; `time_unit` is the unit as sent, `ms` or `us`."""

_HEADER: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            {"open_time"},
            {"open"},
            {"high"},
            {"low"},
            {"close"},
            {"volume"},
            {"close_time"},
            {"quote_volume", "quote_asset_volume"},
            {"count", "trades", "number_of_trades"},
            {"taker_buy_volume", "taker_buy_base_volume", "taker_buy_base_asset_volume"},
            {"taker_buy_quote_volume", "taker_buy_quote_asset_volume"},
        ),
    )
)
"""Known names of each column, except the last one, which is ignored."""
_MS_FROM, _US_FROM, _US_TO = 10**11, 10**14, 10**17
_PRICE_LIMIT = 10**18
_LINE_FEED = 10
_WHY = {
    kernel.BAD_DIGIT: "a digit was expected",
    kernel.TOO_LONG: "a number has more than 18 digits",
    kernel.TOO_PRECISE: "a number has more than eight decimals",
    kernel.BAD_SEPARATOR: "a comma or the end of the line was expected",
    kernel.MISSING_FIELD: "a row has fewer than 12 columns",
    kernel.EXTRA_FIELD: "a row has more than 12 columns",
}
_REMEDY = "the file is set aside and other sources are used; compare it with the exchange's"
_LENGTHS = {
    length: name
    for name, length in (*((str(each), each.us) for each in Interval), ("3d", 3 * DAY_US), ("1w", 7 * DAY_US))
}
_decode_any = msgspec.json.Decoder().decode
_MIN_SHORTER_ROWS = 2
"""Minimum number of rows of a shorter interval in a rejected file: a halt may cut one kline to any length."""


def parse_csv(content: bytes, where: str) -> pl.DataFrame:
    """Parse the CSV of an archive file.

    Args:
        content: Bytes of the file, with or without byte order mark, header and carriage returns.
        where: Name of the file, for errors.

    Returns:
        A frame of `KLINE_SCHEMA`, with the rows in the file's order.

    Raises:
        MalformedDataError: The file is empty, has other columns, or contains a value that is not a number or
            not a time.
    """
    (frame,) = parse_blocks([content], where)
    return frame


def parse_blocks(blocks: Iterable[bytes], where: str) -> Iterator[pl.DataFrame]:
    """Parse the CSV of an archive file block by block, with the memory of one block.

    Args:
        blocks: Bytes of the file in blocks, which may end inside a line; see `parse_csv`.
        where: Name of the file, for errors.

    Yields:
        At least one frame of `KLINE_SCHEMA`, with the rows in the file's order.

    Raises:
        MalformedDataError: See `parse_csv`.
    """
    first_line = 0
    for lines in _split_into_lines(blocks):
        start, offset = (first_line, 0) if first_line else _find_first_row(lines, where)
        frame = _parse(lines, offset, where, start)
        first_line = start + frame.height
        yield frame
    if not first_line:
        raise MalformedDataError("contains no rows", where=where, remedy=_REMEDY)


def _split_into_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield pieces of whole lines; the first contains more than a header, and the last ends like the file."""
    pending = b""
    for block in blocks:
        if pending.count(b"\n") > 1:
            end = pending.rfind(b"\n") + 1
            yield pending[:end]
            pending = pending[end:] + block
        else:
            pending += block
    if pending:
        yield pending


def _find_first_row(content: bytes, where: str) -> tuple[int, int]:
    """Return line number and offset of the first row."""
    offset = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    first_line = 1
    if content[offset : offset + 1].isalpha():
        _check_header(content[offset:].split(b"\n", 1)[0], where)
        offset = content.find(b"\n", offset) + 1 or len(content)
        first_line = 2
    if offset >= len(content):
        raise MalformedDataError("contains no rows", where=where, remedy=_REMEDY)
    return first_line, offset


def _parse(content: bytes, offset: int, where: str, first_line: int) -> pl.DataFrame:
    """Parse whole lines after `offset`; the last line feed may be missing."""
    if not content.endswith(b"\n"):
        content += b"\n"
    text = np.frombuffer(content, np.uint8, offset=offset)
    low, high, (rows, status, column, position) = kernel.parse(
        text, int(np.count_nonzero(text == _LINE_FEED))
    )
    if status != kernel.OK:
        line, at = first_line + rows, offset + position
        field = max(content.rfind(b",", offset, at), content.rfind(b"\n", offset, at), offset - 1) + 1
        shown = (
            re.split(rb"[,\r\n]", content[field : at + 40], maxsplit=1)[0]
            or content[at : at + 20].split(b"\n", 1)[0]
        )
        raise MalformedDataError(
            f"{_WHY[status]}, found {shown!r}",
            where=f"{where}, line {line}, column {column + 1}",
            remedy=_REMEDY,
        )
    return _build_frame(low[:, :rows], None if high is None else high[:, :rows], where, first_line)


def parse_rest(body: bytes, where: str) -> pl.DataFrame:
    """Parse the body of a REST klines answer.

    Args:
        body: A JSON array of rows of twelve values: prices and volumes are strings, times and counts are
            integers, and the last value is ignored.
        where: The request, for errors.

    Returns:
        A frame of `KLINE_SCHEMA`; empty if the exchange has no kline.

    Raises:
        MalformedDataError: The body is not such an array.
    """
    with guard_parser(where, f"is not JSON: {body[:60]!r}", remedy="try again; a proxy may have answered"):
        rows = _decode_any(body)
    if not isinstance(rows, list):
        raise MalformedDataError(f"is not an array of klines: {body[:60]!r}", where=where)
    if not rows:
        return pl.DataFrame(schema=KLINE_SCHEMA)
    with guard_parser(where, f"is not an array of klines: {body[:60]!r}"):
        lines = [_format_rest_line(row, number, where) for number, row in enumerate(rows, 1)]
    return parse_csv("\n".join(lines).encode(), where)


def count_lengths(rows: pl.DataFrame, interval: Interval) -> Counter[int]:
    """Count klines by their length in microseconds.

    Args:
        rows: A frame of `KLINE_SCHEMA`.
        interval: The most frequent length.
    """
    length = (
        pl.col("close_time_us")
        - pl.col("open_time_us")
        + pl.when(pl.col("time_unit") == "ms").then(1000).otherwise(1)
    )
    lengths = rows.select(length.alias("length"))["length"]
    if (lengths == interval.us).all():  # this takes a hundredth of the time of counting
        return Counter({interval.us: rows.height})
    return Counter(dict(lengths.value_counts().iter_rows()))


def reject_other_interval(lengths: Counter[int], interval: Interval, where: str) -> None:
    """Reject a table whose klines have another interval.

    A kline may have any length, because a halt of the exchange ends it early. A table has another interval if
    more than half of its rows have the length of that interval. If that interval is shorter, at least two
    rows are needed, because a halt may cut one kline to any length.

    Args:
        lengths: Numbers of klines by length, of `count_lengths`.
        interval: The expected interval.
        where: Name of the table, for errors.

    Raises:
        MalformedDataError: The table has another interval.
    """
    total = lengths.total()
    if not total or lengths[interval.us] * 2 >= total:
        return
    ((usual, count),) = lengths.most_common(1)
    enough = usual > interval.us or count >= _MIN_SHORTER_ROWS
    if usual in _LENGTHS and usual != interval.us and count * 2 > total and enough:
        what = f"contains candles of {_LENGTHS[usual]}, not of {interval}: {count:,} of {total:,} rows"
        raise MalformedDataError(what, where=where, remedy=_REMEDY)


def _format_rest_line(row: object, number: int, where: str) -> str:
    place = f"{where}, row {number}"
    if not isinstance(row, list) or len(row) != kernel.COLUMNS:
        raise MalformedDataError(
            f"a row of {kernel.COLUMNS} was expected, found {str(row)[:80]}", where=place
        )
    for column, value in enumerate(row[:-1]):
        expected = str if column in kernel.DECIMAL_COLUMNS else int
        if type(value) is not expected or not str(value).isascii():
            raise MalformedDataError(
                f"{expected.__name__} was expected, found {value!r}"[:120],
                where=f"{place}, column {column + 1}",
            )
    return ",".join(map(str, (*row[:-1], 0)))


def _check_header(line: bytes, where: str) -> None:
    names = line.decode("ascii", "replace").strip().lower().split(",")
    if len(names) != kernel.COLUMNS or any(
        name not in known for name, known in zip(names, _HEADER, strict=False)
    ):
        raise MalformedDataError(
            f"has another header: {','.join(names)[:200]!r}", where=f"{where}, line 1", remedy=_REMEDY
        )


def _build_frame(
    low: NDArray[np.int64], high: NDArray[np.int64] | None, where: str, first_line: int
) -> pl.DataFrame:
    factor, unit = _detect_unit(low[0], where, first_line)
    closes = _convert_close_times(low[6], factor, where, first_line)
    # Each is a copy, because a view would keep all of `low` in memory, 96 bytes a row.
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


def _detect_unit(
    opens: NDArray[np.int64], where: str, first_line: int
) -> tuple[NDArray[np.int64] | int, pl.Expr]:
    """Return the factor to microseconds and the unit's name, for all rows or for each row if they differ."""
    is_us = (opens >= _US_FROM) & (opens < _US_TO)
    is_ms = (opens >= _MS_FROM) & (opens < _US_FROM)
    if is_us.all():
        return 1, pl.lit("us")
    if is_ms.all():
        return 1000, pl.lit("ms")
    _reject_times("open", opens, ~(is_us | is_ms), where, first_line)
    return np.where(is_us, 1, 1000), pl.lit(pl.Series(np.where(is_us, "us", "ms")))


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
        raise MalformedDataError(what, where=f"{where}, line {first_line + at}", remedy=_REMEDY)


def _check_price(low: NDArray[np.int64], high: NDArray[np.int64] | None, where: str, first_line: int) -> None:
    outside = (low >= _PRICE_LIMIT) | (low <= -_PRICE_LIMIT)
    if high is not None:
        outside |= high != low >> 63
    if outside.any():
        raise MalformedDataError(
            "a price has more than ten digits",
            where=f"{where}, line {first_line + int(np.argmax(outside))}",
            remedy=_REMEDY,
        )
