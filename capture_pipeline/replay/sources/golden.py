"""Source of the messages in the typed tables of a session, `golden_depth` and `golden_snapshots`.

Both tables are merged by the lines of the recording. A thread reads the next row group during the replay of
the current one.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.parquet import column_statistics, guard_parquet
from capture_pipeline.orderbook.compiled.book import LevelBatch
from capture_pipeline.replay.continuity import find_bounds, to_ticks
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
    Messages,
    Scale,
    find_tick,
    slice_view,
    to_scale,
)
from capture_pipeline.tables.golden.depth import DEPTH
from capture_pipeline.tables.golden.snapshots import SNAPSHOTS
from capture_pipeline.tables.table import Table

_REMEDY = "convert the recording again"
_HEADS = {
    "capture_ns": CAPTURE,
    "event_us": EVENT,
    "first_id": FIRST,
    "last_id": LAST,
    "previous_id": PREVIOUS,
    "line": POSITION,
}
_GROUPS_PER_RELEASE = 16
"""Row groups between two releases of unused memory. With 8, a replay takes up to a sixth longer."""


@dataclass
class GoldenSource:
    """One symbol of a session.

    Attributes:
        tables: Typed tables of the session.
        symbol: Symbol in capitals.
        after: Only messages after this line of the recording are read.
        has_events: True to read event times, which a book does not need.
        where: Session and symbol, for error messages.
    """

    tables: GoldenTables
    symbol: str
    after: int = 0
    has_events: bool = False
    where: str = field(init=False)
    _tick: int = 0

    def __post_init__(self) -> None:
        """Set `where`."""
        self.where = f"{self.tables.session} {self.symbol}"

    def __iter__(self) -> Iterator[Messages]:
        """Iterate over the messages, one row group of diffs at a time.

        Raises:
            LakeError: The session has no tables, or a file is missing or cannot be read.
            MalformedDataError: The lines of a table are not in order.
        """
        snapshots = self._pieces(SNAPSHOTS)
        waiting = next(snapshots, None)
        for diffs in self._pieces(DEPTH):
            start = 0
            while waiting is not None and int(waiting.rows[POSITION, 0]) < int(diffs.rows[POSITION, -1]):
                stop = int(np.searchsorted(diffs.rows[POSITION], waiting.rows[POSITION, 0]))
                yield from _part(diffs, start, stop, self._scale())
                yield to_scale(waiting, self._scale())
                start, waiting = stop, next(snapshots, None)
            yield from _part(diffs, start, len(diffs), self._scale())
        while waiting is not None:
            yield to_scale(waiting, self._scale())
            waiting = next(snapshots, None)

    def _scale(self) -> Scale:
        return Scale(E8 * (self._tick or 1), E8)

    def _pieces(self, table: Table) -> Iterator[Messages]:
        """Iterate over the messages of a table; each snapshot is a piece of its own."""
        groups = [
            (path, group)
            for path in self.tables.paths(table, self.symbol)
            for group in _find_groups(path, self.after)
        ]
        with ThreadPoolExecutor(1) as ahead:
            coming = [ahead.submit(_read, *groups[0], self._heads(table))] if groups else []
            for number in range(len(groups)):
                read = coming.pop().result()
                if number + 1 < len(groups):
                    coming.append(ahead.submit(_read, *groups[number + 1], self._heads(table)))
                messages = self._messages(read, table, groups[number][0])
                del read  # its columns are as large as the messages
                if (number + 1) % _GROUPS_PER_RELEASE == 0:
                    pa.default_memory_pool().release_unused()
                first = int(np.searchsorted(messages.rows[POSITION], self.after, side="right"))
                if table is SNAPSHOTS:
                    yield from (slice_view(messages, at, at + 1) for at in range(first, len(messages)))
                elif first < len(messages):
                    yield slice_view(messages, first, len(messages))

    def _heads(self, table: Table) -> list[str]:
        return [name for name in table.schema if name in _HEADS and (self.has_events or name != "event_us")]

    def _messages(self, read: pa.Table, table: Table, path: Path) -> Messages:
        """Convert a row group to messages."""
        lines, prices = _plain(read["line"]), _plain(read["price_e8"])
        starts, bounds = np.empty(lines.size, np.int64), np.empty((3, lines.size), np.int64)
        count = int(find_bounds(lines, _plain(read["side"]), starts, bounds))
        starts, bounds = starts[:count], bounds[:, :count]
        rows = np.full((ROWS, count), -1, np.int64)
        rows[KIND], rows[EVENT] = (DIFF if table is DEPTH else SNAPSHOT), 0
        for name, row in _HEADS.items():
            if name in read.column_names:
                rows[row] = _plain(read[name])[starts]
        if table is SNAPSHOTS:
            rows[FIRST] = rows[LAST]
        if count and (np.diff(rows[POSITION]) <= 0).any():
            raise MalformedDataError("the lines are not in order", where=str(path), remedy=_REMEDY)
        ticks = np.empty(prices.size, np.int64)
        has_levels = bool((bounds[2] > bounds[0]).any())
        while has_levels and (not self._tick or int(to_ticks(prices, bounds, self._tick, ticks)) >= 0):
            self._tick = find_tick([prices], self._tick)
        return Messages(rows, LevelBatch(bounds, ticks, _plain(read["quantity_e8"])), self._scale())


def _find_groups(path: Path, after: int) -> list[int]:
    """Return the row groups of a file that may contain lines after `after`."""
    with guard_parquet(path, remedy=_REMEDY), pq.ParquetFile(path) as file:
        statistics = [column_statistics(file, group, "line") for group in range(file.num_row_groups)]
    return [
        group
        for group, found in enumerate(statistics)
        if found is None or not found.has_min_max or found.max > after
    ]


def _read(path: Path, group: int, heads: list[str]) -> pa.Table:
    with guard_parquet(path, remedy=_REMEDY), pq.ParquetFile(path, memory_map=True) as file:
        if "previous_id" in heads and _is_always_absent(file, group, "previous_id"):
            heads = [name for name in heads if name != "previous_id"]
        columns = [*heads, "side", "price_e8", "quantity_e8"]
        return file.read_row_group(group, columns=columns, use_threads=False).select(columns)


def _is_always_absent(file: pq.ParquetFile, group: int, name: str) -> bool:
    """Return True if a column is -1 in all rows, according to its statistics."""
    found = column_statistics(file, group, name)
    return found is not None and found.has_min_max and found.min == found.max == -1


def _plain(column: pa.ChunkedArray) -> Any:  # noqa: ANN401 - an array of the column's type
    return column.chunk(0).to_numpy() if column.num_chunks == 1 else column.to_numpy()


def _part(messages: Messages, first: int, end: int, scale: Scale) -> Iterator[Messages]:
    if end > first:
        yield to_scale(slice_view(messages, first, end), scale)
