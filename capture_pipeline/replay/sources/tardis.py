"""Source of the messages in `incremental_book_L2` files of Tardis: CSV or gzip, one symbol and day per file.

    exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount
    binance,BTCUSDT,1769817600012000,1769817600034517,true,bid,84012.01,0.25

Times are microseconds UTC: `timestamp` of the exchange and `local_timestamp` of arrival. An amount of 0
removes the level. Rows with the same time of arrival are one message, even if their times of the exchange
differ: otherwise a book in the middle of an update would be visible. The event time of a message is the one
    of its last row.
Consecutive snapshot rows are one snapshot, which replaces the whole book.
Sources: docs.tardis.dev/downloadable-csv-files/data-types and docs.tardis.dev/faq/data.

**Missing messages cannot be detected, because the files contain no update ids.** This module assigns ids: it
numbers the messages, so that diffs continue one another between snapshots. A snapshot after the first one
means that a connection was lost. The module inserts a diff without levels before it and skips an id, so that
a replay finds a gap and restarts from the snapshot. The number of lost messages is unknown. Diffs before the
first snapshot have lower ids than it and are dropped, as the documentation of Tardis demands.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl

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
    copy_slice,
)
from capture_pipeline.replay.sources._tardis_rows import BLOCK_BYTES, read_frames
from capture_pipeline.replay.sources.tick_grid import Grid, Ints, find_run_starts, order_bids_first


class TardisSource:
    """Messages of one file.

    Attributes:
        where: The file, for error messages.
        symbol: Symbol in capitals; before the first messages were read, the file's name.
    """

    def __init__(
        self,
        path: Path,
        *,
        tick: Decimal | None = None,
        lot: Decimal | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        """Store the path. The file is opened by the iteration.

        Args:
            path: A `.csv` or `.csv.gz`.
            tick: Price of one tick; every price must be a multiple of it. None to derive it from the prices.
            lot: Quantity of one lot; every quantity must be a multiple of it. None to derive it from the
                quantities.
            block_bytes: Size of a block; a larger snapshot is still one message.
        """
        self.where, self.symbol = str(path), path.name.partition(".")[0].upper()
        self._path, self._block_bytes = path, block_bytes
        self._prices, self._lots = Grid(self.where, "price", tick), Grid(self.where, "quantity", lot)
        self._last_id, self._place, self._seeded = 0, 0, False

    def __iter__(self) -> Iterator[Messages]:
        """Iterate over the messages in the order of the file.

        Raises:
            LakeError: The file does not exist.
            MalformedDataError: The gzip is damaged, a row has another layout (the error names the line), or
                the file contains several symbols.
        """
        self._last_id, self._place, self._seeded = 0, 0, False
        waiting: pl.DataFrame | None = None
        for frame in read_frames(self._path, self._block_bytes):
            rows = frame if waiting is None else pl.concat([self._align_decimals(waiting, frame), frame])
            self.symbol = str(rows["symbol"][0]).upper()
            if rows["symbol"].n_unique() > 1:
                raise MalformedDataError(
                    "contains more than one symbol", where=self.where, remedy="give a file of one symbol"
                )
            starts = _find_message_starts(rows)
            waiting = rows.slice(int(starts[-1]))
            if starts.size > 1:
                yield self._messages(rows.head(int(starts[-1])), starts[:-1])
        if waiting is not None:
            yield self._messages(waiting, np.zeros(1, np.int64))

    def _align_decimals(self, waiting: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame:
        """Convert waiting rows to the decimals of the next rows, which may be more."""
        for name in ("price", "amount"):
            factor = 10 ** int(frame[f"{name}_places"][0] - waiting[f"{name}_places"][0])
            if int(waiting[name].max() or 0) > (2**63 - 1) // factor:  # type: ignore[arg-type]
                raise MalformedDataError(
                    f"the column {name} contains a value that does not fit 64 bits",
                    where=self.where,
                    remedy="check the file",
                )
            waiting = waiting.with_columns(
                pl.col(name) * factor,
                pl.lit(int(frame[f"{name}_places"][0]), pl.Int64).alias(f"{name}_places"),
            )
        return waiting

    def _messages(self, frame: pl.DataFrame, starts: Ints) -> Messages:
        bounds, order = order_bids_first(starts, frame["ask"].to_numpy())
        prices = self._prices.ticks(frame["price"].to_numpy(), int(frame["price_places"][0]))
        lots = self._lots.ticks(frame["amount"].to_numpy(), int(frame["amount_places"][0]))
        if order is not None:
            prices, lots = prices[order], lots[order]
        heads, lasts = frame[starts], frame[np.append(starts[1:], frame.height) - 1]
        rows = np.full((ROWS, starts.size), -1, np.int64)
        rows[KIND] = np.where(heads["is_snapshot"].to_numpy(), SNAPSHOT, DIFF)
        rows[CAPTURE], rows[EVENT] = (
            heads["local_timestamp"].to_numpy() * 1000,
            np.maximum(lasts["timestamp"].to_numpy(), 0),
        )
        return self._assign_ids(
            Messages(
                rows, LevelBatch(bounds, prices, lots), Scale(self._prices.unit_value, self._lots.unit_value)
            )
        )

    def _assign_ids(self, messages: Messages) -> Messages:
        """Assign ids and positions, and insert a break before every snapshot except the first of the file."""
        snapshots = messages.rows[KIND] == SNAPSHOT
        breaks = snapshots & (np.cumsum(snapshots) + self._seeded > 1)
        self._seeded = self._seeded or bool(snapshots.any())
        copies = np.repeat(np.arange(len(messages)), 1 + breaks)
        inserted = np.append(copies[1:] == copies[:-1], [False])
        rows, bounds = messages.rows[:, copies], messages.batch.bounds[:, copies]
        rows[KIND, inserted] = DIFF
        bounds[1:, inserted] = bounds[0, inserted]
        after = np.append([False], inserted[:-1])
        # A break skips one id; its snapshot has the same id as the break.
        rows[LAST] = rows[FIRST] = self._last_id + np.cumsum(1 + inserted.astype(np.int64) - after)
        rows[PREVIOUS], rows[POSITION] = -1, np.arange(self._place, self._place + rows.shape[1])
        self._last_id, self._place = int(rows[LAST, -1]), self._place + rows.shape[1]
        return copy_slice(
            Messages(rows, LevelBatch(bounds, messages.batch.prices, messages.batch.lots), messages.scale),
            0,
            rows.shape[1],
        )


def _find_message_starts(rows: pl.DataFrame) -> Ints:
    """Return the first rows of messages: a diff starts at a new time of arrival, a snapshot after a diff."""
    snapshot = rows["is_snapshot"].to_numpy()
    return find_run_starts(snapshot, np.where(snapshot, -1, rows["local_timestamp"].to_numpy()))
