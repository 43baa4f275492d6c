"""Reader of Crypto Lake's Parquet files: blocks of rows, with unified column names and types."""

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
"""Names of a column in the files and in data of the vendor's client."""
_WHOLE = {"receipt", "origin", "sequence_number"}
_FIRST_NS, _LAST_NS = 1_230_768_000 * 10**9, 4_102_444_800 * 10**9
_LAYOUT = "give a file of Crypto Lake's book_delta_v2, book or trades"


@dataclass(frozen=True)
class Columns:
    """Consecutive rows.

    Attributes:
        row: Number of the first row, from 0.
        columns: Columns by name.
    """

    row: int
    columns: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column."""
        return self.columns[name]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.columns["receipt"])

    def cut(self, first: int, end: int | None) -> Columns:
        """Return the rows `first..end`."""
        return Columns(self.row + first, {name: column[first:end] for name, column in self.columns.items()})

    def append(self, more: Columns) -> Columns:
        """Return these rows followed by `more`."""
        return Columns(
            self.row, {name: np.concatenate([column, more[name]]) for name, column in self.columns.items()}
        )


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a file. The caller closes it.

    Raises:
        LakeError: The file does not exist.
        MalformedDataError: The file is not a Parquet file.
    """
    if not path.exists():
        raise LakeError("does not exist", where=str(path), remedy=_LAYOUT)
    with guard_parquet(
        path, what="is not a Parquet file", kind=MalformedDataError, remedy="download the file again"
    ):
        return pq.ParquetFile(path)


def find_column(there: Sequence[str], name: str, where: str) -> str:
    """Return the name of a column in a file.

    Raises:
        MalformedDataError: The file does not have the column.
    """
    found = next((each for each in NAMES.get(name, (name,)) if each in there), None)
    if found is None:
        raise MalformedDataError(
            f"has no column {' or '.join(NAMES.get(name, (name,)))}", where=where, remedy=_LAYOUT
        )
    return found


def count_levels(path: Path) -> int:
    """Return the number of levels per side in a file of `book`.

    Raises:
        MalformedDataError: The file has no columns of levels.
    """
    with open_parquet(path) as file:
        names = set(file.schema_arrow.names)
    width = 0
    while f"bid_{width}_price" in names:
        width += 1
    if not width:
        raise MalformedDataError("has no column bid_0_price", where=str(path), remedy=_LAYOUT)
    return width


def read_blocks(path: Path, wanted: Sequence[str], rows: int) -> Iterator[Columns]:
    """Read blocks of the columns `receipt`, `origin` and those in `wanted`. A missing `origin` is 0.

    Raises:
        LakeError: The file does not exist.
        MalformedDataError: A column or a value is missing, or a time is not in nanoseconds.
    """
    with open_parquet(path) as file:
        there = file.schema_arrow.names
        names = {name: find_column(there, name, str(path)) for name in ("receipt", "origin", *wanted)}
        row = 0
        batches = file.iter_batches(batch_size=rows, columns=list(names.values()))
        while True:
            with guard_parquet(
                path,
                what=f"is damaged after row {row}",
                kind=MalformedDataError,
                remedy="download the file again",
            ):
                batch = next(batches, None)
                if batch is None:
                    return
                found = {
                    name: _plain(batch.column(column), name, path, row) for name, column in names.items()
                }
            if batch.num_rows:
                _check_times(found["receipt"], path, row)
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
        raise MalformedDataError(
            f"row {first} has no {name}", where=str(path), remedy="download the file again"
        )
    if name in _WHOLE and not pa.types.is_integer(column.type):
        raise MalformedDataError(
            f"the column {name} has the type {column.type}, not integers", where=str(path), remedy=_LAYOUT
        )
    kind = np.int64 if name in _WHOLE else np.bool_ if name == "side_is_bid" else np.float64
    return np.asarray(column.to_numpy(zero_copy_only=False), kind)


def _check_times(receipt: NDArray[np.int64], path: Path, row: int) -> None:
    outside = np.flatnonzero((receipt < _FIRST_NS) | (receipt > _LAST_NS))
    if outside.size:
        value = int(receipt[outside[0]])
        what = f"row {row + int(outside[0])} has the receipt time {value}, not nanoseconds of 2009 to 2100"
        raise MalformedDataError(
            what, where=str(path), remedy="give the file as it was published, with times in nanoseconds"
        )
