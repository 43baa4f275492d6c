"""Messages of Tardis' `incremental_book_L2` files, a CSV or its gzip, a day of one symbol each.

    exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount
    binance,BTCUSDT,1769817600012000,1769817600034517,true,bid,84012.01,0.25

Times are microseconds UTC, of the exchange and of arrival; an amount of 0 removes the level. Rows of one arrival are one message, also
where their times of the exchange differ; its event time is that of its last row. Otherwise a book would be shown between two halves of an
update.
Consecutive snapshot rows are one snapshot, in whose place all that was known before is to be forgotten. Source:
docs.tardis.dev/downloadable-csv-files/data-types and docs.tardis.dev/faq/data.

**Continuity cannot be judged from these files: they carry no ids.** Ids are numbers of messages, made here, so that diffs continue one
another between snapshots. A snapshot after the first one tells of a connection that was lost: before it stands a message without a level
whose id leaves one out, so that a replay sees the break and begins anew; what was lost there nobody can tell. Diffs before the first
snapshot precede it by their ids and are dropped with it, as the source asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl

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
    copy_slice,
)
from capture_pipeline.replay.sources._tardis_rows import BLOCK_BYTES, frames
from capture_pipeline.replay.sources.tick_grid import Grid, Ints, bids_first, runs_of


class TardisSource:
    """One symbol of one file.

    Attributes:
        where: The file.
        symbol: In capitals; known once the first messages were taken, until then the file's name.
    """

    def __init__(
        self,
        path: Path,
        *,
        tick: Decimal | None = None,
        lot: Decimal | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        """Open nothing yet.

        Args:
            path: A `.csv` or `.csv.gz`.
            tick: Price of one tick, which every price has to be a multiple of; None finds it.
            lot: Likewise for quantities.
            block_bytes: How much is worked on at once; a snapshot larger than that is still one message.
        """
        self.where, self.symbol = str(path), path.name.partition(".")[0].upper()
        self._path, self._block_bytes = path, block_bytes
        self._prices, self._lots = Grid(self.where, "price", tick), Grid(self.where, "quantity", lot)
        self._last_id, self._place, self._seeded = 0, 0, False

    def __iter__(self) -> Iterator[Messages]:
        """The messages, in pieces, in the order of the file.

        Raises:
            LakeError: The file is not there.
            MalformedDataError: The gzip is damaged, or a row is not of this layout; the line is named.
        """
        self._last_id, self._place, self._seeded = 0, 0, False
        waiting: pl.DataFrame | None = None
        for frame in frames(self._path, self._block_bytes):
            rows = frame if waiting is None else pl.concat([self._aligned(waiting, frame), frame])
            self.symbol = str(rows["symbol"][0]).upper()
            if rows["symbol"].n_unique() > 1:
                raise MalformedDataError(
                    "holds more than one symbol", where=self.where, remedy="give a file of one symbol"
                )
            starts = _starts(rows)
            waiting = rows.slice(int(starts[-1]))
            if starts.size > 1:
                yield self._messages(rows.head(int(starts[-1])), starts[:-1])
        if waiting is not None:
            yield self._messages(waiting, np.zeros(1, np.int64))

    def _aligned(self, waiting: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows in the units of those behind them, which may have more places."""
        for name in ("price", "amount"):
            factor = 10 ** int(frame[f"{name}_places"][0] - waiting[f"{name}_places"][0])
            if int(waiting[name].max() or 0) > (2**63 - 1) // factor:  # type: ignore[arg-type]
                raise MalformedDataError(
                    f"holds an {name} that 64 bits do not hold", where=self.where, remedy="look at the file"
                )
            waiting = waiting.with_columns(
                pl.col(name) * factor,
                pl.lit(int(frame[f"{name}_places"][0]), pl.Int64).alias(f"{name}_places"),
            )
        return waiting

    def _messages(self, frame: pl.DataFrame, starts: Ints) -> Messages:
        bounds, order = bids_first(starts, frame["ask"].to_numpy())
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
        return self._numbered(
            Messages(rows, LevelBatch(bounds, prices, lots), Scale(self._prices.worth, self._lots.worth))
        )

    def _numbered(self, messages: Messages) -> Messages:
        """Give ids and places, and put a break before every snapshot but the file's first."""
        snapshots = messages.rows[KIND] == SNAPSHOT
        breaks = snapshots & (np.cumsum(snapshots) + self._seeded > 1)
        self._seeded = self._seeded or bool(snapshots.any())
        copies = np.repeat(np.arange(len(messages)), 1 + breaks)
        made = np.append(copies[1:] == copies[:-1], [False])
        rows, bounds = messages.rows[:, copies], messages.run.bounds[:, copies]
        rows[KIND, made] = DIFF
        bounds[1:, made] = bounds[0, made]
        after = np.append([False], made[:-1])
        # A break leaves one id out; its snapshot has the same id as the break.
        rows[LAST] = rows[FIRST] = self._last_id + np.cumsum(1 + made.astype(np.int64) - after)
        rows[PREVIOUS], rows[PLACE] = -1, np.arange(self._place, self._place + rows.shape[1])
        self._last_id, self._place = int(rows[LAST, -1]), self._place + rows.shape[1]
        return copy_slice(
            Messages(rows, LevelBatch(bounds, messages.run.prices, messages.run.lots), messages.scale),
            0,
            rows.shape[1],
        )


def _starts(rows: pl.DataFrame) -> Ints:
    """First rows of messages: of diffs where the arrival differs, of snapshots where the row before was none."""
    snapshot = rows["is_snapshot"].to_numpy()
    return runs_of(snapshot, np.where(snapshot, -1, rows["local_timestamp"].to_numpy()))
