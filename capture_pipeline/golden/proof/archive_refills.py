"""Backfill of lost trades of a finished session from the daily files of the exchange.

The session itself does not change: the rows are published in the lake, and the proof has a result for each
gap.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

import polars as pl

from capture_pipeline.binance.archive.protocol import due_us
from capture_pipeline.binance.periods import DAY_US, SECOND_US, day_bounds, from_us
from capture_pipeline.binance.streams.names import StreamKind, kind_of, symbol_of
from capture_pipeline.binance.urls import AGG_TRADES, Market, TradesFile
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import (
    ChecksumMismatchError,
    LakeError,
    MalformedDataError,
    ProtocolViolationError,
)
from capture_pipeline.golden.proof import published_files
from capture_pipeline.golden.proof.comparison import is_within
from capture_pipeline.golden.proof.report import GapProof
from capture_pipeline.lake.parquet import publish_table
from capture_pipeline.recorder.background.trade_backfill import Refill
from capture_pipeline.sessions.continuity import IdRange
from capture_pipeline.sessions.gap_ledger import read_gaps_strictly
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Gap
from capture_pipeline.tables.golden.refills import REFILLS

FILE_ERRORS = (ChecksumMismatchError, MalformedDataError, LakeError, ProtocolViolationError)
"""Errors of one file. The proof continues with other files; an unreachable exchange ends the proof."""
_KINDS = {StreamKind.TRADE: "trades", StreamKind.AGG_TRADE: AGG_TRADES}
_SLACK_US = 5 * SECOND_US
"""Upper limit of event time minus trade time."""


def fill_from_archive(
    deployment: Deployment, folder: SessionFolder, market: Market, now_us: int
) -> list[GapProof]:
    """Find trades in the archive that streams and REST lack, and write their rows to `Lake.refills`.

    Args:
        deployment: Deployment with the lake and the client of the archive.
        folder: Folder of a finished session.
        market: Market of the session.
        now_us: Time by the exchange's clock, microseconds UTC.

    Returns:
        A result for each gap of trades or aggregate trades that REST did not fill.

    Raises:
        LakeError: The gap ledger is damaged.
        CaptureError: A request to the exchange failed, or a file cannot be written.
    """
    found = [
        _prove_gap(deployment, folder, market, gap, now_us)
        for gap in read_gaps_strictly(folder.gaps)
        if kind_of(gap.stream) in _KINDS and gap.filled_by is None
    ]
    rows = [each.frame for each in found if each.frame is not None and each.frame.height]
    if rows:
        publish_table(pl.concat(rows).select(*REFILLS.schema), deployment.lake.refills(folder.session))
    return [each.account for each in found]


class _ProvedGap(NamedTuple):
    """Result of a gap, and the trades that the archive has; None if a file is missing."""

    account: GapProof
    frame: pl.DataFrame | None


def _prove_gap(
    deployment: Deployment, folder: SessionFolder, market: Market, gap: Gap, now_us: int
) -> _ProvedGap:
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
            published = (
                published_files.fetch_trades(deployment, file) if day_bounds(day).end_us <= now_us else None
            )
        except FILE_ERRORS as error:
            return _ProvedGap(account.model_copy(update={"uncompared": str(error)}), None)
        if published is None:
            return _ProvedGap(account.model_copy(update={"waits_for": file.name}), None)
        frame = published.frame
        is_lost = is_within(frame["trade_id"], [IdRange(account.first_lost, account.last_lost)]) & ~is_within(
            frame["trade_id"], refill.returned_ranges
        )
        parts.append(frame.filter(is_lost).with_columns(pl.lit(gap.stream).alias("stream")))
    rows = pl.concat(parts).unique("trade_id", keep="first", maintain_order=True)
    not_published = account.last_lost - account.first_lost + 1 - account.by_rest - rows.height
    counts = {"by_archive": rows.height, "not_published": not_published}
    return _ProvedGap(account.model_copy(update=counts), rows)


def _days(gap: Gap) -> Iterator[date]:
    """Iterate over the days that may contain the lost trades, by event time if it is known."""
    start_us = (gap.start_event_us or gap.start_ns // 1000) - _SLACK_US
    end_us = gap.end_event_us or gap.end_ns // 1000
    for number in range(start_us // DAY_US, end_us // DAY_US + 1):
        yield from_us(number * DAY_US).date()
