"""The frame in a kline zip, and the frames of zips that were just verified, so that none is inflated and parsed twice."""

from __future__ import annotations

import re
import threading

import polars as pl

from capture_pipeline.binance.klines import parse_csv, refuse_other_interval
from capture_pipeline.binance.periods import Interval
from capture_pipeline.binance.zips import only_entry
from capture_pipeline.errors import MalformedData

_MOST_ROWS = 400_000
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
            if sum(kept.height for kept in self._frames.values()) + frame.height <= _MOST_ROWS:
                self._frames[name, sha256] = frame

    def take(self, name: str, sha256: str | None) -> pl.DataFrame | None:
        """The frame of this file in this version, once."""
        with self._mutex:
            return self._frames.pop((name, sha256), None)


def read_zip(content: bytes, stem: str, max_bytes: int, bounds: tuple[int, int]) -> pl.DataFrame:
    """Read the klines of a zip.

    A verified file may hold single rows of other periods or lengths; they are classified later. One that holds mostly such rows is another
    file.

    Args:
        content: The zip.
        stem: Its name without `.zip`.
        max_bytes: The most it may inflate to.
        bounds: `[start, end)` of its period.

    Raises:
        MalformedData: It is no kline file of that period and interval.
    """
    where = f"{stem}.zip"
    frame = parse_csv(only_entry(content, f"{stem}.csv", max_bytes, where), f"{where}:{stem}.csv")
    outside = ~frame["open_time_us"].is_between(*bounds, closed="left")
    if outside.sum() * 2 > frame.height:
        what = f"{outside.sum():,} of {frame.height:,} rows open outside the file's period, the first is row {(outside.arg_max() or 0) + 1}"
        raise MalformedData(what, where=where, remedy="it is set aside and other sources are used")
    interval = _interval_of(stem)
    if interval is not None:
        refuse_other_interval(frame, interval, where)
    return frame


def _interval_of(stem: str) -> Interval | None:
    """Read the interval that a file's name states, `BTCUSDT-1m-2025-01`."""
    found = re.search(r"-(\d+[smhd])-\d{4}-\d{2}(-\d{2})?$", stem)
    return Interval(found[1]) if found and found[1] in set(Interval) else None
