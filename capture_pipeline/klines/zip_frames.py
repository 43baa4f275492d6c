"""The frame in a kline zip, and the frames of zips that were just verified, so that none is inflated and parsed twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from capture_pipeline.binance.klines import parse_blocks
from capture_pipeline.binance.zips import entry_blocks
from capture_pipeline.errors import MalformedData
from capture_pipeline.klines.memory import trim

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
    """Return the klines of a zip, all within its period.

    Args:
        content: The zip.
        stem: Its name without `.zip`.
        max_bytes: The most it may inflate to.
        bounds: `[start, end)` of its period.

    Raises:
        MalformedData: It is no sound kline file of that period.
    """
    found = pl.concat(_frames(content, stem, max_bytes, bounds), rechunk=False)
    if found.height > _MOST_ROWS:
        trim()
    return found


def read_opens(
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
        MalformedData: It is no sound kline file of that period.
    """
    opens: list[NDArray[np.int64]] = []
    kept: list[pl.DataFrame] = []
    for frame in _frames(content, stem, max_bytes, bounds):
        opens.append(frame["open_time_us"].to_numpy())
        kept.append(frame)
        if sum(part.height for part in kept) > _MOST_ROWS:
            kept = []
    found = np.concatenate(opens)
    return found, pl.concat(kept, rechunk=False) if sum(part.height for part in kept) == found.size else None


def _frames(content: bytes, stem: str, max_bytes: int, bounds: tuple[int, int]) -> Iterator[pl.DataFrame]:
    """Yield the klines of a zip block by block, each held to the zip's period.

    Raises:
        MalformedData: It is no sound kline file of that period.
    """
    where = f"{stem}.zip"
    rows = 0
    for frame in parse_blocks(entry_blocks(content, f"{stem}.csv", max_bytes, where), f"{where}:{stem}.csv"):
        opens = frame["open_time_us"]
        outside = (opens < bounds[0]) | (opens >= bounds[1])
        if outside.any():
            row = rows + (outside.arg_max() or 0) + 1
            raise MalformedData(
                f"row {row} opens outside the file's period", where=where, remedy="it is set aside and other sources are used"
            )
        rows += frame.height
        yield frame
