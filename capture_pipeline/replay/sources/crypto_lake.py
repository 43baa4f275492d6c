"""Messages of Crypto Lake's Parquet files: `book_delta_v2` for diffs, `book` for snapshots.

Layout, a file a day, below `<table>/exchange=BINANCE/symbol=BTC-USDT/dt=2026-01-31/`: `timestamp` (of the exchange) and
`receipt_timestamp` in nanoseconds, `sequence_number`; then `side_is_bid`, `price`, `size` with a row a changed level, or
`bid_0_price`, `bid_0_size` … `ask_19_size` with a row a snapshot. The vendor's client renames the times to `origin_time` and
`received_time`; either name is taken. Sources: github.com/crypto-lake/lake-api, `lakeapi/main.py` and `lakeapi/orderbook.py`, and public
code that reads the files. The levels of one message have one time of receipt and one sequence number.

A diff tells its last id alone. Whether ids continue can therefore only be judged where a feed counts each message (`every_id`); elsewhere
a diff is taken to begin behind whatever came before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.replay.compiled.book import LevelBatch
from capture_pipeline.replay.messages import (
    CAPTURE,
    DIFF,
    EVENT,
    FIRST,
    KIND,
    LAST,
    PLACE,
    PREVIOUS,
    ROWS,
    SNAPSHOT,
    Messages,
    Scale,
)
from capture_pipeline.replay.sources._crypto_lake_columns import BLOCK_ROWS, Columns, blocks, sides_of
from capture_pipeline.replay.sources._crypto_lake_parts import Part, exact, merged, running
from capture_pipeline.replay.sources.tick_grid import Flags, Grid, Ints, bids_first, runs_of


class CryptoLakeSource:
    """One symbol's diffs, with snapshots where they are there.

    Attributes:
        where: The file of diffs.
        symbol: In capitals, as Crypto Lake writes it: `BTC-USDT`.
    """

    def __init__(
        self, deltas: Path, books: Path | None = None, *, tick: Decimal | None = None, lot: Decimal | None = None, every_id: bool = False,
        block_rows: int = BLOCK_ROWS,
    ) -> None:  # fmt: skip
        """Open nothing yet.

        Args:
            deltas: A file of `book_delta_v2`.
            books: A file of `book` of the same symbol.
            tick: Price of one tick, which every price has to be a multiple of; None finds it.
            lot: Likewise for quantities.
            every_id: Whether the feed gives each message the next sequence number, so that gaps can be seen.
            block_rows: How many rows are worked on at once.
        """
        self.where, self._deltas, self._books = str(deltas), deltas, books
        found = re.search(r"symbol=([^/\\]+)", str(deltas))
        self.symbol = found[1].upper() if found else deltas.stem.upper()
        self._prices, self._lots = Grid(self.where, "price", tick), Grid(self.where, "quantity", lot)
        self._every_id, self._block_rows = every_id, block_rows

    def __iter__(self) -> Iterator[Messages]:
        """The messages, in pieces, by time of receipt; a diff precedes the snapshot of the same time.

        Raises:
            LakeError: A file is not there.
            MalformedDataError: A file has another layout, a value is missing, or a price lies on no tick.
        """
        reached, place = -1, 0
        snapshots = self._snapshots(self._books) if self._books is not None else iter(())
        for part in merged(self._diffs(), snapshots):
            part.rows[PLACE] = np.arange(place, place + len(part))
            place += len(part)
            if not self._every_id:
                reached = _continued(part.rows, reached)
            yield self._exact(part)

    def _exact(self, part: Part) -> Messages:
        prices = self._prices.ticks(*exact(part.prices, self.where, "price", self._prices.places))
        lots = self._lots.ticks(*exact(part.sizes, self.where, "quantity", self._lots.places))
        return Messages(
            part.rows, LevelBatch(part.bounds, prices, lots), Scale(self._prices.worth, self._lots.worth)
        )

    def _diffs(self) -> Iterator[Part]:
        """Blocks of whole messages: the last message of a block waits for the next block, which may go on with it."""
        before = np.int64(0)
        waiting: Columns | None = None
        for block in blocks(
            self._deltas, ("sequence_number", "side_is_bid", "price", "size"), self._block_rows
        ):
            columns = block if waiting is None else waiting.followed_by(block)
            starts = runs_of(columns["receipt"], columns["sequence_number"])
            waiting = columns.cut(int(starts[-1]), None)
            if starts.size > 1:
                part = _diffs_of(columns.cut(0, int(starts[-1])), starts[:-1], int(before))
                before = part.key[-1]
                yield part
        if waiting is not None:
            yield _diffs_of(waiting, np.zeros(1, np.int64), int(before))

    def _snapshots(self, books: Path) -> Iterator[Part]:
        before, width = np.int64(0), sides_of(books)
        names = [
            f"{side}_{level}_{what}"
            for side in ("bid", "ask")
            for level in range(width)
            for what in ("price", "size")
        ]
        for block in blocks(books, ("sequence_number", *names), max(1, self._block_rows // (2 * width))):
            grids = [
                np.stack([block[name] for name in names if name.endswith(what)], axis=1)
                for what in ("_price", "_size")
            ]
            there = [np.isfinite(grid) & (grid > 0) for grid in grids]
            if (there[0] != there[1]).any():
                row = int(np.flatnonzero((there[0] != there[1]).any(axis=1))[0]) + block.row
                what = f"row {row} has a price without a size, or a size without a price"
                raise MalformedDataError(what, where=str(books), remedy="fetch it again")
            counts = np.append(0, np.cumsum(there[0].sum(axis=1)))
            bids = there[0][:, :width].sum(axis=1)
            bounds = np.stack([counts[:-1], counts[:-1] + bids, counts[1:]]).astype(np.int64)
            rows = _rows(block, SNAPSHOT, np.arange(len(block)))
            part = Part(
                rows, bounds, grids[0][there[0]], grids[1][there[0]], running(rows[CAPTURE], int(before))
            )
            before = part.key[-1]
            yield part


def _diffs_of(columns: Columns, starts: Ints, before: int) -> Part:
    asks: Flags = ~columns["side_is_bid"].astype(np.bool_)
    bounds, order = bids_first(starts, asks)
    prices, sizes = columns["price"], columns["size"]
    rows = _rows(columns, DIFF, starts)
    if order is not None:
        prices, sizes = prices[order], sizes[order]
    return Part(rows, bounds, prices, sizes, running(rows[CAPTURE], before))


def _rows(columns: Columns, kind: int, starts: Ints) -> Ints:
    rows = np.full((ROWS, starts.size), -1, np.int64)
    rows[KIND], rows[CAPTURE] = kind, columns["receipt"][starts]
    rows[EVENT] = np.maximum(columns["origin"][starts], 0) // 1000
    rows[FIRST] = rows[LAST] = columns["sequence_number"][starts]
    rows[PREVIOUS] = -1
    return rows


def _continued(rows: Ints, reached: int) -> int:
    """Let each diff begin behind the highest id before it; returns the highest of all."""
    highest = np.maximum.accumulate(np.append(reached, rows[LAST]))
    diffs = (rows[KIND] == DIFF) & (highest[:-1] >= 0)
    rows[FIRST] = np.where(diffs, np.minimum(highest[:-1] + 1, rows[LAST]), rows[FIRST])
    return int(highest[-1])
