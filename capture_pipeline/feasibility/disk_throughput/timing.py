"""How long a file takes to lie on the medium and to be read from it, whatever is in it."""

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
class Written:
    """What was written.

    Attributes:
        rows: Of the table, or lines.
        plain_bytes: Of its values, or of its lines.
        making_s: Seconds of writing that went into making what was to be written.
    """

    rows: int
    plain_bytes: int
    making_s: float = 0.0


@dataclass(frozen=True)
class Timing:
    """A file that was written and read once.

    Attributes:
        what: Its layout.
        way: `whole` or `streaming`.
        rows: In it.
        plain_bytes: Of its values, or of its lines.
        stored_bytes: Of the file.
        write_s: Until it lay on the medium: fsync included.
        read_s: Of all of it, after its pages were dropped.
        cached: Share of it that was in the page cache nevertheless; None where it cannot be told.
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
        """Stored bytes a second."""
        return self.stored_bytes / self.write_s

    @property
    def read_rate(self) -> float:
        """Stored bytes a second."""
        return self.stored_bytes / self.read_s

    @property
    def least_rate(self) -> float:
        """The slower of both."""
        return min(self.write_rate, self.read_rate)


@dataclass
class Making:
    """Batches whose making is timed apart.

    Attributes:
        batches: To be taken once.
        seconds: Spent on making so far.
    """

    batches: Iterable[pa.Table]
    seconds: float = field(default=0.0, init=False)

    def __iter__(self) -> Iterator[pa.Table]:
        """One after the other."""
        source = iter(self.batches)
        while True:
            started = time.perf_counter()
            batch = next(source, None)
            self.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch


def timed(what: str, way: str, path: Path, write: Callable[[], Written], read: Callable[[], int]) -> Timing:
    """Write a file, fsync it, drop its pages, read it, remove it.

    Args:
        what: Its layout.
        way: `whole` or `streaming`.
        path: The file.
        write: Makes it.
        read: Reads all of it and returns how many rows it held.

    Raises:
        LakeError: Not as many rows came back as were written.
        StorageError: The disk refuses.
    """
    try:
        with storage_errors(path):
            started = time.perf_counter()
            written = write()
            fsync(path)
            write_s = time.perf_counter() - started - written.making_s
            size, cached = path.stat().st_size, drop_pages(path)
            started = time.perf_counter()
            rows = read()
            read_s = time.perf_counter() - started
    finally:
        path.unlink(missing_ok=True)
    if rows != written.rows:
        raise LakeError(
            f"{rows:,} of {written.rows:,} rows came back",
            where=f"{path} ({what})",
            remedy="check the disk, then run again",
        )
    return Timing(what, way, written.rows, written.plain_bytes, size, write_s, read_s, cached)
