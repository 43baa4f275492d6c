"""Reader of kline zips, and a cache of the frames of verified zips, so that no zip is parsed twice."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from capture_pipeline.binance.archive.klines.columns import REMEDY
from capture_pipeline.binance.archive.klines.interval import count_lengths, reject_other_interval
from capture_pipeline.binance.archive.klines.parser import parse_blocks
from capture_pipeline.binance.archive.zip_file import read_entry_blocks
from capture_pipeline.binance.periods import Interval, TimeRange
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.memory import release_freed_memory

_MAX_ROWS = 400_000
"""About 70 MB: nine months of 1m bars of a symbol."""


class ParsedFiles:
    """Cache of frames by name and digest, between verification and build of bars; it is thread-safe.

    A frame that does not fit into the cache is not stored, and its file is parsed again later. The oldest
    frames are not removed, because they are needed first.
    """

    def __init__(self) -> None:
        """Create an empty cache."""
        self._read_frames: dict[tuple[str, str | None], pl.DataFrame] = {}
        self._mutex = threading.Lock()

    def keep(self, name: str, sha256: str | None, frame: pl.DataFrame) -> None:
        """Store a frame if it fits into the cache."""
        with self._mutex:
            if sum(kept.height for kept in self._read_frames.values()) + frame.height <= _MAX_ROWS:
                self._read_frames[name, sha256] = frame

    def take(self, name: str, sha256: str | None) -> pl.DataFrame | None:
        """Return and remove the frame of a version of a file; None if it is not stored."""
        with self._mutex:
            return self._read_frames.pop((name, sha256), None)


def read_zip(content: bytes, stem: str, max_bytes: int, bounds: TimeRange) -> pl.DataFrame:
    """Read the klines of a zip.

    A verified file may contain single rows of other periods or intervals, which are classified later. A file
    with mostly such rows is rejected.

    Args:
        content: Bytes of the zip.
        stem: Name of the zip without `.zip`.
        max_bytes: Maximum size of the inflated file.
        bounds: `[start, end)` of the file's period.

    Raises:
        MalformedDataError: The zip is damaged, or contains no klines of that period and interval.
    """
    found = pl.concat(_read_frames(content, stem, max_bytes, bounds), rechunk=False)
    if found.height > _MAX_ROWS:
        release_freed_memory()
    return found


class OpenTimes(NamedTuple):
    """Open times of a zip, and its klines; None if there are more than `_MAX_ROWS`."""

    open_us: NDArray[np.int64]
    frame: pl.DataFrame | None


def read_open_times(content: bytes, stem: str, max_bytes: int, bounds: TimeRange) -> OpenTimes:
    """Verify a zip like `read_zip` does, with bounded memory.

    Args:
        content: Bytes of the zip.
        stem: Name of the zip without `.zip`.
        max_bytes: Maximum size of the inflated file.
        bounds: `[start, end)` of the file's period.

    Raises:
        MalformedDataError: The zip is damaged, or contains no klines of that period and interval.
    """
    opens: list[NDArray[np.int64]] = []
    kept: list[pl.DataFrame] = []
    for frame in _read_frames(content, stem, max_bytes, bounds):
        opens.append(frame["open_time_us"].to_numpy())
        kept.append(frame)
        if sum(part.height for part in kept) > _MAX_ROWS:
            kept = []
    found = np.concatenate(opens)
    is_complete = sum(part.height for part in kept) == found.size
    return OpenTimes(found, pl.concat(kept, rechunk=False) if is_complete else None)


def _read_frames(content: bytes, stem: str, max_bytes: int, bounds: TimeRange) -> Iterator[pl.DataFrame]:
    """Yield the klines of a zip block by block.

    Raises:
        MalformedDataError: The zip contains no klines of that period and interval; raised after the last
            block.
    """
    where = f"{stem}.zip"
    rows = strange = 0
    lengths: Counter[int] = Counter()
    interval = _parse_interval(stem)
    for frame in parse_blocks(
        read_entry_blocks(content, f"{stem}.csv", max_bytes, where), f"{where}:{stem}.csv"
    ):
        rows += frame.height
        strange += int((~frame["open_time_us"].is_between(*bounds, closed="left")).sum())
        lengths += count_lengths(frame, interval) if interval else Counter()
        yield frame
    if strange * 2 > rows:
        what = f"{strange:,} of {rows:,} rows open outside the file's period"
        raise MalformedDataError(what, where=where, remedy=REMEDY)
    if interval:
        reject_other_interval(lengths, interval, where)


def _parse_interval(stem: str) -> Interval | None:
    """Parse the interval in a file's name, for instance `BTCUSDT-1m-2025-01`."""
    found = re.search(r"-(\d+[smhd])-\d{4}-\d{2}(-\d{2})?$", stem)
    return Interval(found[1]) if found and found[1] in set(Interval) else None
