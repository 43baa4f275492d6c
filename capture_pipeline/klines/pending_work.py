"""Search for partitions that need work: a monthly file to download, holes to fill, checksums to read again.

A partition with a damaged manifest is reported and does not stop the search. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import DAY_US, Month
from capture_pipeline.binance.urls import ArchiveFile, Granularity, archive_folder
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import LakeError
from capture_pipeline.klines.ingest.rest_fill import find_ranges_to_request
from capture_pipeline.klines.ingest.trading_period import load_trading_period
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import ArchivesManifest, TopupsManifest, TradingPeriod
from capture_pipeline.lake.parquet import read_table
from capture_pipeline.lake.paths import Partition

_MONTHS_WATCHED = 3


@dataclass(frozen=True)
class WorkList:
    """Partitions that need work.

    Attributes:
        partitions: The partitions.
        damaged: Partitions that could not be examined, each with its error.
    """

    partitions: list[Partition] = field(default_factory=list)
    damaged: dict[Partition, LakeError] = field(default_factory=dict)

    @contextmanager
    def skip_damaged(self, partition: Partition) -> Iterator[None]:
        """Record a `LakeError` about a partition instead of raising it."""
        try:
            yield
        except LakeError as error:
            self.damaged[partition] = error


def find_closable(deployment: Deployment, now_us: int) -> WorkList:
    """Find ended months whose monthly file is published and not downloaded.

    Only the last three ended months are examined; a backfill updates older ones. One listing is requested for
    each symbol with a month that has no monthly file.
    """
    closed = [month for month in deployment.months(now_us) if month.end_us <= now_us][-_MONTHS_WATCHED:]
    found = WorkList()
    for symbol in deployment.settings.symbols:
        waiting: list[Partition] = []
        for part in deployment.partitions([symbol], closed):
            with found.skip_damaged(part):
                if _is_ingested(deployment, part) and not _has_monthly(deployment, part):
                    waiting.append(part)
        if waiting:
            prefix = archive_folder(
                deployment.settings.market, Granularity.MONTHLY, symbol, deployment.settings.interval
            )
            published = {entry.key for entry in deployment.archive.listing(prefix)}
            files = {part: ArchiveFile(part.market, symbol, part.interval, part.month) for part in waiting}
            found.partitions.extend(part for part, file in files.items() if file.path in published)
    return found


def find_fillable(deployment: Deployment, now_us: int) -> WorkList:
    """Find months with holes that are worth a request to REST now, among months with a gap ledger.

    A hole that is proven not to exist, or whose absence was observed a moment ago, is not requested. The
    requests for a hole therefore end. The search itself sends no request.
    """
    found = WorkList()
    trading_period_of = cache(partial(load_trading_period, deployment))
    for part in _list_partitions(deployment, now_us):
        with found.skip_damaged(part):
            if _is_fillable(deployment, part, now_us, trading_period_of):
                found.partitions.append(part)
    return found


def find_unfinished(deployment: Deployment, now_us: int) -> list[Partition]:
    """Find partitions whose ledger was computed before the end of their month, including the open month.

    A partition whose ledger cannot be read is also returned.
    """
    parts = [part for part in _list_partitions(deployment, now_us) if deployment.lake.window(part).is_file()]
    return [part for part in parts if not _is_finished(deployment, part)]


def find_due_for_recheck(deployment: Deployment, now_us: int, limit: int) -> WorkList:
    """Find partitions whose published checksums were last read `archive.recheck_days` ago or earlier.

    Args:
        now_us: The present time.
        limit: Maximum number of partitions; the oldest ones are returned.
    """
    age = deployment.settings.archive.recheck_days * DAY_US
    due: dict[Partition, int] = {}
    found = WorkList()
    for part in _list_partitions(deployment, now_us):
        with found.skip_damaged(part):
            manifest = (
                read_model(deployment.lake.archives_manifest(part), ArchivesManifest) or ArchivesManifest()
            )
            oldest = min((record.checked_at_us for record in manifest.downloaded()), default=now_us)
            if now_us - oldest >= age:
                due[part] = oldest
    found.partitions.extend(sorted(due, key=lambda part: (due[part], str(part)))[:limit])
    return found


def _list_partitions(deployment: Deployment, now_us: int) -> list[Partition]:
    return deployment.partitions(deployment.settings.symbols, deployment.months(now_us))


def _is_finished(deployment: Deployment, partition: Partition) -> bool:
    try:
        return bool(
            read_table(deployment.lake.window(partition), ["end_us"])["end_us"].item()
            >= partition.month.end_us
        )
    except LakeError:
        return False


def _is_ingested(deployment: Deployment, partition: Partition) -> bool:
    return deployment.lake.archives_manifest(partition).is_file()


def _has_monthly(deployment: Deployment, partition: Partition) -> bool:
    """Report whether the monthly file is downloaded, or was rejected and has no newer version since."""
    manifest = (
        read_model(deployment.lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
    )
    monthly = [record for record in manifest.files if record.granularity is Granularity.MONTHLY]
    return any(
        record.usable or record.trust not in {Trust.NOT_PUBLISHED, Trust.REPUBLISHED} for record in monthly
    )


def _is_fillable(
    deployment: Deployment,
    partition: Partition,
    now_us: int,
    trading_period_of: Callable[[str], TradingPeriod | None],
) -> bool:
    """Report whether a partition has a hole that is older than a day; the daily update fills newer ones."""
    lake = deployment.lake
    archives = read_model(lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
    start_us, end_us = partition.month.start_us, partition.month.end_us
    if any(
        file.start_us <= start_us and end_us <= file.end_us and not file.holes for file in archives.usable()
    ):
        # Most partitions have a complete monthly file: one manifest is read, and nothing can be missing.
        return False
    if not lake.window(partition).is_file():
        return False
    topups = read_model(lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()
    requested = find_ranges_to_request(
        partition,
        archives,
        topups,
        trading_period=trading_period_of(partition.symbol),
        gaps=deployment.settings.gaps,
        now_us=now_us,
    )
    yesterday = now_us - DAY_US
    return any(start < yesterday for start, _ in requested) and Month.of(now_us) >= partition.month
