"""The frame in a kline zip, and the frames of zips that were just verified, so that none is inflated and parsed twice."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from capture_pipeline.binance.archive.klines import count_lengths, parse_blocks, reject_other_interval
from capture_pipeline.binance.archive.zip_file import read_entry_blocks
from capture_pipeline.binance.periods import Interval
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.memory import trim

_MAX_ROWS = 400_000
"""About 70 MB: nine months of 1m bars, or a whole symbol-year of daily files of 1h bars."""


class ParsedFiles:
    """Frames by name and digest, from their verification until their bars are made; safe to use from several threads.

    What finds no room is parsed again: the frames that came first are needed first.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._frames: dict[tuple[str, str | None], pl.DataFrame] = {}
        self._mutex = threading.Lock()

    def keep(self, name: str, sha256: str | None, frame: pl.DataFrame) -> None:
        """Keep a frame if there is room."""
        with self._mutex:
            if sum(kept.height for kept in self._frames.values()) + frame.height <= _MAX_ROWS:
                self._frames[name, sha256] = frame

    def take(self, name: str, sha256: str | None) -> pl.DataFrame | None:
        """The frame of this file in this version, once."""
        with self._mutex:
            return self._frames.pop((name, sha256), None)


def read_zip(content: bytes, stem: str, max_bytes: int, bounds: tuple[int, int]) -> pl.DataFrame:
    """Read the klines of a zip.

    A verified file may contain single rows of other periods or lengths; they are classified later. One that contains mostly such rows is
    another file.

    Args:
        content: The zip.
        stem: Its name without `.zip`.
        max_bytes: The most it may inflate to.
        bounds: `[start, end)` of its period.

    Raises:
        MalformedDataError: It is no kline file of that period and interval.
    """
    found = pl.concat(_frames(content, stem, max_bytes, bounds), rechunk=False)
    if found.height > _MAX_ROWS:
        trim()
    return found


def read_open_times(
    content: bytes, stem: str, max_bytes: int, bounds: tuple[int, int]
) -> tuple[NDArray[np.int64], pl.DataFrame | None]:  # fmt: skip
    """Verify a zip as `read_zip` does, without the memory of a large one.

    Args:
        content: The zip.
        stem: Its name without `.zip`.
        max_bytes: The most it may inflate to.
        bounds: `[start, end)` of its period.

    Returns:
        The open times, and the klines where they are few enough to be kept.

    Raises:
        MalformedDataError: It is no sound kline file of that period.
    """
    opens: list[NDArray[np.int64]] = []
    kept: list[pl.DataFrame] = []
    for frame in _frames(content, stem, max_bytes, bounds):
        opens.append(frame["open_time_us"].to_numpy())
        kept.append(frame)
        if sum(part.height for part in kept) > _MAX_ROWS:
            kept = []
    found = np.concatenate(opens)
    return found, pl.concat(kept, rechunk=False) if sum(part.height for part in kept) == found.size else None


def _frames(content: bytes, stem: str, max_bytes: int, bounds: tuple[int, int]) -> Iterator[pl.DataFrame]:
    """Yield the klines of a zip block by block.

    Raises:
        MalformedDataError: It is no kline file of that period and interval; known only after the last block.
    """
    where = f"{stem}.zip"
    rows = strange = 0
    lengths: Counter[int] = Counter()
    interval = _interval_of(stem)
    for frame in parse_blocks(
        read_entry_blocks(content, f"{stem}.csv", max_bytes, where), f"{where}:{stem}.csv"
    ):
        rows += frame.height
        strange += int((~frame["open_time_us"].is_between(*bounds, closed="left")).sum())
        lengths += count_lengths(frame, interval) if interval else Counter()
        yield frame
    if strange * 2 > rows:
        what = f"{strange:,} of {rows:,} rows open outside the file's period"
        raise MalformedDataError(what, where=where, remedy="it is set aside and other sources are used")
    if interval:
        reject_other_interval(lengths, interval, where)


def _interval_of(stem: str) -> Interval | None:
    """Read the interval that a file's name states, `BTCUSDT-1m-2025-01`."""
    found = re.search(r"-(\d+[smhd])-\d{4}-\d{2}(-\d{2})?$", stem)
    return Interval(found[1]) if found and found[1] in set(Interval) else None
