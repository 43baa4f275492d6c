"""Parser of klines: from the CSV of an archive file, or from a REST answer, to a frame with exact values.

The unit of times (milliseconds or microseconds) and the header are recognised from the bytes, and not from a
date or a name. A row that is not a kline is an error with its line number. No rule about times or values
rejects a row here, because rows are facts of the exchange. A table is rejected if most of its rows have
another interval. Source: the exchange's REST documentation of `klines` and its public-data README.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from capture_pipeline.binance.archive.klines import _kernel as kernel
from capture_pipeline.binance.archive.klines.columns import KLINE_SCHEMA, REMEDY
from capture_pipeline.binance.archive.klines.frame import build_frame
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.parsing import guard_parser

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
_LINE_FEED = 10
_WHY = {
    kernel.BAD_DIGIT: "a digit was expected",
    kernel.TOO_LONG: "a number has more than 18 digits",
    kernel.TOO_PRECISE: "a number has more than eight decimals",
    kernel.BAD_SEPARATOR: "a comma or the end of the line was expected",
    kernel.MISSING_FIELD: "a row has fewer than 12 columns",
    kernel.EXTRA_FIELD: "a row has more than 12 columns",
}
_decode_any = msgspec.json.Decoder().decode


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
        start, offset = _RowPosition(first_line, 0) if first_line else _find_first_row(lines, where)
        frame = _parse(lines, offset, where, start)
        first_line = start + frame.height
        yield frame
    if not first_line:
        raise MalformedDataError("contains no rows", where=where, remedy=REMEDY)


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


class _RowPosition(NamedTuple):
    """Number of a line, from 1, and its offset in bytes."""

    line: int
    offset: int


def _find_first_row(content: bytes, where: str) -> _RowPosition:
    offset = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    first_line = 1
    if content[offset : offset + 1].isalpha():
        _check_header(content[offset:].split(b"\n", 1)[0], where)
        offset = content.find(b"\n", offset) + 1 or len(content)
        first_line = 2
    if offset >= len(content):
        raise MalformedDataError("contains no rows", where=where, remedy=REMEDY)
    return _RowPosition(first_line, offset)


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
            remedy=REMEDY,
        )
    return build_frame(low[:, :rows], None if high is None else high[:, :rows], where, first_line)


def parse_rest(body: bytes, where: str) -> pl.DataFrame:
    """Parse the body of a REST klines answer.

    Args:
        body: A JSON array of rows of twelve values: prices and volumes are strings, times and counts are
            integers, and the last value is ignored.
        where: The request, for errors.

    Returns:
        A frame of `KLINE_SCHEMA`; empty if the exchange has no kline.

    Raises:
        MalformedDataError: The body is not a JSON array of such rows.
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
            f"has another header: {','.join(names)[:200]!r}", where=f"{where}, line 1", remedy=REMEDY
        )
