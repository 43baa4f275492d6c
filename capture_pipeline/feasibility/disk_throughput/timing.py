"""Timing of one durable write and one uncached read of a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from capture_pipeline.errors import LakeError
from capture_pipeline.feasibility.disk_throughput.raw_disk import drop_pages
from capture_pipeline.lake.files import fsync, storage_errors


@dataclass(frozen=True)
class WriteResult:
    """Result of a write.

    Attributes:
        rows: Number of rows of a table, or of lines.
        plain_bytes: Size of the values, or of the lines, in bytes.
        generation_s: Seconds of the write that were spent on the generation of the data.
    """

    rows: int
    plain_bytes: int
    generation_s: float = 0.0


@dataclass(frozen=True)
class Timing:
    """Times of one write and one read of a file.

    Attributes:
        what: Name of the layout.
        way: `whole` or `streaming`.
        rows: Number of rows, or of lines.
        plain_bytes: Size of the values, or of the lines, in bytes.
        stored_bytes: Size of the file.
        write_s: Seconds of the write, including fsync.
        read_s: Seconds to read the whole file after its pages were dropped.
        cached: Share of the file that was still in the page cache; None if it is unknown.
    """

    what: str
    way: str
    rows: int
    plain_bytes: int
    stored_bytes: int
    write_s: float
    read_s: float
    cached: float | None

    @property
    def write_rate(self) -> float:
        """Stored bytes written per second."""
        return self.stored_bytes / self.write_s

    @property
    def read_rate(self) -> float:
        """Stored bytes read per second."""
        return self.stored_bytes / self.read_s

    @property
    def min_rate(self) -> float:
        """The slower of the two rates, bytes per second."""
        return min(self.write_rate, self.read_rate)


@dataclass
class TimedBatches:
    """Iterable that measures the time to generate its batches.

    Attributes:
        batches: The batches; iterated once.
        seconds: Time spent on their generation so far.
    """

    batches: Iterable[pa.Table]
    seconds: float = field(default=0.0, init=False)

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield the batches and add the time of each."""
        source = iter(self.batches)
        while True:
            started = time.perf_counter()
            batch = next(source, None)
            self.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch


def time_file(
    what: str, way: str, path: Path, write: Callable[[], WriteResult], read: Callable[[], int]
) -> Timing:
    """Write a file, fsync it, drop its pages, read it and remove it.

    Args:
        what: Name of the layout.
        way: `whole` or `streaming`.
        path: The file.
        write: Function that writes the file.
        read: Function that reads the whole file and returns its number of rows.

    Raises:
        LakeError: The number of rows that were read is not the number of rows that were written.
        StorageError: The file cannot be written.
    """
    try:
        with storage_errors(path):
            started = time.perf_counter()
            written = write()
            fsync(path)
            write_s = time.perf_counter() - started - written.generation_s
            size, cached = path.stat().st_size, drop_pages(path)
            started = time.perf_counter()
            rows = read()
            read_s = time.perf_counter() - started
    finally:
        path.unlink(missing_ok=True)
    if rows != written.rows:
        raise LakeError(
            f"only {rows:,} of {written.rows:,} rows were read",
            where=f"{path} ({what})",
            remedy="check the disk, then run again",
        )
    return Timing(what, way, written.rows, written.plain_bytes, size, write_s, read_s, cached)
