"""Integer columns of decoded lines: their layout, and the arrays of one block."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
PADDING = 1024
"""Number of readable bytes after a block: more than the longest fixed part of a line, which is about 600."""
_SHORTEST_LEVEL, _SHORTEST_LINE = 9, 60
"""Minimum length in bytes of a level, and of a line of a known stream, in any layout; for the capacities."""

SKIP, TRADE, DEPTH, SNAPSHOT = range(4)
"""Kinds of streams: lines are skipped, or decoded as a trade, a diff or a snapshot."""
AT, LINE, TRADES, DEPTHS, LEVELS, SNAPSHOTS, SNAPSHOT_LEVELS = range(7)
"""Indices of the state: position, number of lines before it, and number of rows written to each output."""
T_CAPTURE, T_EVENT, T_TRADE, T_ID, T_PRICE, T_QUANTITY, T_MAKER, T_PLACES, T_STREAM, T_LINE, T_MARKET = range(
    11
)
"""Rows of the array of trades. T_PLACES: number of decimals of the price times 16, plus that of the quantity.
T_MARKET: 1 if `X` is `MARKET`, else 0."""
D_CAPTURE, D_EVENT, D_FIRST, D_LAST, D_PREVIOUS, D_BIDS, D_ASKS, D_END, D_STREAM, D_LINE = range(10)
"""Rows of the array of diffs and snapshots. Bids are levels `[D_BIDS, D_ASKS)`, asks `[D_ASKS, D_END)`."""


@dataclass(frozen=True)
class Columns:
    """Arrays for the values of a block; they are used again for the next block.

    Attributes:
        trades: Shape `(11, capacity)`, with the rows `T_…`.
        diffs: Shape `(10, capacity)`, with the rows `D_…`.
        levels: Price and quantity of the diffs' levels in units of 1e-8, shape `(2, capacity)`.
        tags: Side (1 is ask) and places of the diffs' levels, shape `(2, capacity)`. Places are the number of
            decimals of the price times 16, plus the number of decimals of the quantity.
        snapshots: Like `diffs`.
        snapshot_levels: Like `levels`.
        snapshot_tags: Like `tags`.
        order_types: `X` of trades with an `X` other than `MARKET`, by their line in the block (`T_LINE`).
    """

    trades: Ints
    diffs: Ints
    levels: Ints
    tags: Bytes
    snapshots: Ints
    snapshot_levels: Ints
    snapshot_tags: Bytes
    order_types: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of_size(cls, max_bytes: int) -> Columns:
        """Allocate arrays for any block of at most `max_bytes`; only written pages occupy memory."""
        lines, levels = max_bytes // _SHORTEST_LINE + 1, max_bytes // _SHORTEST_LEVEL + 1
        rows = (np.empty((count, lines), np.int64) for count in (11, 10, 10))
        values, tags = (
            (np.empty((2, levels), np.int64) for _ in range(2)),
            (np.empty((2, levels), np.uint8) for _ in range(2)),
        )
        return cls(next(rows), next(rows), next(values), next(tags), next(rows), next(values), next(tags))

    def cut(self, state: Ints) -> Columns:
        """Return views of the written rows.

        Args:
            state: Number of rows at the indices `TRADES` to `SNAPSHOT_LEVELS`.
        """
        trades, diffs, levels, snapshots, snapshot_levels = (int(count) for count in state[TRADES:])
        return Columns(
            self.trades[:, :trades],
            self.diffs[:, :diffs],
            self.levels[:, :levels],
            self.tags[:, :levels],
            self.snapshots[:, :snapshots],
            self.snapshot_levels[:, :snapshot_levels],
            self.snapshot_tags[:, :snapshot_levels],
            self.order_types,
        )
