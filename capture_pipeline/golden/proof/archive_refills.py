"""Lost trades of a finished session, taken from the daily files that the exchange publishes.

The session itself is not changed: the rows are published in the lake, and each gap is accounted for in the proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import polars as pl

from capture_pipeline.binance.archive.protocol import due_us
from capture_pipeline.binance.periods import DAY_US, SECOND_US, day_bounds, from_us
from capture_pipeline.binance.streams.names import StreamKind, kind_of, symbol_of
from capture_pipeline.binance.urls import AGG_TRADES, Market, TradesFile
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import (
    ChecksumMismatchError,
    LakeError,
    MalformedDataError,
    ProtocolViolationError,
)
from capture_pipeline.golden.proof import published_files
from capture_pipeline.golden.proof.compare import within
from capture_pipeline.golden.proof.report import GapProof
from capture_pipeline.lake.parquet import publish_table
from capture_pipeline.recorder.background.trade_backfill import Refill
from capture_pipeline.sessions.gap_ledger import read_gaps_strictly
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Gap

UNUSABLE = (ChecksumMismatchError, MalformedDataError, LakeError, ProtocolViolationError)
"""What is wrong with one file and says nothing of another; that the exchange cannot be asked ends the proof."""
_KINDS = {StreamKind.TRADE: "trades", StreamKind.AGG_TRADE: AGG_TRADES}
_SLACK_US = 5 * SECOND_US
"""Event times follow trade times by less than this."""


def fill_from_archive(
    workspace: Workspace, folder: SessionFolder, market: Market, now_us: int
) -> list[GapProof]:
    """Find the ids that neither the streams nor REST brought, and publish their rows in `Lake.refills`.

    Args:
        workspace: The deployment that is asked, and whose lake keeps the rows.
        folder: Of a finished session.
        market: Of the session.
        now_us: By the exchange's clock.

    Returns:
        The account of each gap of a stream of trades or aggregates that REST did not complete.

    Raises:
        LakeError: The gap ledger is damaged.
        CaptureError: The exchange could not be asked, or the disk refused.
    """
    found = [
        _of_gap(workspace, folder, market, gap, now_us)
        for gap in read_gaps_strictly(folder.gaps)
        if kind_of(gap.stream) in _KINDS and gap.filled_by is None
    ]
    rows = [frame for _, frame in found if frame is not None and frame.height]
    if rows:
        publish_table(pl.concat(rows), workspace.lake.refills(folder.session))
    return [account for account, _ in found]


def _of_gap(
    workspace: Workspace, folder: SessionFolder, market: Market, gap: Gap, now_us: int
) -> tuple[GapProof, pl.DataFrame | None]:
    refill = Refill(gap, folder.refilled)
    account = GapProof(
        stream=gap.stream,
        first_lost=gap.last_good_id + 1,
        last_lost=gap.first_good_id - 1,
        by_rest=refill.ids_refilled,
        due_us=due_us(list(_days(gap))[-1]),
    )
    parts: list[pl.DataFrame] = []
    for day in _days(gap):
        file = TradesFile(market, symbol_of(gap.stream), day, _KINDS[kind_of(gap.stream)])
        try:
            published = published_files.trades_of(workspace, file) if day_bounds(day)[1] <= now_us else None
        except UNUSABLE as error:
            return account.model_copy(update={"uncompared": str(error)}), None
        if published is None:
            return account.model_copy(update={"waits_for": file.name}), None
        frame = published.frame
        is_lost = within(frame["trade_id"], [(account.first_lost, account.last_lost)]) & ~within(
            frame["trade_id"], refill.returned_ranges
        )
        parts.append(frame.filter(is_lost).with_columns(pl.lit(gap.stream).alias("stream")))
    rows = pl.concat(parts).unique("trade_id", keep="first", maintain_order=True)
    not_published = account.last_lost - account.first_lost + 1 - account.by_rest - rows.height
    return account.model_copy(update={"by_archive": rows.height, "not_published": not_published}), rows


def _days(gap: Gap) -> Iterator[date]:
    """Days in which lost trades may lie, by the exchange's clock where it is known."""
    start_us = (gap.start_event_us or gap.start_ns // 1000) - _SLACK_US
    end_us = gap.end_event_us or gap.end_ns // 1000
    for number in range(start_us // DAY_US, end_us // DAY_US + 1):
        yield from_us(number * DAY_US).date()
