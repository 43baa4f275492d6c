"""Source of the messages of one symbol in a raw recording (`….jsonl.gz`).

A thread inflates the file, and a compiled kernel parses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from capture_pipeline.binance.streams import columns as layout
from capture_pipeline.binance.streams.columns import PADDING, Columns
from capture_pipeline.binance.streams.decoders import CompiledDecoder, ReferenceDecoder
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.compiled.book import LevelBatch
from capture_pipeline.replay.continuity import to_ticks
from capture_pipeline.replay.messages import (
    CAPTURE,
    DIFF,
    E8,
    EVENT,
    FIRST,
    KIND,
    LAST,
    POSITION,
    PREVIOUS,
    ROWS,
    SNAPSHOT,
    Ints,
    Messages,
    Scale,
    find_tick,
)
from capture_pipeline.sessions.recordings.reader import DECODER_BLOCK_BYTES, Recording

_ROWS_OF = {
    CAPTURE: layout.D_CAPTURE,
    EVENT: layout.D_EVENT,
    FIRST: layout.D_FIRST,
    LAST: layout.D_LAST,
    PREVIOUS: layout.D_PREVIOUS,
    POSITION: layout.D_LINE,
}


@dataclass
class RawSource:
    """One symbol of a recording.

    Attributes:
        path: The recording.
        symbol: Symbol in capitals; empty for the only symbol of the recording.
        block_bytes: Size of a block of text.
        where: File name, for error messages.
        lines: Lines read so far.
        sha256: Digest of the file; empty until all of it was read.
    """

    path: Path
    symbol: str = ""
    block_bytes: int = DECODER_BLOCK_BYTES
    where: str = field(init=False)
    lines: int = 0
    sha256: str = ""
    _tick: int = 0

    def __post_init__(self) -> None:
        """Set `where`."""
        self.where = self.path.name

    def __iter__(self) -> Iterator[Messages]:
        """Iterate over the messages of one block at a time.

        Raises:
            MalformedDataError: A line does not have the format of a recording, the recording contains no book
                of the symbol, or it contains several symbols and `symbol` is empty.
            LakeError: The file does not exist.
        """
        decoder = CompiledDecoder(self.path.name)
        with Recording(self.path, self.block_bytes, is_strict=True, padding=PADDING) as blocks:
            for block in blocks:
                parsed = decoder.decode(block, self.lines + 1)
                yield from self._merge_by_line(parsed.columns, self._find_streams(decoder))
                self.lines += parsed.lines
        self.sha256 = blocks.sha256
        if not self.lines:
            raise MalformedDataError("contains no line", where=self.path.name, remedy="record again")
        if not self._find_streams(decoder).size:
            if not any(decoder.symbols):
                raise MalformedDataError(
                    "contains no order book", where=self.path.name, remedy="record the stream depth"
                )
            raise MalformedDataError(
                f"contains no book of {self.symbol}",
                where=self.path.name,
                remedy=f"name one of {_names(decoder.symbols)}",
            )

    def _find_streams(self, decoder: ReferenceDecoder) -> Ints:
        """Return the numbers of the streams of the symbol."""
        symbols = {name for name in decoder.symbols if name}
        if not self.symbol and len(symbols) > 1:
            raise MalformedDataError(
                "contains several symbols",
                where=self.path.name,
                remedy=f"name one of {_names(sorted(symbols))}",
            )
        return np.array(
            [number for number, name in enumerate(decoder.symbols) if name == (self.symbol or name)], np.int64
        )

    def _merge_by_line(self, columns: Columns, numbers: Ints) -> Iterator[Messages]:
        """Merge diffs and snapshots in the order of their lines."""
        diffs = self._messages(columns.diffs, columns.levels, numbers, DIFF)
        snapshots = self._messages(columns.snapshots, columns.snapshot_levels, numbers, SNAPSHOT)
        start = 0
        for at in range(len(snapshots)):
            stop = int(np.searchsorted(diffs.rows[POSITION], snapshots.rows[POSITION, at]))
            yield from self._part(diffs, start, stop)
            yield from self._part(snapshots, at, at + 1)
            start = stop
        yield from self._part(diffs, start, len(diffs))

    def _messages(self, rows_of: Ints, levels: Ints, numbers: Ints, kind: int) -> Messages:
        mask = np.isin(rows_of[layout.D_STREAM], numbers)
        found = rows_of if mask.all() else rows_of[:, mask]
        rows = np.empty((ROWS, found.shape[1]), np.int64)
        rows[KIND] = kind
        for row, source in _ROWS_OF.items():
            rows[row] = found[source]
        rows[POSITION] += self.lines + 1
        if kind == SNAPSHOT:
            rows[FIRST] = rows[LAST]
        bounds = np.stack([found[layout.D_BIDS], found[layout.D_ASKS], found[layout.D_END]])
        return Messages(rows, LevelBatch(bounds, levels[0], levels[1]), self._scale())

    def _part(self, messages: Messages, first: int, end: int) -> Iterator[Messages]:
        """Convert the messages `first..end` to ticks."""
        if end <= first:
            return
        batch = messages.batch
        bounds, ticks = batch.bounds[:, first:end], np.empty(batch.prices.size, np.int64)
        has_levels = bool((bounds[2] > bounds[0]).any())
        while has_levels and (not self._tick or int(to_ticks(batch.prices, bounds, self._tick, ticks)) >= 0):
            parts = [batch.prices[start:stop] for start, _, stop in bounds.T.tolist()]
            self._tick = find_tick(parts, self._tick)
        yield Messages(messages.rows[:, first:end], LevelBatch(bounds, ticks, batch.lots), self._scale())

    def _scale(self) -> Scale:
        return Scale(E8 * (self._tick or 1), E8)


def _names(symbols: list[str]) -> str:
    return ", ".join(sorted({name for name in symbols if name})[:10]) or "none"
