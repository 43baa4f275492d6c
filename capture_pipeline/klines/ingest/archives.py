"""Download of verified raw files from the archive: monthly zips, and daily zips for the bars they lack.

A verified file is not downloaded again unless it was altered on the disk. A file that fails its checksum
twice, or is not a kline file, is moved to the quarantine with the reason. Daily files or REST then replace
it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import DAY_US
from capture_pipeline.binance.urls import ArchiveFile
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.deployment.lake_guard import ensure_venue, lock_partition
from capture_pipeline.errors import CaptureError
from capture_pipeline.klines.ingest.archive_files import ArchiveFiles
from capture_pipeline.klines.quality.ranges import find_whole_steps, intersect, subtract
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest
from capture_pipeline.lake.paths import Partition, PartitionOutcome

T = TypeVar("T")
_POLL_INTERVAL_S = 0.2
_MAX_SINGLE_REQUESTS = 2


@dataclass(frozen=True)
class ArchivesResult:
    """Archive files of one partition after a download.

    Attributes:
        partition: The partition.
        manifest: All files of the partition.
        fetched: Names of the files that this run downloaded.
    """

    partition: Partition
    manifest: ArchivesManifest
    fetched: list[str]

    @property
    def quarantined(self) -> list[ArchiveRecord]:
        """Files in the quarantine."""
        return [record for record in self.manifest.files if record.quarantined]

    @property
    def unverified(self) -> list[ArchiveRecord]:
        """Files that are not used because their checksum is missing or unreadable."""
        return [record for record in self.manifest.files if record.unverified]


def fetch_partitions(
    deployment: Deployment, partitions: Sequence[Partition], now_us: int, *, check_revisions: bool = False
) -> Generator[PartitionOutcome[ArchivesResult]]:
    """Download the archive files of many partitions in parallel.

    The first and the last month of every symbol come first, so that a wrong symbol or range is reported in
    seconds. If the caller closes the generator, no further file or attempt is started, and running downloads
    stop.

    Args:
        partitions: The partitions.
        now_us: The present time.
        check_revisions: Read the published checksum of each recorded file again, and download files with a
            new one.

    Yields:
        Each partition with its result, or with the error that ended its download.

    Raises:
        ConfigError: The lake belongs to another exchange; nothing was requested.
        CaptureError: The venue of the lake cannot be read or recorded.
    """
    ensure_venue(deployment)
    thread_count = deployment.settings.http.parallel_downloads
    cancel = threading.Event()

    def fetch_one(part: Partition) -> ArchivesResult:
        return fetch_archives(deployment, part, now_us, cancel=cancel, check_revisions=check_revisions)

    pool = ThreadPoolExecutor(thread_count, thread_name_prefix="archive")
    try:
        for group in _split_edges(partitions):
            waiting, running = iter(group), deque[tuple[Partition, Future[ArchivesResult]]]()
            while True:
                # Few downloads run ahead of the caller: parsed files are still in memory, and memory is
                # bounded.
                started = islice(waiting, thread_count + 1 - len(running))
                running.extend((part, pool.submit(fetch_one, part)) for part in started)
                if not running:
                    break
                part, future = running.popleft()
                try:
                    yield PartitionOutcome(part, result_interruptibly(future))
                except CaptureError as error:
                    yield PartitionOutcome(part, error)
    finally:
        cancel.set()
        pool.shutdown(wait=False, cancel_futures=True)


def result_interruptibly(future: Future[T]) -> T:
    """Return or raise the result of a future. Wait in short steps, so that an interrupt is not delayed."""
    while not wait([future], _POLL_INTERVAL_S).done:
        pass
    return future.result()


def fetch_archives(
    deployment: Deployment,
    partition: Partition,
    now_us: int,
    *,
    cancel: threading.Event | None = None,
    check_revisions: bool = False,
) -> ArchivesResult:
    """Download the published archive files that one partition lacks.

    Args:
        deployment: The deployment.
        partition: The partition.
        now_us: The present time; a file is not requested before the end of its period.
        cancel: Event that stops further files and further attempts.
        check_revisions: Read the published checksum of each recorded file again, and download files with a
            new one.

    Raises:
        BusyError: Another run had the lock of this partition for `LOCK_TIMEOUT_S`.
        ConfigError: The lake belongs to another exchange.
        CaptureError: A checksum or a file cannot be downloaded; files that were downloaded before it remain
            recorded.
    """
    with lock_partition(deployment, partition, is_download=True, cancel=cancel):
        archive = ArchiveFiles(deployment, partition, now_us, cancel)
        if check_revisions:
            archive.recheck()
        with archive.recorded():
            archive.quarantine_altered()
            _fetch_files(deployment, partition, archive, now_us, cancel)
    return ArchivesResult(partition, archive.manifest, archive.fetched)


def recheck_partition(deployment: Deployment, partition: Partition, now_us: int) -> list[ArchiveRecord]:
    """Read the published checksum of each file again and mark the files to download again.

    Args:
        deployment: The deployment.
        partition: The partition.
        now_us: The present time.

    Returns:
        The marked files; see `ArchiveFiles.recheck`.

    Raises:
        ConfigError: The lake belongs to another exchange.
        CaptureError: A checksum cannot be downloaded, or the manifest cannot be read or written.
    """
    with lock_partition(deployment, partition, may_wait=False):
        return ArchiveFiles(deployment, partition, now_us).recheck()


def _fetch_files(
    deployment: Deployment,
    partition: Partition,
    archive: ArchiveFiles,
    now_us: int,
    cancel: threading.Event | None,
) -> None:
    month = partition.month
    monthly = ArchiveFile(partition.market, partition.symbol, partition.interval, month)
    whole = archive.ensure(monthly) if month.end_us <= now_us else None
    # Recorded daily files are used next to a monthly file as well, so lost ones are downloaded again.
    recorded = archive.list_usable()
    days = [ArchiveFile(partition.market, partition.symbol, partition.interval, day) for day in month.days()]
    selected = [file for file in days if file.name in recorded]
    others = [file for file in days if file.name not in recorded and _has_ended(file, now_us)]
    if whole is not None and whole.usable:
        selected += _select_for_holes(deployment, archive, whole, others, cancel)
    elif whole is not None and whole.trust is Trust.NOT_PUBLISHED:
        # Without a monthly file there may be no daily file either: before a listing and after a delisting.
        selected += _select_few_or_listed(deployment, others, cancel)
    else:
        selected += _select_published(deployment, archive, others, cancel)
    with ThreadPoolExecutor(deployment.settings.http.parallel_downloads, thread_name_prefix="daily") as pool:
        list(pool.map(archive.ensure, selected))


def _select_for_holes(
    deployment: Deployment,
    archive: ArchiveFiles,
    monthly: ArchiveRecord,
    files: list[ArchiveFile],
    cancel: threading.Event | None,
) -> list[ArchiveFile]:
    """Select the daily files that may fill holes of a usable monthly file.

    Holes inside listed outages and suspensions need no request. A daily file that was missing after the
    monthly file was downloaded is not requested again, because daily files are published before the monthly
    file.
    """
    missing = archive.list_unpublished(since_us=monthly.fetched_at_us)
    candidates = [file for file in files if file.name not in missing]
    if not candidates or not monthly.holes:
        return []
    listed = [
        each for each in deployment.outages if each.applies_to(candidates[0].market, candidates[0].symbol)
    ]
    covered = find_whole_steps([(each.start_us, each.end_us) for each in listed], candidates[0].interval.us)
    open_holes = subtract(monthly.holes, covered)
    relevant = [file for file in candidates if intersect(open_holes, [file.bounds])]
    found = _select_few_or_listed(deployment, relevant, cancel)
    archive.record_unpublished(file for file in relevant if file not in found)
    return found


def _select_few_or_listed(
    deployment: Deployment, files: list[ArchiveFile], cancel: threading.Event | None
) -> list[ArchiveFile]:
    """Return daily files of one month that may be published.

    Up to `_MAX_SINGLE_REQUESTS` files are returned without a check. Of more files, those are returned that
    the archive lists.
    """
    return files if len(files) <= _MAX_SINGLE_REQUESTS else _select_listed(deployment, files, cancel)


def _select_published(
    deployment: Deployment, archive: ArchiveFiles, files: list[ArchiveFile], cancel: threading.Event | None
) -> list[ArchiveFile]:
    """Download the first and the last daily file and select the files between them.

    If one of the two is published, all files between them are selected; otherwise those that a listing
    contains.
    """
    edges = [archive.ensure(file) for file in dict.fromkeys((*files[:1], *files[-1:]))]
    if any(record.trust is not Trust.NOT_PUBLISHED for record in edges) or len(files) == len(edges):
        return files[1:-1]
    return _select_listed(deployment, files, cancel)


def _select_listed(
    deployment: Deployment, files: list[ArchiveFile], cancel: threading.Event | None
) -> list[ArchiveFile]:
    """Select the daily files of one month that the archive lists, by one request."""
    prefix = f"{files[0].folder}{files[0].stem[:-2]}"
    listed = {entry.key for entry in deployment.archive.listing(prefix, cancel)}
    return [file for file in files if file.path in listed]


def _has_ended(file: ArchiveFile, now_us: int) -> bool:
    return file.bounds.start_us + DAY_US <= now_us


def _split_edges(partitions: Sequence[Partition]) -> list[list[Partition]]:
    """Return the first and last months of all symbols, then the other partitions."""
    by_symbol: dict[str, list[Partition]] = {}
    for part in partitions:
        by_symbol.setdefault(part.symbol, []).append(part)
    edges = {
        part for parts in by_symbol.values() for part in (min(parts, key=_month), max(parts, key=_month))
    }
    others = [part for part in partitions if part not in edges]
    return [[part for part in partitions if part in edges], others]


def _month(part: Partition) -> str:
    return str(part.month)
