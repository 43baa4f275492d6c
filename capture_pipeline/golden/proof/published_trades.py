"""Parser of published trades: any time unit, with or without header and byte order mark."""

from __future__ import annotations

import io
import re

import polars as pl

from capture_pipeline.binance.archive.zip_file import read_only_entry
from capture_pipeline.binance.decimals import MAX_UNITS, PLACES, PLAIN_DECIMAL, WHOLE_DIGITS
from capture_pipeline.binance.periods import TimeRange
from capture_pipeline.binance.urls import AGG_TRADES
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.parsing import guard_parser

_COLUMNS = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match")
_AGG_COLUMNS = ("id", "price", "qty", "first_id", "last_id", "time", "is_buyer_maker", "is_best_match")
"""Columns of files of aggregate trades. Files of futures have no isBestMatch, in both kinds of files."""
_NUMBER, _DECIMAL, _FLAG = r"^[0-9]{1,18}$", f"^{PLAIN_DECIMAL}$", r"^(?i:true|false)$"
_E8 = pl.Decimal(WHOLE_DIGITS + PLACES, PLACES)
_BOM = b"\xef\xbb\xbf"
_MS_FROM, _US_FROM, _US_TO = 10**11, 10**14, 10**17
_REMEDY = "download the file again, and compare it with its checksum"


def parse_published_trades(
    content: bytes, stem: str, max_bytes: int, bounds: TimeRange | None = None
) -> pl.DataFrame:
    """Parse the trades of an archive zip. Time unit and header are detected; identical rows count once.

    Args:
        content: The zip.
        stem: Name of the zip without `.zip`.
        max_bytes: Maximum inflated size.
        bounds: Period of the file; a trade outside it is an error.

    Returns:
        `trade_id, price_e8, quantity_e8, trade_us, buyer_maker`, sorted by id. In files of aggregate trades
        `trade_id` is the id of the aggregate.

    Raises:
        MalformedDataError: The file is not a valid trades file, or two rows of one id differ. The error names
            file and line.
    """
    where = f"{stem}.zip:{stem}.csv"
    text = read_only_entry(content, f"{stem}.csv", max_bytes, f"{stem}.zip").removeprefix(_BOM)
    has_header = text[:1].isalpha()
    with guard_parser(
        where,
        "is not a CSV table",
        remedy=_REMEDY,
        also=(pl.exceptions.PolarsError, pl.exceptions.PanicException),
    ):
        rows = pl.read_csv(
            io.BytesIO(text),
            has_header=False,
            infer_schema=False,
            skip_rows=int(has_header),
            truncate_ragged_lines=False,
        )
    names = _AGG_COLUMNS if f"-{AGG_TRADES}-" in stem else _COLUMNS
    most = len(names)
    if rows.width not in {most - 1, most}:
        raise MalformedDataError(
            f"has {rows.width} columns, {most - 1} or {most} were expected", where=where, remedy=_REMEDY
        )
    rows.columns = list(names[: rows.width])
    _check(rows, where, 1 + has_header)
    if not rows["id"].is_unique().all():
        rows = _drop_repeated(rows, where, 1 + has_header)
    units = [pl.col(name).cast(_E8).to_physical().cast(pl.Int64) for name in ("price", "qty")]
    time = pl.col("time").cast(pl.Int64)
    trades = rows.select(
        pl.col("id").cast(pl.Int64).alias("trade_id"),
        units[0].alias("price_e8"),
        units[1].alias("quantity_e8"),
        pl.when(time >= _US_FROM).then(time).otherwise(time * 1000).alias("trade_us"),
        (pl.col("is_buyer_maker").str.to_lowercase() == "true").alias("buyer_maker"),
    )
    outside = ~trades["trade_us"].is_between(*bounds, closed="left") if bounds else None
    if outside is not None and outside.any():
        _raise_error(rows, "time", outside, where, 1 + has_header)
    return trades.sort("trade_id")


def _check(rows: pl.DataFrame, where: str, first_line: int) -> None:
    patterns = {"id": _NUMBER, "price": _DECIMAL, "qty": _DECIMAL, "time": _NUMBER, "is_buyer_maker": _FLAG}
    patterns |= {"is_best_match": _FLAG} if "is_best_match" in rows.columns else {}
    patterns |= dict.fromkeys({"first_id", "last_id"} & set(rows.columns), _NUMBER)
    for name, pattern in patterns.items():
        bad = ~rows[name].str.contains(pattern).fill_null(value=False)
        if bad.any():
            _raise_error(rows, name, bad, where, first_line)
    for name in ("price", "qty"):
        bad = rows[name].cast(_E8).to_physical() > MAX_UNITS
        if bad.any():
            _raise_error(rows, name, bad, where, first_line)
    time = rows["time"].cast(pl.Int64)
    bad = ~(time.is_between(_MS_FROM, _US_TO, closed="left"))
    if bad.any():
        _raise_error(rows, "time", bad, where, first_line)


def _drop_repeated(rows: pl.DataFrame, where: str, first_line: int) -> pl.DataFrame:
    """Keep each trade once.

    The exchange has published files with repeated blocks of rows (binance/binance-public-data #203).

    Raises:
        MalformedDataError: Two rows of one id differ.
    """
    kept = rows.with_row_index("line").unique(rows.columns, keep="first", maintain_order=True)
    repeated = kept.filter(~pl.col("id").is_first_distinct())["line"]
    if repeated.len():
        _raise_error(rows, "id", pl.int_range(rows.height, eager=True) == repeated[0], where, first_line)
    return kept.drop("line")


def _raise_error(rows: pl.DataFrame, name: str, bad: pl.Series, where: str, first_line: int) -> None:
    at = int(bad.arg_max() or 0)
    what = f"{name} is not valid in this trades file, or occurs twice: {rows[name][at]!r}"
    raise MalformedDataError(
        re.sub(r"\s+", " ", what)[:160], where=f"{where}, line {first_line + at}", remedy=_REMEDY
    )
