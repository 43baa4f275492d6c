"""Disk benchmark: durable writes and reads of Parquet layouts and of a recording, against the needed rate."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from capture_pipeline.errors import ConfigError
from capture_pipeline.feasibility.disk_throughput.dataset import (
    LEVELS_A_MESSAGE,
    depth_batches,
    depth_lines,
    digest_of,
)
from capture_pipeline.feasibility.disk_throughput.parquet_layouts import (
    AROUND_PROJECT,
    GRID,
    PROJECT,
    time_streaming,
    time_whole,
)
from capture_pipeline.feasibility.disk_throughput.raw_disk import MediumRate, measure_medium
from capture_pipeline.feasibility.disk_throughput.recording_lines import NAME as LINES
from capture_pipeline.feasibility.disk_throughput.recording_lines import time_lines
from capture_pipeline.feasibility.disk_throughput.timing import Timing
from capture_pipeline.lake.files import create_folder

MONTH_BYTES = 220e9
NEEDED_RATE = MONTH_BYTES / (30 * 86400)
"""Needed rate in stored bytes per second, for 220 GB in a month."""
_LINES_ROWS = 100_000


@dataclass(frozen=True)
class IoBenchmark:
    """Result of the benchmark.

    Attributes:
        sizes: Numbers of rows of the tables, ascending.
        sha256: SHA-256 of the values of each table, by its number of rows.
        timings: Timings of all files.
        medium: Rates of plain files on the same disk.
    """

    sizes: tuple[int, ...]
    sha256: dict[int, str]
    timings: list[Timing]
    medium: MediumRate

    @property
    def sustained(self) -> list[Timing]:
        """Timings of the project's layout at the largest size, written batch by batch."""
        return [
            one
            for one in self.timings
            if one.what == PROJECT.name and one.way == "streaming" and one.rows == self.sizes[-1]
        ]

    @property
    def write_rate(self) -> float:
        """Slowest sustained rate of writing, stored bytes per second."""
        return min(one.write_rate for one in self.sustained)

    @property
    def read_rate(self) -> float:
        """Slowest sustained rate of reading, stored bytes per second."""
        return min(one.read_rate for one in self.sustained)

    @property
    def margin(self) -> float:
        """The slower rate of writing and reading, divided by the needed rate."""
        return min(self.write_rate, self.read_rate) / NEEDED_RATE


def measure(
    folder: Path,
    sizes: Sequence[int] = (500_000, 2_000_000, 8_000_000),
    medium_bytes: int = 1 << 30,
    repeats: int = 3,
    seed: int = 7,
) -> IoBenchmark:
    """Run the benchmark.

    At the smallest size, every layout is measured. At the other sizes, only the project's layout and those
    with one difference are measured, each as a whole and batch by batch. The project's layout is measured
    `repeats` times. The largest table is in memory twice, as written and as read, with 67 bytes per row.

    Args:
        folder: Folder on the disk. Its files are removed; the folder is removed if it is empty then.
        sizes: Numbers of rows of the tables.
        medium_bytes: Size of the plain file, a multiple of 8 MiB.
        repeats: Attempts with the project's layout.
        seed: Seed of the generated rows.

    Raises:
        ConfigError: There is no size, a size is smaller than a message, or `repeats` is less than 1.
        StorageError: A file cannot be written.
    """
    sizes = tuple(sorted(set(sizes)))
    if not sizes or sizes[0] < LEVELS_A_MESSAGE or repeats < 1:
        raise ConfigError(
            f"sizes {sizes} with {repeats} attempts measure nothing",
            remedy=f"request at least {LEVELS_A_MESSAGE} rows and one attempt",
        )
    create_folder(folder)
    digests = {rows: digest_of(depth_batches(rows, PROJECT.rows, seed)) for rows in sizes}
    timings = list(
        itertools.chain.from_iterable(
            _measure_size(folder / "io.bin", rows, sizes, repeats, seed) for rows in sizes
        )
    )
    medium = measure_medium(folder, medium_bytes)
    with contextlib.suppress(OSError):  # the folder contains other files
        folder.rmdir()
    return IoBenchmark(sizes, digests, timings, medium)


def _measure_size(path: Path, rows: int, sizes: tuple[int, ...], repeats: int, seed: int) -> Iterator[Timing]:
    table = pa.concat_tables(depth_batches(rows, PROJECT.rows, seed))
    if rows == sizes[0]:
        time_whole(PROJECT, table, path)  # not counted: starts threads and loads code
    for layout in GRID if rows == sizes[0] else AROUND_PROJECT:
        for _ in range(repeats if layout == PROJECT else 1):
            yield time_whole(layout, table, path)
    del table
    for layout in AROUND_PROJECT:
        for _ in range(repeats if layout == PROJECT else 1):
            yield time_streaming(layout, depth_batches(rows, layout.rows, seed), path)
    block_rows = min(rows, _LINES_ROWS)
    lines = depth_lines(next(depth_batches(block_rows, block_rows, seed)))
    yield time_lines(lines, rows // block_rows, path)


__all__ = ["LINES", "MONTH_BYTES", "NEEDED_RATE", "PROJECT", "IoBenchmark", "measure"]
