"""Columns of Crypto Lake's Parquet files, a block at a time, under one name each and of one type each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from capture_pipeline.errors import LakeError, MalformedDataError
from capture_pipeline.lake.parquet import guard_parquet

BLOCK_ROWS = 1 << 17
NAMES = {
    "receipt": ("receipt_timestamp", "received_time"),
    "origin": ("timestamp", "origin_time"),
    "size": ("size", "quantity", "amount"),
}
"""Either the file's own name of a column or the one that the vendor's client gives it."""
_WHOLE = {"receipt", "origin", "sequence_number"}
_FIRST_NS, _LAST_NS = 1_230_768_000 * 10**9, 4_102_444_800 * 10**9
_LAYOUT = "give a file of Crypto Lake's book_delta_v2, book or trades"


@dataclass(frozen=True)
class Columns:
    """Some rows.

    Attributes:
        row: Of the first, from 0.
        columns: By name.
    """

    row: int
    columns: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column."""
        return self.columns[name]

    def __len__(self) -> int:
        """How many rows."""
        return len(self.columns["receipt"])

    def cut(self, first: int, end: int | None) -> Columns:
        """Some of them."""
        return Columns(self.row + first, {name: column[first:end] for name, column in self.columns.items()})

    def followed_by(self, more: Columns) -> Columns:
        """With the rows after them."""
        return Columns(
            self.row, {name: np.concatenate([column, more[name]]) for name, column in self.columns.items()}
        )


def opened(path: Path) -> pq.ParquetFile:
    """A file, to be closed by the caller.

    Raises:
        LakeError: It is not there.
        MalformedDataError: It is no Parquet.
    """
    if not path.exists():
        raise LakeError("is not there", where=str(path), remedy=_LAYOUT)
    with guard_parquet(path, what="is no Parquet file", kind=MalformedDataError, remedy="fetch it again"):
        return pq.ParquetFile(path)


def resolved(there: Sequence[str], name: str, where: str) -> str:
    """The name that a column has in a file.

    Raises:
        MalformedDataError: It has none.
    """
    found = next((each for each in NAMES.get(name, (name,)) if each in there), None)
    if found is None:
        raise MalformedDataError(
            f"has no column {' or '.join(NAMES.get(name, (name,)))}", where=where, remedy=_LAYOUT
        )
    return found


def sides_of(path: Path) -> int:
    """How many levels a side a file of `book` has.

    Raises:
        MalformedDataError: It has none.
    """
    with opened(path) as file:
        names = set(file.schema_arrow.names)
    width = 0
    while f"bid_{width}_price" in names:
        width += 1
    if not width:
        raise MalformedDataError("has no column bid_0_price", where=str(path), remedy=_LAYOUT)
    return width


def blocks(path: Path, wanted: Sequence[str], rows: int) -> Iterator[Columns]:
    """A file's rows with `receipt`, `origin` and some further columns; `origin` is 0 where it is missing.

    Raises:
        LakeError: The file is not there.
        MalformedDataError: It lacks a column, a value is missing, or a time is not in nanoseconds.
    """
    with opened(path) as file:
        there = file.schema_arrow.names
        names = {name: resolved(there, name, str(path)) for name in ("receipt", "origin", *wanted)}
        row = 0
        batches = file.iter_batches(batch_size=rows, columns=list(names.values()))
        while True:
            with guard_parquet(
                path, what=f"is damaged behind row {row}", kind=MalformedDataError, remedy="fetch it again"
            ):
                batch = next(batches, None)
                if batch is None:
                    return
                found = {
                    name: _plain(batch.column(column), name, path, row) for name, column in names.items()
                }
            if batch.num_rows:
                _in_time(found["receipt"], path, row)
                yield Columns(row, found)
            row += batch.num_rows


def _plain(column: pa.Array, name: str, path: Path, row: int) -> NDArray[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64())
    if name == "origin":
        column = column.fill_null(0)
    levels = name.startswith(("bid_", "ask_"))
    if column.null_count and not levels:
        first = row + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise MalformedDataError(f"row {first} has no {name}", where=str(path), remedy="fetch it again")
    if name in _WHOLE and not pa.types.is_integer(column.type):
        raise MalformedDataError(
            f"has the column {name} as {column.type}, not as whole numbers", where=str(path), remedy=_LAYOUT
        )
    kind = np.int64 if name in _WHOLE else np.bool_ if name == "side_is_bid" else np.float64
    return np.asarray(column.to_numpy(zero_copy_only=False), kind)


def _in_time(receipt: NDArray[np.int64], path: Path, row: int) -> None:
    astray = np.flatnonzero((receipt < _FIRST_NS) | (receipt > _LAST_NS))
    if astray.size:
        what = f"row {row + int(astray[0])} was received at {int(receipt[astray[0]])}, no nanoseconds of 2009 to 2100"
        raise MalformedDataError(
            what, where=str(path), remedy="give the file as it was published, with times in nanoseconds"
        )
