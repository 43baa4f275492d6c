"""Parquet files of the lake: deterministic writing (same rows, same bytes) and guarded reading."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.io.plugins import register_io_source

from capture_pipeline.errors import LakeError, PermanentError
from capture_pipeline.lake.files import publish_bytes
from capture_pipeline.parsing import guard_parser

DICTIONARY = "RLE_DICTIONARY"
"""Encoding of columns with few distinct values, which the writer selects by an argument of its own."""
_ZSTD_LEVEL = 1
_ROWS_IN_GROUP = 1 << 18
_MAX_INTEGER_DIGITS = 18
"""Decimals with at most this many digits are stored as 64-bit integers."""
_PARQUET_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError)
"""Arrow reports damage as `OSError`, and as `ArrowMemoryError` if a damaged file states a huge size."""


@dataclass(frozen=True)
class PublishedTable:
    """Size in bytes and SHA-256 of a published file."""

    bytes: int
    sha256: str


def publish_table(frame: pl.DataFrame, path: Path) -> PublishedTable:
    """Publish a frame, sorted by its first column, as Parquet.

    Integers and prices are stored as differences to their neighbours, which takes a third less space than
    plain values. Statistics are stored for the first column only, because readers filter by it. The file is
    built in memory, so that a full disk fails only in the publication.

    Args:
        frame: Frame of integers, decimals, strings and booleans.
        path: Final path of the file.

    Raises:
        StorageError: The file cannot be written; `path` is unchanged.
    """
    kinds = frame.schema
    content = io.BytesIO()
    writer = pq.ParquetWriter(
        content,
        frame.head(0).to_arrow().schema,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=[name for name, kind in kinds.items() if isinstance(kind, pl.String)],
        column_encoding={
            name: _encoding(kind) for name, kind in kinds.items() if not isinstance(kind, pl.String)
        },
        store_decimal_as_integer=True,
        write_statistics=frame.columns[:1],
    )
    # Slices avoid a copy of the whole frame.
    with writer:
        for start in range(0, max(frame.height, 1), _ROWS_IN_GROUP):
            writer.write_table(
                frame.slice(start, _ROWS_IN_GROUP).rechunk().to_arrow().combine_chunks(),
                row_group_size=_ROWS_IN_GROUP,
            )
    publish_bytes(path, content.getbuffer())
    return PublishedTable(len(content.getbuffer()), hashlib.sha256(content.getbuffer()).hexdigest())


def read_table(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Read a published table.

    Args:
        path: The file.
        columns: Columns to read, in this order; None for all.

    Raises:
        LakeError: The file is damaged or lacks a column.
    """
    content = io.BytesIO(path.read_bytes())
    with (
        guard_parquet(path, remedy="move it away, then backfill its partition again to rebuild it"),
        pq.ParquetFile(content) as file,
    ):
        return _frame(_selected(file.read(columns), columns))


def read_row_groups(
    path: Path, columns: list[str] | None = None, remedy: str = "convert the recording again"
) -> Iterator[pa.Table]:
    """Read a table one row group at a time.

    Args:
        path: The file.
        columns: Columns to read, in this order; None for all.
        remedy: Remedy for the user if the file cannot be read.

    Raises:
        LakeError: The file does not exist, is damaged or lacks a column.
    """
    guard = partial(guard_parquet, path, remedy=remedy)
    with contextlib.ExitStack() as stack:
        with guard():
            file = stack.enter_context(pq.ParquetFile(path))
        for group in range(file.num_row_groups):
            with guard():
                read = _selected(file.read_row_group(group, columns=columns), columns)
            yield read


def scan_tables(paths: Sequence[Path], remedy: str) -> pl.LazyFrame:
    """Scan tables of the same columns as one lazy frame, one row group after the other.

    Arrow reads the files: Polars' own reader can request so much memory for a damaged file that the process
    is killed. An error during the collection of the frame names the file, as in `read_row_groups`.

    Args:
        paths: The files; at least one.
        remedy: Remedy for the user if a file cannot be read.

    Raises:
        LakeError: The first file does not exist or is damaged.
    """
    with guard_parquet(paths[0], remedy=remedy):
        schema = _frame(pq.read_schema(paths[0]).empty_table()).schema

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        left = rows
        for path, table in (
            (each, table)
            for each in paths
            for table in read_row_groups(each, columns or list(schema), remedy)
        ):
            with guard_parquet(path, remedy=remedy):
                frame = _frame(table)
            if predicate is not None:
                frame = frame.filter(predicate)
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            yield frame
            if left == 0:
                return

    return register_io_source(read, schema=schema)


def encoding_options(encodings: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of a Parquet writer for these encodings of the columns.

    Args:
        encodings: Name of the encoding in Parquet, by name of the column.
    """
    return {
        "use_dictionary": [name for name, encoding in encodings.items() if encoding == DICTIONARY],
        "column_encoding": {
            name: str(encoding) for name, encoding in encodings.items() if encoding != DICTIONARY
        },
    }


def _selected(table: pa.Table, columns: list[str] | None) -> pa.Table:
    return table if columns is None else table.select(columns)


def _frame(table: pa.Table) -> pl.DataFrame:
    """Validate a table and convert it to Polars, which panics at text or names that are not UTF-8."""
    table.validate(full=True)
    return pl.DataFrame(pa.Table.from_arrays(table.columns, names=table.schema.names))


def column_statistics(file: pq.ParquetFile, group: int, name: str) -> pq.Statistics | None:
    """Return the statistics of a column in a row group; None if there are none.

    Raises:
        ValueError: The file lacks the column, or states two types for it, which would make Arrow 26 end the
            process.
    """
    place = file.schema_arrow.names.index(name)
    chunk = file.metadata.row_group(group).column(place)
    if chunk.physical_type != file.schema.column(place).physical_type:
        raise ValueError(f"the column {name} has two types")
    return chunk.statistics


def guard_parquet(
    where: Path | str, *, remedy: str, kind: type[PermanentError] = LakeError, what: str = "cannot be read"
) -> AbstractContextManager[None]:
    """Turn errors of Polars and Arrow for an unreadable file into one error; see `guard_parser`.

    Args:
        where: The file or files.
        remedy: Remedy for the user.
        kind: Type of the error.
        what: Problem, for the message.
    """
    return guard_parser(str(where), what, remedy=remedy, kind=kind, also=_PARQUET_ERRORS)


def _encoding(kind: pl.DataType) -> str:
    is_integer = isinstance(kind, pl.Int64) or (
        isinstance(kind, pl.Decimal) and (kind.precision or 0) <= _MAX_INTEGER_DIGITS
    )
    return "DELTA_BINARY_PACKED" if is_integer else "PLAIN"
