"""Reader of Tardis' CSV files: blocks of rows as typed frames, with exact numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
from isal import igzip

from capture_pipeline.errors import LakeError, MalformedDataError
from capture_pipeline.parsing import PARSE_ERRORS, explain
from capture_pipeline.replay.sources.tick_grid import MAX_DECIMALS

COLUMNS = ("exchange", "symbol", "timestamp", "local_timestamp", "is_snapshot", "side", "price", "amount")
BLOCK_BYTES = 8 << 20
_LAYOUT = "give a file of Tardis' incremental_book_L2"
_WITH_EXPONENT = r"^\d+(\.\d+)?e[+-]?\d{1,2}$"
_LARGEST = 9.2e18
"""Values below it fit 64 bits."""
_MAX_LINE_BYTES = 1 << 20


def read_frames(path: Path, block_bytes: int) -> Iterator[pl.DataFrame]:
    """Read blocks of rows.

    Returns:
        Frames of `symbol`, `timestamp` and `local_timestamp` (microseconds), `is_snapshot`, `ask`, and
        `price` and `amount` as integers in units of `10**-price_places` and `10**-amount_places`. Both
        numbers of places are the highest so far in the file.

    Raises:
        LakeError: The file does not exist.
        MalformedDataError: The gzip is damaged, or a row has another layout.
    """
    line, places = 0, {"price": 0, "amount": 0}
    for number, block in enumerate(_blocks(path, block_bytes)):
        text = block
        if number == 0:
            head, _, text = block.partition(b"\n")
            if head.rstrip(b"\r").decode(errors="replace") != ",".join(COLUMNS):
                raise MalformedDataError(
                    "line 1 is not the header " + ",".join(COLUMNS), where=str(path), remedy=_LAYOUT
                )
            line = 2
        if text:
            rows = _read(text, path, line)
            yield _typed(rows, path, line, places)
            line += rows.height
    if not line:
        raise MalformedDataError("is empty", where=str(path), remedy="download the file again")


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    carried, read = b"", 0
    try:
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(path.open("rb"))
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            file: Any = stack.enter_context(igzip.IGzipFile(fileobj=raw)) if packed else raw  # type: ignore[no-untyped-call, unused-ignore]
            while piece := file.read(size):
                read += len(piece)
                whole, feed, rest = piece.rpartition(b"\n")
                if feed:
                    yield carried + whole + feed
                    carried = rest
                else:
                    carried += piece
                    if len(carried) > _MAX_LINE_BYTES:
                        what = f"has a line of more than {_MAX_LINE_BYTES:,} bytes before byte {read:,}"
                        raise MalformedDataError(
                            what, where=str(path), remedy="check that it is a CSV file, or download it again"
                        )
    except FileNotFoundError:
        raise LakeError("does not exist", where=str(path), remedy=_LAYOUT) from None
    except PARSE_ERRORS as error:
        what = f"the gzip is damaged after byte {read:,}: {explain(error)}"
        raise MalformedDataError(what, where=str(path), remedy="download the file again") from None
    if carried:
        yield carried + b"\n"


def _read(text: bytes, path: Path, line: int) -> pl.DataFrame:
    try:
        schema = dict.fromkeys(COLUMNS, pl.String)
        rows = pl.read_csv(text, has_header=False, schema=schema, quote_char=None).fill_null("")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        rows = pl.DataFrame()
    if rows.height == text.count(b"\n"):
        return rows
    for number, row in enumerate(text.split(b"\n")[:-1], line):
        if row.count(b",") != len(COLUMNS) - 1 or not row.isascii():
            raise MalformedDataError(
                f"line {number}: the row does not have eight fields: {row[:80]!r}",
                where=str(path),
                remedy="download the file again",
            )
    raise MalformedDataError(
        f"the rows from line {line} on cannot be read", where=str(path), remedy="download the file again"
    )


def _typed(rows: pl.DataFrame, path: Path, line: int, places: dict[str, int]) -> pl.DataFrame:
    rows = rows.with_columns(_plain(rows[name]) for name in places)
    found = rows.select(
        "symbol",
        *(pl.col(name).cast(pl.Int64, strict=False) for name in ("timestamp", "local_timestamp")),
        "is_snapshot",
        "side",
        *(_digits(name).cast(pl.Int64, strict=False).alias(name) for name in places),
        *(_places(name).alias(f"{name}_places") for name in places),
        *(pl.col(name).str.starts_with("+").alias(f"{name}_signed") for name in places),
    )
    _check_rows(rows, found, path, line)
    for name, before in places.items():
        count = places[name] = max(before, int(found[f"{name}_places"].max()))  # type: ignore[arg-type]
        largest = found.select(
            (pl.col(name).cast(pl.Float64) * 10.0 ** (count - pl.col(f"{name}_places"))).max()
        ).item()
        if count > MAX_DECIMALS or largest > _LARGEST:
            raise MalformedDataError(
                f"the column {name} has a value with too many digits from line {line} on",
                where=str(path),
                remedy=_LAYOUT,
            )
    return found.select(
        "symbol",
        "timestamp",
        "local_timestamp",
        pl.col("is_snapshot") == "true",
        (pl.col("side") == "ask").alias("ask"),
        *(
            pl.col(name) * pl.lit(10, pl.Int64).pow(count - pl.col(f"{name}_places"))
            for name, count in places.items()
        ),
        *(pl.lit(count, pl.Int64).alias(f"{name}_places") for name, count in places.items()),
    )


def _check_rows(rows: pl.DataFrame, found: pl.DataFrame, path: Path, line: int) -> None:
    rules = {
        **{name: pl.col(name).is_between(10**15, 10**16 - 1) for name in ("timestamp", "local_timestamp")},
        "is_snapshot": pl.col("is_snapshot").is_in(["true", "false"]),
        "side": pl.col("side").is_in(["bid", "ask"]),
        **{name: (pl.col(name) >= 0) & ~pl.col(f"{name}_signed") for name in ("price", "amount")},
    }
    results = found.select(rule.fill_null(value=False).alias(name) for name, rule in rules.items())
    if not all(results[name].all() for name in rules):
        at = int(results.select(pl.all_horizontal(pl.all())).to_series().arg_min() or 0)
        name = next(name for name in rules if not results[name][at])
        raise MalformedDataError(
            f"line {line + at}: {name} is not valid: {rows[name][at]!r}",
            where=str(path),
            remedy="download the file again",
        )


def _plain(texts: pl.Series) -> pl.Series:
    """Write numbers without an exponent, exactly, and remove trailing zeros of long ones.

    Tardis writes a ten-millionth as 1e-7.
    """
    with_exponent = texts.str.contains("e", literal=True).any()
    if with_exponent:
        is_exponent = texts.str.contains(_WITH_EXPONENT)
        texts = pl.Series(
            texts.name,
            [
                f"{Decimal(text):f}" if marked else text
                for text, marked in zip(texts, is_exponent, strict=True)
            ],
            pl.String,
        )
    if int(texts.str.len_bytes().max() or 0) <= MAX_DECIMALS:  # type: ignore[arg-type]
        return texts
    stripped = pl.col(texts.name).str.strip_chars_end("0").str.strip_suffix(".")
    pointed = pl.col(texts.name).str.contains(".", literal=True)
    return (
        texts.to_frame()
        .select(pl.when(pointed).then(stripped).otherwise(pl.col(texts.name)).alias(texts.name))
        .to_series()
    )


def _places(name: str) -> pl.Expr:
    point = pl.col(name).str.find(".", literal=True).cast(pl.Int64)
    return (pl.col(name).str.len_bytes().cast(pl.Int64) - 1 - point).fill_null(0)


def _digits(name: str) -> pl.Expr:
    return pl.col(name).str.replace(".", "", literal=True)
