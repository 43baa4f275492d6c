"""Whether the medium keeps up: layouts of depth rows and a recording's lines, written durably and read, against what a month needs."""

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
    streaming,
    whole,
)
from capture_pipeline.feasibility.disk_throughput.raw_disk import MediumRate, measure_medium
from capture_pipeline.feasibility.disk_throughput.recording_lines import NAME as LINES
from capture_pipeline.feasibility.disk_throughput.recording_lines import lines_in_members
from capture_pipeline.feasibility.disk_throughput.timing import Timing
from capture_pipeline.lake.files import create_folder

MONTH_BYTES = 220e9
NEEDED_RATE = MONTH_BYTES / (30 * 86400)
"""Stored bytes a second, around the clock."""
_LINES_ROWS = 100_000


@dataclass(frozen=True)
class IoBenchmark:
    """What was measured.

    Attributes:
        sizes: Rows of the tables, ascending.
        sha256: Of the values of each table, by its rows.
        timings: A file each.
        medium: What plain files reached on the same medium.
    """

    sizes: tuple[int, ...]
    sha256: dict[int, str]
    timings: list[Timing]
    medium: MediumRate

    @property
    def sustained(self) -> list[Timing]:
        """The project's layout at the largest size, batch after batch."""
        return [
            one
            for one in self.timings
            if one.what == PROJECT.name and one.way == "streaming" and one.rows == self.sizes[-1]
        ]

    @property
    def write_rate(self) -> float:
        """Sustained, stored bytes a second: the slowest of the attempts."""
        return min(one.write_rate for one in self.sustained)

    @property
    def read_rate(self) -> float:
        """Likewise."""
        return min(one.read_rate for one in self.sustained)

    @property
    def margin(self) -> float:
        """The slower of writing and reading, divided by what a month needs."""
        return min(self.write_rate, self.read_rate) / NEEDED_RATE


def measure(
    folder: Path,
    sizes: Sequence[int] = (500_000, 2_000_000, 8_000_000),
    medium_bytes: int = 1 << 30,
    repeats: int = 3,
    seed: int = 7,
) -> IoBenchmark:
    """Write and read everything.

    At the smallest size every layout is measured; at the others the project's and those that differ from it in one thing, each whole and
    streaming. The project's layout is written and read `repeats` times. The largest table is held in memory, 67 bytes a
    row, once as written and once as read.

    Args:
        folder: On the medium; what is written there is removed, and the folder where it is then empty.
        sizes: Rows of the tables.
        medium_bytes: Of the plain file, whole blocks of 8 MiB.
        repeats: Attempts at the project's layout.
        seed: Of the rows.

    Raises:
        ConfigError: There is no size, one is smaller than a message, or there is no attempt.
        StorageError: The disk refuses.
    """
    sizes = tuple(sorted(set(sizes)))
    if not sizes or sizes[0] < LEVELS_A_MESSAGE or repeats < 1:
        raise ConfigError(
            f"sizes {sizes} with {repeats} attempts measure nothing",
            remedy=f"ask for {LEVELS_A_MESSAGE} rows or more",
        )
    create_folder(folder)
    digests = {rows: digest_of(depth_batches(rows, PROJECT.rows, seed)) for rows in sizes}
    timings = list(
        itertools.chain.from_iterable(
            _at_size(folder / "io.bin", rows, sizes, repeats, seed) for rows in sizes
        )
    )
    medium = measure_medium(folder, medium_bytes)
    with contextlib.suppress(OSError):  # somebody else's files are in it
        folder.rmdir()
    return IoBenchmark(sizes, digests, timings, medium)


def _at_size(path: Path, rows: int, sizes: tuple[int, ...], repeats: int, seed: int) -> Iterator[Timing]:
    table = pa.concat_tables(depth_batches(rows, PROJECT.rows, seed))
    if rows == sizes[0]:
        whole(PROJECT, table, path)  # threads started and code loaded: not counted
    for layout in GRID if rows == sizes[0] else AROUND_PROJECT:
        for _ in range(repeats if layout == PROJECT else 1):
            yield whole(layout, table, path)
    del table
    for layout in AROUND_PROJECT:
        for _ in range(repeats if layout == PROJECT else 1):
            yield streaming(layout, depth_batches(rows, layout.rows, seed), path)
    held = min(rows, _LINES_ROWS)
    lines = depth_lines(next(depth_batches(held, held, seed)))
    yield lines_in_members(lines, rows // held, path)


__all__ = ["LINES", "MONTH_BYTES", "NEEDED_RATE", "PROJECT", "IoBenchmark", "measure"]
