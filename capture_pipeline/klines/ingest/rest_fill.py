"""Requests to REST for klines that no archive file contains.

Every answer is stored as sent. An answer without a kline is a sighting of its absence. Two sightings, far
enough apart, prove that the kline does not exist, and it is not requested again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from capture_pipeline.binance.archive.klines.interval import count_lengths, reject_other_interval
from capture_pipeline.binance.archive.klines.parser import parse_rest
from capture_pipeline.binance.periods import SECOND_US, Interval, TimeRange, iso
from capture_pipeline.binance.rest.client import PAGE_ROWS, UNKNOWN_SYMBOL
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.deployment.lake_guard import lock_partition
from capture_pipeline.errors import ProtocolViolationError, RequestRefusedError
from capture_pipeline.klines.ingest.download import verify_or_quarantine
from capture_pipeline.klines.ingest.trading_period import fetch_trading_period, find_trading_range
from capture_pipeline.klines.quality.absence import find_absent, find_nonexistent, find_recently_absent
from capture_pipeline.klines.quality.ranges import (
    Ranges,
    batch_ranges,
    find_present,
    intersect,
    subtract,
    sum_lengths,
    union,
)
from capture_pipeline.lake.files import publish_bytes, publish_model, read_model
from capture_pipeline.lake.manifests import ArchivesManifest, RestPage, TopupsManifest, TradingPeriod
from capture_pipeline.lake.paths import Partition
from capture_pipeline.settings.models import Gaps

_REMEDY = "check the endpoint and the proxy; this answer is not used"
KLINE_MARGIN_US = 10 * SECOND_US
"""Time between the end of a kline and its first request, by the exchange's clock.

The exchange's spot REST documentation states the data source of klines as a database, where "some delay in
the response is normal", and gives no figure. Ten seconds is this project's choice. A kline that is requested
earlier may be missing or unfinished.
"""


@dataclass(frozen=True)
class TopupResult:
    """REST answers of one partition after a run.

    Attributes:
        partition: The partition.
        manifest: All answers of the partition.
        pages: Number of requests of this run.
        rows: Number of closed klines in the answers of this run.
        still_missing: Number of expected klines that neither the archive nor REST has.
        archive_only: Status of a symbol whose klines REST refuses, for instance SETTLING; empty if REST
            serves them.
    """

    partition: Partition
    manifest: TopupsManifest
    pages: int
    rows: int
    still_missing: int
    archive_only: str = ""


def fill_from_rest(deployment: Deployment, partition: Partition, now_us: int) -> TopupResult:
    """Request the klines of one partition that the archive lacks.

    Args:
        partition: The partition.
        now_us: The exchange's time; klines that close later are unfinished and not used.

    Raises:
        BannedError: The exchange has banned this address; nothing is sent until the ban ends.
        ConfigError: The lake belongs to another exchange.
        ProtocolViolationError: An answer contains klines outside the requested range, or in a wrong order.
        CaptureError: A request failed. Earlier answers remain recorded. An answer with a hole is recorded
            only after a further request for the exchange's time.
    """
    lake = deployment.lake
    with lock_partition(deployment, partition, is_download=True):
        archives = read_model(lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
        manifest = read_model(lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()
        recorded = manifest.pages
        # Ranges of missing or altered files are requested again. So are ranges that an earlier version of the
        # program requested off the grid.
        on_grid = [page for page in recorded if page.asked_start_us % partition.interval.us == 0]
        manifest.pages = [
            page for page in on_grid if verify_or_quarantine(lake, partition, page.path, page.sha256)
        ]
        before = len(manifest.pages)
        try:
            trading_period = _fetch_period_if_needed(deployment, partition, archives, now_us)
            missing = find_ranges_to_request(
                partition,
                archives,
                manifest,
                trading_period=trading_period,
                gaps=deployment.settings.gaps,
                now_us=now_us,
            )
            for span in batch_ranges(missing, PAGE_ROWS * partition.interval.us):
                for page in _request_span(deployment, partition, span, now_us):
                    manifest.pages.append(page)
        finally:
            if manifest.pages != recorded:
                publish_model(lake.topups_manifest(partition), manifest)
    return build_topup_result(
        partition, archives, manifest, trading_period=trading_period, now_us=now_us, before=before
    )


def build_topup_result(
    partition: Partition,
    archives: ArchivesManifest,
    manifest: TopupsManifest,
    *,
    trading_period: TradingPeriod | None,
    now_us: int,
    before: int | None = None,
) -> TopupResult:
    """Build the result for one partition from its manifests.

    Args:
        partition: The partition.
        archives: Manifest of the archive files.
        manifest: Manifest of the REST answers.
        trading_period: First and last kline of the symbol; None if it is unknown or was not needed.
        now_us: The present time.
        before: Number of answers before this run; None if this run sent no request.
    """
    missing = subtract(
        _find_expected_ranges(partition, archives, trading_period, now_us),
        union(find_archive_ranges(archives), find_rest_ranges(manifest)),
    )
    new = manifest.pages[len(manifest.pages) if before is None else before :]
    archive_only = (
        trading_period.status if trading_period is not None and trading_period.is_archive_only else ""
    )
    rows = sum(page.rows for page in new)
    return TopupResult(
        partition, manifest, len(new), rows, sum_lengths(missing) // partition.interval.us, archive_only
    )


def find_ranges_to_request(
    partition: Partition,
    archives: ArchivesManifest,
    manifest: TopupsManifest,
    *,
    trading_period: TradingPeriod | None,
    gaps: Gaps,
    now_us: int,
) -> Ranges:
    """Find the ranges to request now: missing, not proven not to exist, and not observed missing recently."""
    if trading_period is not None and trading_period.is_archive_only:
        return []
    missing = subtract(
        _find_expected_ranges(partition, archives, trading_period, now_us),
        union(find_archive_ranges(archives), find_rest_ranges(manifest)),
    )
    return subtract(
        missing,
        union(find_nonexistent(manifest.pages, gaps), find_recently_absent(manifest.pages, gaps, now_us)),
    )


def closed_end_us(partition: Partition, now_us: int) -> int:
    """Return the end of the last kline of the month that is expected by `now_us`, microseconds UTC."""
    month = partition.month
    return max(month.start_us, min(month.end_us, partition.interval.floor(now_us - KLINE_MARGIN_US)))


def find_archive_ranges(archives: ArchivesManifest) -> Ranges:
    """Find the ranges of klines in usable archive files."""
    return union(*(subtract([record.bounds], record.holes) for record in archives.usable()))


def find_rest_ranges(manifest: TopupsManifest) -> Ranges:
    """Find the ranges of klines in REST answers."""
    return union(*(page.present for page in manifest.pages))


def select_closed(rows: pl.DataFrame, interval: Interval, server_time_us: int) -> pl.DataFrame:
    """Select the klines that were closed at the time of their request; later klines were unfinished."""
    return rows.filter(pl.col("open_time_us") + interval.us <= server_time_us)


def _find_expected_ranges(
    partition: Partition, archives: ArchivesManifest, trading_period: TradingPeriod | None, now_us: int
) -> Ranges:
    """Find the ranges of the month in which klines are expected by `now_us`."""
    whole = TimeRange(partition.month.start_us, closed_end_us(partition, now_us))
    if trading_period is not None and trading_period.first_open_us is None and not archives.usable():
        return []
    return intersect([whole], [find_trading_range(trading_period, partition, archives)])


def _fetch_period_if_needed(
    deployment: Deployment, partition: Partition, archives: ArchivesManifest, now_us: int
) -> TradingPeriod | None:
    """Fetch the trading period of a symbol; None if the archive files are complete."""
    whole = TimeRange(partition.month.start_us, closed_end_us(partition, now_us))
    return (
        fetch_trading_period(deployment, partition.symbol, now_us)
        if subtract([whole], find_archive_ranges(archives))
        else None
    )


def _request_span(
    deployment: Deployment, partition: Partition, span: TimeRange, now_us: int
) -> Iterator[RestPage]:
    """Request the pages of one span until an answer reaches its end."""
    at, end = span
    while at < end:
        page = _request_page(deployment, partition, at, end, now_us)
        if page is None:
            return
        yield page
        at = page.answered_end_us


def _request_page(
    deployment: Deployment, partition: Partition, start_us: int, end_us: int, now_us: int
) -> RestPage | None:
    """Request one page; None if the exchange does not know the symbol.

    If a kline is absent, the exchange's time is requested after the answer. `now_us` is the time of the start
    of the run, which may be an hour ago, and the local clock may differ from the exchange's clock. The time
    after the answer is used because a request may wait for the weight budget and be repeated before it is
    answered. Holes are rare, so these additional requests are rare too.
    """
    where = deployment.rest.klines_url(partition.symbol, partition.interval, start_us, end_us)
    try:
        body = deployment.rest.klines(partition.symbol, partition.interval, start_us, end_us)
    except RequestRefusedError as error:
        if error.code in UNKNOWN_SYMBOL:
            return None
        raise
    sent = parse_rest(body, where)
    requested = TimeRange(start_us, end_us)
    _check_page(sent, partition.interval, requested, where)
    rows = select_closed(sent, partition.interval, now_us)
    present = find_present(rows["open_time_us"].to_numpy(), partition.interval.us, requested)
    digest = hashlib.sha256(body).hexdigest()
    path = deployment.lake.rest_file(partition, start_us, end_us, digest)
    publish_bytes(path, body)
    # A page with rows is complete only up to its last row, because it may be short. An empty page is
    # complete.
    answered = (
        partition.interval.floor(int(sent["open_time_us"][-1])) + partition.interval.us
        if sent.height
        else end_us
    )
    page = RestPage(
        asked_start_us=start_us,
        asked_end_us=end_us,
        server_time_us=now_us,
        answered_end_us=answered,
        url=where,
        path=deployment.lake.relative(path),
        sha256=digest,
        rows=rows.height,
        present=present,
    )
    return (
        page.model_copy(update={"asked_at_us": deployment.rest.server_time_us()})
        if find_absent(page)
        else page
    )


def _check_page(rows: pl.DataFrame, interval: Interval, requested: TimeRange, where: str) -> None:
    start_us, end_us = requested
    if rows.height > PAGE_ROWS:
        raise ProtocolViolationError(
            f"answers with {rows.height} rows, {PAGE_ROWS} were requested", where=where
        )
    if not rows.height:
        return
    opens = rows["open_time_us"]
    lowest, highest = int(opens.min()), int(opens.max())  # type: ignore[arg-type]
    if lowest < start_us or highest >= end_us:
        raise ProtocolViolationError(
            f"answers with klines from {iso(lowest)} to {iso(highest)}, which were not requested",
            where=where,
            remedy=_REMEDY,
        )
    if not opens.is_sorted() or opens.n_unique() != rows.height:
        raise ProtocolViolationError("answers with klines out of order or twice", where=where, remedy=_REMEDY)
    reject_other_interval(count_lengths(rows, interval), interval, where)
