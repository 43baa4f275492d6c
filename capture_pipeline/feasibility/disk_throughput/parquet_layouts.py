"""Ways to lay depth rows out in Parquet, and how long each takes to be written durably and read back."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from capture_pipeline.feasibility.disk_throughput.timing import Making, Timing, Written, timed
from capture_pipeline.tables.golden import DEPTH

CODECS: dict[str, tuple[str, int | None]] = {
    "none": ("none", None),
    "snappy": ("snappy", None),
    "lz4": ("lz4", None),
    "zstd 1": ("zstd", 1),
    "zstd 3": ("zstd", 3),
}
ROW_GROUPS = {"64k": 1 << 16, "512k": 1 << 19, "1M": 1 << 20}
_DELTA, _SPLIT = "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"
_WIDE = [name for name, kind in DEPTH.columns.items() if kind == pa.int64()]
ENCODINGS: dict[str, dict[str, str | None]] = {
    "plain": dict.fromkeys(DEPTH.columns, "PLAIN"),
    "dictionary": dict.fromkeys(DEPTH.columns),
    "DELTA": {**dict.fromkeys(DEPTH.columns, "PLAIN"), **dict.fromkeys(_WIDE, _DELTA)},
    "BYTE_STREAM_SPLIT": {**dict.fromkeys(DEPTH.columns, "PLAIN"), **dict.fromkeys(_WIDE, _SPLIT)},
    "by column": DEPTH.encodings,
}
"""For all 64-bit columns alike (a byte has no use of either: plain), and as the project's tables choose, column by column."""


@dataclass(frozen=True)
class Layout:
    """One way.

    Attributes:
        codec: A key of `CODECS`.
        row_group: Of `ROW_GROUPS`.
        encoding: Of `ENCODINGS`.
    """

    codec: str
    row_group: str
    encoding: str

    @property
    def parts(self) -> tuple[str, str, str]:
        """All three."""
        return self.codec, self.row_group, self.encoding

    @property
    def name(self) -> str:
        """For tables."""
        return ", ".join(self.parts)

    @property
    def rows(self) -> int:
        """Of a row group."""
        return ROW_GROUPS[self.row_group]

    @property
    def options(self) -> dict[str, Any]:
        """For `pyarrow.parquet.ParquetWriter`."""
        codec, level = CODECS[self.codec]
        encodings = ENCODINGS[self.encoding]
        return {
            "compression": codec,
            "compression_level": level,
            "use_dictionary": [name for name, how in encodings.items() if how is None],
            "column_encoding": {name: how for name, how in encodings.items() if how is not None},
            "write_statistics": ["line", "capture_ns", "previous_id"],
        }


PROJECT = Layout("zstd 1", "512k", "by column")
"""How `golden_depth` is written; its row groups are blocks of 16 MB of lines, some 350,000 rows."""
GRID = tuple(Layout(*parts) for parts in itertools.product(CODECS, ROW_GROUPS, ENCODINGS))
AROUND_PROJECT = tuple(
    each for each in GRID if sum(a != b for a, b in zip(each.parts, PROJECT.parts, strict=True)) <= 1
)
"""The project's layout, and what differs from it in one thing."""


def whole(layout: Layout, table: pa.Table, path: Path) -> Timing:
    """Write a table in one call, and read it in one.

    Args:
        layout: How.
        table: Of `golden_depth`, in memory.
        path: A file that is made and removed.

    Raises:
        StorageError: The disk refuses.
    """

    def write() -> Written:
        pq.write_table(table, path, row_group_size=layout.rows, **layout.options)
        return Written(table.num_rows, table.nbytes)

    return timed(layout.name, "whole", path, write, lambda: pq.read_table(path).num_rows)


def streaming(layout: Layout, batches: Iterable[pa.Table], path: Path) -> Timing:
    """Write and fsync batch after batch, and read row group after row group.

    Args:
        layout: How.
        batches: Tables of `golden_depth`, each at most a row group; the time to make them is not counted.
        path: A file that is made and removed.

    Raises:
        StorageError: The disk refuses.
    """

    def write() -> Written:
        made = Making(batches)
        rows = plain = 0
        with path.open("wb") as file, pq.ParquetWriter(file, DEPTH.schema, **layout.options) as writer:
            for batch in made:
                writer.write_table(batch, row_group_size=layout.rows)
                file.flush()
                os.fsync(file.fileno())
                rows, plain = rows + batch.num_rows, plain + batch.nbytes
        return Written(rows, plain, made.seconds)

    def read() -> int:
        with pq.ParquetFile(path) as file:
            return sum(batch.num_rows for batch in file.iter_batches(layout.rows))

    return timed(layout.name, "streaming", path, write, read)
