"""Source of the messages in Parquet files of Crypto Lake: `book_delta_v2` for diffs, `book` for snapshots.

There is one file per day, below `<table>/exchange=BINANCE/symbol=BTC-USDT/dt=2026-01-31/`. Both tables have
the columns `timestamp` (of the exchange) and `receipt_timestamp`, in nanoseconds, and `sequence_number`.
`book_delta_v2` has one row per changed level: `side_is_bid`, `price`, `size`. The levels of one message have
the same receipt time and sequence number. `book` has one row per snapshot: `bid_0_price`, `bid_0_size` …
`ask_19_size`. The vendor's client renames the times to `origin_time` and `received_time`; both names are
accepted.
Sources: github.com/crypto-lake/lake-api, `lakeapi/main.py` and `lakeapi/orderbook.py`, and public code that
reads the files.

A diff contains only its last id. Missing ids can therefore only be detected if the feed numbers its messages
consecutively (`has_consecutive_ids`). Otherwise a diff is assumed to begin after the previous message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.compiled.book import LevelBatch
from capture_pipeline.replay.messages import (
    CAPTURE,
    DIFF,
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
)
from capture_pipeline.replay.sources._crypto_lake_columns import (
    BLOCK_ROWS,
    Columns,
    count_levels,
    read_blocks,
)
from capture_pipeline.replay.sources._crypto_lake_parts import Part, merge_parts, running_max, to_decimals
from capture_pipeline.replay.sources.tick_grid import Flags, Grid, Ints, find_run_starts, order_bids_first


class CryptoLakeSource:
    """Diffs of one symbol, optionally with snapshots.

    Attributes:
        where: The file of diffs, for error messages.
        symbol: Symbol in capitals, in the notation of Crypto Lake: `BTC-USDT`.
    """

    def __init__(
        self,
        deltas: Path,
        books: Path | None = None,
        *,
        tick: Decimal | None = None,
        lot: Decimal | None = None,
        has_consecutive_ids: bool = False,
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        """Store the paths. The files are opened by the iteration.

        Args:
            deltas: A file of `book_delta_v2`.
            books: A file of `book` of the same symbol.
            tick: Price of one tick; every price must be a multiple of it. None to derive it from the prices.
            lot: Quantity of one lot; every quantity must be a multiple of it. None to derive it from the
                quantities.
            has_consecutive_ids: True if the feed numbers its messages consecutively, so that gaps can be
                detected.
            block_rows: Number of rows per block.
        """
        self.where, self._deltas, self._books = str(deltas), deltas, books
        found = re.search(r"symbol=([^/\\]+)", str(deltas))
        self.symbol = found[1].upper() if found else deltas.stem.upper()
        self._prices, self._lots = Grid(self.where, "price", tick), Grid(self.where, "quantity", lot)
        self._has_consecutive_ids, self._block_rows = has_consecutive_ids, block_rows

    def __iter__(self) -> Iterator[Messages]:
        """Iterate over the messages by receipt time; a diff precedes a snapshot of the same time.

        Raises:
            LakeError: A file does not exist.
            MalformedDataError: A file has another layout, a value is missing, or a price or a quantity is not
                a multiple of the tick or the lot.
        """
        reached, place = -1, 0
        snapshots = self._snapshots(self._books) if self._books is not None else iter(())
        for part in merge_parts(self._diffs(), snapshots):
            part.rows[POSITION] = np.arange(place, place + len(part))
            place += len(part)
            if not self._has_consecutive_ids:
                reached = _set_first_ids(part.rows, reached)
            yield self._to_messages(part)

    def _to_messages(self, part: Part) -> Messages:
        prices = self._prices.ticks(*to_decimals(part.prices, self.where, "price", self._prices.places))
        lots = self._lots.ticks(*to_decimals(part.sizes, self.where, "quantity", self._lots.places))
        return Messages(
            part.rows,
            LevelBatch(part.bounds, prices, lots),
            Scale(self._prices.unit_value, self._lots.unit_value),
        )

    def _diffs(self) -> Iterator[Part]:
        """Iterate over blocks of whole messages. The last message of a block may continue in the next one."""
        before = np.int64(0)
        waiting: Columns | None = None
        for block in read_blocks(
            self._deltas, ("sequence_number", "side_is_bid", "price", "size"), self._block_rows
        ):
            columns = block if waiting is None else waiting.append(block)
            starts = find_run_starts(columns["receipt"], columns["sequence_number"])
            waiting = columns.cut(int(starts[-1]), None)
            if starts.size > 1:
                part = _build_diffs(columns.cut(0, int(starts[-1])), starts[:-1], int(before))
                before = part.key[-1]
                yield part
        if waiting is not None:
            yield _build_diffs(waiting, np.zeros(1, np.int64), int(before))

    def _snapshots(self, books: Path) -> Iterator[Part]:
        before, width = np.int64(0), count_levels(books)
        names = [
            f"{side}_{level}_{what}"
            for side in ("bid", "ask")
            for level in range(width)
            for what in ("price", "size")
        ]
        for block in read_blocks(books, ("sequence_number", *names), max(1, self._block_rows // (2 * width))):
            grids = [
                np.stack([block[name] for name in names if name.endswith(what)], axis=1)
                for what in ("_price", "_size")
            ]
            masks = [np.isfinite(grid) & (grid > 0) for grid in grids]
            if (masks[0] != masks[1]).any():
                row = int(np.flatnonzero((masks[0] != masks[1]).any(axis=1))[0]) + block.row
                what = f"row {row} has a price without a size, or a size without a price"
                raise MalformedDataError(what, where=str(books), remedy="download the file again")
            counts = np.append(0, np.cumsum(masks[0].sum(axis=1)))
            bids = masks[0][:, :width].sum(axis=1)
            bounds = np.stack([counts[:-1], counts[:-1] + bids, counts[1:]]).astype(np.int64)
            rows = _rows(block, SNAPSHOT, np.arange(len(block)))
            part = Part(
                rows, bounds, grids[0][masks[0]], grids[1][masks[0]], running_max(rows[CAPTURE], int(before))
            )
            before = part.key[-1]
            yield part


def _build_diffs(columns: Columns, starts: Ints, before: int) -> Part:
    asks: Flags = ~columns["side_is_bid"].astype(np.bool_)
    bounds, order = order_bids_first(starts, asks)
    prices, sizes = columns["price"], columns["size"]
    rows = _rows(columns, DIFF, starts)
    if order is not None:
        prices, sizes = prices[order], sizes[order]
    return Part(rows, bounds, prices, sizes, running_max(rows[CAPTURE], before))


def _rows(columns: Columns, kind: int, starts: Ints) -> Ints:
    rows = np.full((ROWS, starts.size), -1, np.int64)
    rows[KIND], rows[CAPTURE] = kind, columns["receipt"][starts]
    rows[EVENT] = np.maximum(columns["origin"][starts], 0) // 1000
    rows[FIRST] = rows[LAST] = columns["sequence_number"][starts]
    rows[PREVIOUS] = -1
    return rows


def _set_first_ids(rows: Ints, reached: int) -> int:
    """Set the first id of each diff to the one after the highest earlier id. Returns the highest id."""
    highest = np.maximum.accumulate(np.append(reached, rows[LAST]))
    diffs = (rows[KIND] == DIFF) & (highest[:-1] >= 0)
    rows[FIRST] = np.where(diffs, np.minimum(highest[:-1] + 1, rows[LAST]), rows[FIRST])
    return int(highest[-1])
