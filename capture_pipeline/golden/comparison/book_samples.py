"""Samples of the book of a session from its tables: best prices each second, depth each ten seconds.

A second in which ids go missing has no sample, and neither has the last second.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import polars as pl

from capture_pipeline.binance.streams.messages import DepthDiff, DepthSnapshot, Level
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.parquet import read_row_groups
from capture_pipeline.orderbook.local_book import LocalBook
from capture_pipeline.orderbook.synchronization import State, Step
from capture_pipeline.tables.golden.columns import ASK, BID
from capture_pipeline.tables.golden.depth import DEPTH
from capture_pipeline.tables.golden.snapshots import SNAPSHOTS
from capture_pipeline.tables.table import Table

_SECOND_NS = 1_000_000_000
_DEPTH_EVERY = 10

SAMPLE_SCHEMA: dict[str, pl.DataType] = {
    "second": pl.Int64(),
    "bid_e8": pl.Int64(),
    "ask_e8": pl.Int64(),
    "bid_depth_e8": pl.Int64(),
    "ask_depth_e8": pl.Int64(),
}
"""`second` since 1970, of capture; depths are null between their samples."""


class _BookMessage(NamedTuple):
    line: int
    capture_ns: int
    message: DepthDiff | DepthSnapshot


class _Row(NamedTuple):
    """Row of `SAMPLE_SCHEMA`."""

    second: int
    bid_e8: int
    ask_e8: int
    bid_depth_e8: int | None
    ask_depth_e8: int | None


@dataclass
class _Sampler:
    """Samples the book at the end of each second.

    A row waits until the next diff continues the book. If ids are missing before that diff, the book at the
    end of the second is not known.
    """

    levels: int
    rows: list[_Row] = field(default_factory=list)
    second: int = -1
    _waiting: list[_Row] = field(default_factory=list)

    def end_seconds(self, capture_ns: int, sync: LocalBook) -> None:
        """Add a row for the last second with a message, if it ended before this message."""
        second = capture_ns // _SECOND_NS
        if second == self.second:
            return
        best = sync.book.best() if sync.state is State.SYNCED and self.second >= 0 else None
        if best is not None:
            depths: list[int | None] = [None, None]
            if self.second % _DEPTH_EVERY == 0:
                depths = [sum(level.quantity for level in side) for side in sync.book.top(self.levels)]
            self._waiting.append(_Row(self.second, best.bid, best.ask, *depths))
        self.second = second

    def decide(self, step: Step) -> None:
        """Keep the waiting rows if a diff continued the book, and drop them if ids are missing."""
        if step in {Step.APPLIED, Step.BRIDGED}:
            self.rows += self._waiting
        if step in {Step.APPLIED, Step.BRIDGED, Step.GAP}:
            self._waiting.clear()


def sample_seconds(tables: GoldenTables, symbol: str, levels: int = 10) -> pl.DataFrame:
    """Sample the book of one symbol at the end of each second at which it is known.

    Args:
        tables: Tables of the session.
        symbol: Symbol in capitals.
        levels: Number of best levels whose quantities are the depth.

    Returns:
        A frame of `SAMPLE_SCHEMA`; empty if the book never was valid.
    """
    sync, sampler = LocalBook(), _Sampler(levels)
    diffs, snapshots = (_messages(tables.paths(table, symbol), table, symbol) for table in (DEPTH, SNAPSHOTS))
    for _, capture_ns, message in heapq.merge(diffs, snapshots, key=lambda found: found.line):
        sampler.end_seconds(capture_ns, sync)
        if isinstance(message, DepthDiff):
            sampler.decide(sync.process_diff(message))
        else:
            sync.process_snapshot(message)
    return pl.DataFrame(sampler.rows, schema=SAMPLE_SCHEMA, orient="row")


def _messages(paths: list[Path], table: Table, symbol: str) -> Iterator[_BookMessage]:
    """Iterate over the messages of a table. Only one row group is in memory."""
    for path in paths:
        for read in read_row_groups(path):
            frame = pl.from_arrow(read)
            if not isinstance(frame, pl.DataFrame):
                raise TypeError(type(frame))
            yield from _parse_rows(frame, table, symbol)


def _parse_rows(frame: pl.DataFrame, table: Table, symbol: str) -> Iterator[_BookMessage]:
    line = pl.col("line")
    lists = [
        pl.struct("price", "quantity").filter(pl.col("side") == side).alias(name)
        for side, name in ((BID, "bids"), (ASK, "asks"))
    ]
    rows = (
        frame.lazy()
        .with_columns(_text("price_e8").alias("price"), _text("quantity_e8").alias("quantity"))
        .group_by(line, maintain_order=True)
        .agg(pl.exclude("side", "price", "quantity").first(), *lists)
        .collect()
    )
    for row in rows.iter_rows(named=True):
        bids, asks = _pairs(row["bids"]), _pairs(row["asks"])
        if table is SNAPSHOTS:
            message: DepthDiff | DepthSnapshot = DepthSnapshot(row["last_id"], bids, asks)
        else:
            previous = None if row["previous_id"] < 0 else row["previous_id"]
            message = DepthDiff(
                row["event_us"], symbol, row["first_id"], row["last_id"], bids, asks, previous
            )
        yield _BookMessage(row["line"], row["capture_ns"], message)


def _text(column: str) -> pl.Expr:
    """Format units of 1e-8 with eight decimals, as the exchange does."""
    whole, fraction = pl.col(column) // 10**8, pl.col(column) % 10**8
    return whole.cast(pl.String) + "." + fraction.cast(pl.String).str.zfill(8)


def _pairs(levels: list[dict[str, str]]) -> list[Level]:
    return [(level["price"], level["quantity"]) for level in levels]
