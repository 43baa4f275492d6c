"""From REST to raw answers: what no archive file has yet, and the holes inside them.

Every answer is kept as sent. An answer without a candle is a sighting of its absence; two of them, far enough apart, verify that
the candle does not exist, and it is not asked for again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

import polars as pl

from capture_pipeline.binance.archive.klines import count_lengths, parse_rest, refuse_other_interval
from capture_pipeline.binance.periods import SECOND_US, Interval, iso
from capture_pipeline.binance.rest.client import PAGE_ROWS, UNKNOWN_SYMBOL
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.deployment.venue_guard import ensure_venue
from capture_pipeline.errors import ProtocolViolationError, RequestRefusedError
from capture_pipeline.klines.ingest.altered_files import is_unaltered
from capture_pipeline.klines.ingest.trading_period import fetch_trading_period, trading_range
from capture_pipeline.klines.quality.ranges import (
    Range,
    Ranges,
    batch_ranges,
    find_present,
    intersect,
    subtract,
    total_length,
    union,
)
from capture_pipeline.klines.quality.sightings import find_absent, find_nonexistent, find_recently_absent
from capture_pipeline.lake.files import file_lock, publish_bytes, publish_model, read_model
from capture_pipeline.lake.manifests import ArchivesManifest, RestPage, TopupsManifest, TradingPeriod
from capture_pipeline.lake.paths import Partition
from capture_pipeline.settings.models import Gaps

KLINE_MARGIN_US = 10 * SECOND_US
"""Time after a candle's end, by the exchange's clock, before REST is asked for it.

The exchange's spot REST documentation states the data source of klines as a database, where "some delay in the response is normal", and
gives no figure. Ten seconds is this project's choice; a candle that is asked for earlier may be missing or still unfinished.
"""


@dataclass(frozen=True)
class TopupResult:
    """What was done for one partition.

    Attributes:
        partition: Which one.
        manifest: All its answers now.
        pages: Requests made this time.
        rows: Finished candles they brought.
        still_missing: Candles that neither archive nor REST has.
        archive_only: Status of a symbol whose klines REST refuses, for instance SETTLING; empty where REST serves them.
    """

    partition: Partition
    manifest: TopupsManifest
    pages: int
    rows: int
    still_missing: int
    archive_only: str = ""


def fill_from_rest(workspace: Workspace, partition: Partition, now_us: int) -> TopupResult:
    """Ask REST for what the archive lacks in one partition.

    Args:
        workspace: The deployment.
        partition: Which one.
        now_us: The exchange's time; candles that close after it are unfinished and left out.

    Raises:
        BannedError: The exchange has banned this address; nothing is sent until the ban ends.
        ConfigError: The lake is another exchange's.
        ProtocolViolationError: A page does not advance or is out of what was asked.
        CaptureError: The exchange could not be asked; answers that came are kept, but for one with a hole that has no time.
    """
    ensure_venue(workspace)
    lake = workspace.lake
    with file_lock(lake.lock(partition)):
        archives = read_model(lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
        manifest = read_model(lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()
        recorded = manifest.pages
        # What is gone or altered is asked for again, if it is still worth asking; so is what an earlier version asked off the grid.
        on_grid = [page for page in recorded if page.asked_start_us % partition.interval.us == 0]
        manifest.pages = [
            page for page in on_grid if is_unaltered(workspace, partition, page.path, page.sha256)
        ]
        before = len(manifest.pages)
        try:
            trading_period = _trading_period(workspace, partition, archives, now_us)
            missing = ranges_to_request(
                partition,
                archives,
                manifest,
                trading_period=trading_period,
                gaps=workspace.settings.gaps,
                now_us=now_us,
            )
            for span in batch_ranges(missing, PAGE_ROWS * partition.interval.us):
                for page in _ask_span(workspace, partition, span, now_us):
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
    """Return what REST has added to one partition.

    Args:
        partition: Which one.
        archives: Its archive files.
        manifest: Its answers.
        trading_period: First and last candle of the symbol; None where they are not known or do not matter.
        now_us: The present.
        before: Number of answers that were there before this time; None for all.
    """
    left = subtract(
        _expected_ranges(partition, archives, trading_period, now_us),
        union(find_archive_ranges(archives), find_rest_ranges(manifest)),
    )
    new = manifest.pages[len(manifest.pages) if before is None else before :]
    archive_only = (
        trading_period.status if trading_period is not None and trading_period.is_archive_only else ""
    )
    rows = sum(page.rows for page in new)
    return TopupResult(
        partition, manifest, len(new), rows, total_length(left) // partition.interval.us, archive_only
    )


def ranges_to_request(
    partition: Partition,
    archives: ArchivesManifest,
    manifest: TopupsManifest,
    *,
    trading_period: TradingPeriod | None,
    gaps: Gaps,
    now_us: int,
) -> Ranges:
    """The ranges worth a request now: missing, not verified as non-existent, not seen missing a moment ago."""
    if trading_period is not None and trading_period.is_archive_only:
        return []
    missing = subtract(
        _expected_ranges(partition, archives, trading_period, now_us),
        union(find_archive_ranges(archives), find_rest_ranges(manifest)),
    )
    return subtract(
        missing,
        union(find_nonexistent(manifest.pages, gaps), find_recently_absent(manifest.pages, gaps, now_us)),
    )


def closed_end_us(partition: Partition, now_us: int) -> int:
    """Return the end of the month's candles that are expected by now, microseconds UTC."""
    month = partition.month
    return max(month.start_us, min(month.end_us, partition.interval.floor(now_us - KLINE_MARGIN_US)))


def find_archive_ranges(archives: ArchivesManifest) -> Ranges:
    """The candles that usable archive files hold."""
    return union(
        *(subtract([(record.start_us, record.end_us)], record.holes) for record in archives.usable())
    )


def find_rest_ranges(manifest: TopupsManifest) -> Ranges:
    """The candles that REST answers hold."""
    return union(*(page.present for page in manifest.pages))


def select_closed(rows: pl.DataFrame, interval: Interval, server_time_us: int) -> pl.DataFrame:
    """The candles that had closed when they were asked for; what was unfinished then is no bar, whatever a clock says now."""
    return rows.filter(pl.col("open_time_us") + interval.us <= server_time_us)


def _expected_ranges(
    partition: Partition, archives: ArchivesManifest, trading_period: TradingPeriod | None, now_us: int
) -> Ranges:
    """Candles of the month that should exist by now, as far as is known."""
    whole = (partition.month.start_us, closed_end_us(partition, now_us))
    if trading_period is not None and trading_period.first_open_us is None and not archives.usable():
        return []
    return intersect([whole], [trading_range(trading_period, partition, archives)])


def _trading_period(
    workspace: Workspace, partition: Partition, archives: ArchivesManifest, now_us: int
) -> TradingPeriod | None:
    """The trading_period of the symbol, asked only where the archive leaves something open."""
    whole = (partition.month.start_us, closed_end_us(partition, now_us))
    return (
        fetch_trading_period(workspace, partition.symbol, now_us)
        if subtract([whole], find_archive_ranges(archives))
        else None
    )


def _ask_span(workspace: Workspace, partition: Partition, span: Range, now_us: int) -> Iterator[RestPage]:
    """Page through one span until it is answered whole."""
    at, end = span
    while at < end:
        page = _ask_page(workspace, partition, at, end, now_us)
        if page is None:
            return
        yield page
        at = page.answered_end_us


def _ask_page(
    workspace: Workspace, partition: Partition, start_us: int, end_us: int, now_us: int
) -> RestPage | None:
    """One answer, None where the exchange does not know the symbol.

    Where a candle is absent, the exchange's clock is read again, right after the answer: `now_us` is of the start of a run that may
    have waited for an hour, and a local clock need not run like the exchange's. A request waits for the weight budget and is repeated
    before it is answered, so the time after it is nearer to the answer than the time before. Holes are few, and so are these requests.
    """
    endpoint, params = workspace.rest.klines_url(partition.symbol, partition.interval, start_us, end_us)
    where = f"{endpoint}?{urlencode(params)}"
    try:
        body = workspace.rest.klines(partition.symbol, partition.interval, start_us, end_us)
    except RequestRefusedError as error:
        if error.code in UNKNOWN_SYMBOL:
            return None
        raise
    sent = parse_rest(body, where)
    _check_page(sent, partition.interval, (start_us, end_us), where)
    rows = select_closed(sent, partition.interval, now_us)
    held = find_present(rows["open_time_us"].to_numpy(), partition.interval.us, (start_us, end_us))
    digest = hashlib.sha256(body).hexdigest()
    path = workspace.lake.rest_file(partition, start_us, end_us, digest)
    publish_bytes(path, body)
    # A page with rows is complete up to its last row only: it may be short. An empty one says that nothing follows.
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
        path=workspace.lake.relative(path),
        sha256=digest,
        rows=rows.height,
        present=held,
    )
    return (
        page.model_copy(update={"asked_at_us": workspace.rest.server_time_us()})
        if find_absent(page)
        else page
    )


def _check_page(rows: pl.DataFrame, interval: Interval, asked: Range, where: str) -> None:
    start_us, end_us = asked
    if rows.height > PAGE_ROWS:
        raise ProtocolViolationError(
            f"answers with {rows.height} rows, {PAGE_ROWS} were asked for", where=where
        )
    if not rows.height:
        return
    opens = rows["open_time_us"]
    lowest, highest = int(opens.min()), int(opens.max())  # type: ignore[arg-type]
    if lowest < start_us or highest >= end_us:
        remedy = "the page does not advance; nothing of it is used"
        raise ProtocolViolationError(
            f"answers with candles from {iso(lowest)} to {iso(highest)}", where=where, remedy=remedy
        )
    if not opens.is_sorted() or opens.n_unique() != rows.height:
        raise ProtocolViolationError(
            "answers with candles out of order or twice", where=where, remedy="nothing of it is used"
        )
    refuse_other_interval(count_lengths(rows, interval), interval, where)
