"""Layouts of depth rows in Parquet, and the times to write each durably and to read it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from capture_pipeline.feasibility.disk_throughput.timing import TimedBatches, Timing, WriteResult, time_file
from capture_pipeline.lake.parquet import encoding_options
from capture_pipeline.tables.golden.depth import DEPTH
from capture_pipeline.tables.table import INT64, Encoding

CODECS: dict[str, tuple[str, int | None]] = {
    "none": ("none", None),
    "snappy": ("snappy", None),
    "lz4": ("lz4", None),
    "zstd 1": ("zstd", 1),
    "zstd 3": ("zstd", 3),
}
ROW_GROUPS = {"64k": 1 << 16, "512k": 1 << 19, "1M": 1 << 20}
_WIDE = [name for name, kind in DEPTH.schema.items() if kind == INT64]
_PLAIN = dict.fromkeys(DEPTH.schema, Encoding.PLAIN)
ENCODINGS = {
    "plain": _PLAIN,
    "dictionary": dict.fromkeys(DEPTH.schema, Encoding.DICTIONARY),
    "DELTA": _PLAIN | dict.fromkeys(_WIDE, Encoding.DELTA),
    "BYTE_STREAM_SPLIT": _PLAIN | dict.fromkeys(_WIDE, Encoding.SPLIT),
    "by column": DEPTH.encodings,
}
"""Encodings: one for all 64-bit columns (8-bit columns are plain), or the project's choice by column."""


@dataclass(frozen=True)
class Layout:
    """A layout.

    Attributes:
        codec: A key of `CODECS`.
        row_group: A key of `ROW_GROUPS`.
        encoding: A key of `ENCODINGS`.
    """

    codec: str
    row_group: str
    encoding: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Codec, row group and encoding."""
        return self.codec, self.row_group, self.encoding

    @property
    def name(self) -> str:
        """Name for tables."""
        return ", ".join(self.parts)

    @property
    def rows(self) -> int:
        """Number of rows of a row group."""
        return ROW_GROUPS[self.row_group]

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `pyarrow.parquet.ParquetWriter`."""
        codec, level = CODECS[self.codec]
        return {
            "compression": codec,
            "compression_level": level,
            **encoding_options(ENCODINGS[self.encoding]),
            "write_statistics": ["line", "capture_ns", "previous_id"],
        }


PROJECT = Layout("zstd 1", "512k", "by column")
"""Layout of `golden_depth`; its row groups are blocks of 16 MB of lines, about 350,000 rows."""
GRID = tuple(Layout(*parts) for parts in itertools.product(CODECS, ROW_GROUPS, ENCODINGS))
AROUND_PROJECT = tuple(
    each for each in GRID if sum(a != b for a, b in zip(each.parts, PROJECT.parts, strict=True)) <= 1
)
"""The project's layout, and the layouts with one difference."""


def time_whole(layout: Layout, table: pa.Table, path: Path) -> Timing:
    """Write and read a table, each in one call.

    Args:
        layout: The layout.
        table: Rows of `golden_depth`.
        path: File that is created and removed.

    Raises:
        StorageError: The file cannot be written.
    """

    def write() -> WriteResult:
        pq.write_table(table, path, row_group_size=layout.rows, **layout.options)
        return WriteResult(table.num_rows, table.nbytes)

    return time_file(layout.name, "whole", path, write, lambda: pq.read_table(path).num_rows)


def time_streaming(layout: Layout, batches: Iterable[pa.Table], path: Path) -> Timing:
    """Write and fsync batch by batch, and read row group by row group.

    Args:
        layout: The layout.
        batches: Rows of `golden_depth`, at most a row group in each; the time to generate them is not
            counted.
        path: File that is created and removed.

    Raises:
        StorageError: The file cannot be written.
    """

    def write() -> WriteResult:
        timed_batches = TimedBatches(batches)
        rows = plain = 0
        with path.open("wb") as file, pq.ParquetWriter(file, DEPTH.arrow_schema, **layout.options) as writer:
            for batch in timed_batches:
                writer.write_table(batch, row_group_size=layout.rows)
                file.flush()
                os.fsync(file.fileno())
                rows, plain = rows + batch.num_rows, plain + batch.nbytes
        return WriteResult(rows, plain, timed_batches.seconds)

    def read() -> int:
        with pq.ParquetFile(path) as file:
            return sum(batch.num_rows for batch in file.iter_batches(layout.rows))

    return time_file(layout.name, "streaming", path, write, read)
