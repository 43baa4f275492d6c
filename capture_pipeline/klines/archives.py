"""From the public archive to verified raw files: the monthly zip where it is published and sound, else the daily ones.

A verified file is never fetched again. One that fails its checksum twice, or is no kline file, goes to the quarantine with its
reason, and the sources below it take its place.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from capture_pipeline.binance.archive import Trust
from capture_pipeline.binance.periods import DAY_US
from capture_pipeline.binance.urls import ArchiveFile, Granularity
from capture_pipeline.errors import CaptureError
from capture_pipeline.klines.archive_fetch import Fetcher
from capture_pipeline.klines.workspace import Workspace
from capture_pipeline.lake.files import locked, publish_model, read_model
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest
from capture_pipeline.lake.paths import Partition

Ensure = Callable[[ArchiveFile], ArchiveRecord]


@dataclass(frozen=True)
class ArchivesResult:
    """What was done for one partition.

    Attributes:
        partition: Which one.
        manifest: All its files now.
        fetched: Names of the files downloaded this time.
    """

    partition: Partition
    manifest: ArchivesManifest
    fetched: list[str]

    @property
    def quarantined(self) -> list[ArchiveRecord]:
        """Files that failed."""
        return [record for record in self.manifest.files if record.quarantined]


def fetch_many(workspace: Workspace, partitions: list[Partition], now_us: int) -> Iterator[ArchivesResult | tuple[Partition, CaptureError]]:
    """Fetch many partitions side by side, each result as it comes.

    The first and the last month of every symbol go before the rest, so that a wrong request shows in seconds. A caller that stops
    listening is not kept: no further file is begun, and files under way are ended or given up by their own threads.

    Args:
        workspace: The deployment.
        partitions: Which ones.
        now_us: The present.

    Yields:
        A result, or the partition with the error that ended it.
    """
    at_once = workspace.settings.http.parallel_downloads
    over = threading.Event()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="archive")
    try:
        for group in _edges_first(partitions):
            waiting, running = iter(group), deque[tuple[Partition, Future[ArchivesResult]]]()
            while True:
                # Downloads do not run far ahead of who uses them: what was parsed is still at hand then, and memory is bounded.
                begun = islice(waiting, at_once + 1 - len(running))
                running.extend((part, pool.submit(fetch, workspace, part, now_us, over)) for part in begun)
                if not running:
                    break
                part, future = running.popleft()
                try:
                    yield future.result()
                except CaptureError as error:
                    yield part, error
    finally:
        over.set()
        pool.shutdown(wait=False, cancel_futures=True)


def fetch(workspace: Workspace, partition: Partition, now_us: int, over: threading.Event | None = None) -> ArchivesResult:
    """Bring one partition's archive files up to what is published.

    Args:
        workspace: The deployment.
        partition: Which one.
        now_us: The present; no file is asked for before its period has ended.
        over: Set to begin no further file.

    Raises:
        Busy: Another process is fetching this partition.
        CaptureError: A file could not be had; what was fetched before stays recorded.
    """
    lake = workspace.lake
    with locked(lake.lock(partition)):
        manifest = read_model(lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
        before = manifest.model_copy(deep=True)
        fetcher = Fetcher(workspace, partition, manifest, now_us)
        try:
            _fetch_files(workspace, partition, _unless(over, fetcher.ensure), now_us)
        finally:
            manifest.files.sort(key=lambda record: (record.granularity != Granularity.MONTHLY, record.start_us))
            if manifest != before:
                publish_model(lake.archives_manifest(partition), manifest)
    return ArchivesResult(partition, manifest, fetcher.fetched)


def _fetch_files(workspace: Workspace, partition: Partition, ensure: Ensure, now_us: int) -> None:
    month = partition.month
    if month.end_us <= now_us:
        monthly = ensure(ArchiveFile(partition.market, partition.symbol, partition.interval, month))
        if monthly.usable:
            return
    days = [day for day in month.days() if _ends_by(ArchiveFile(partition.market, partition.symbol, partition.interval, day), now_us)]
    files = [ArchiveFile(partition.market, partition.symbol, partition.interval, day) for day in days]
    if not files:
        return
    # The first and the last day settle whether there is anything to be had.
    edges = [ensure(file) for file in dict.fromkeys((files[0], files[-1]))]
    if all(record.trust is Trust.NOT_PUBLISHED for record in edges):
        return
    with ThreadPoolExecutor(workspace.settings.http.parallel_downloads, thread_name_prefix="daily") as pool:
        list(pool.map(ensure, files[1:-1]))


def _ends_by(file: ArchiveFile, now_us: int) -> bool:
    return file.bounds[0] + DAY_US <= now_us


def _edges_first(partitions: list[Partition]) -> tuple[list[Partition], list[Partition]]:
    by_symbol: dict[str, list[Partition]] = {}
    for part in partitions:
        by_symbol.setdefault(part.symbol, []).append(part)
    edges = {part for parts in by_symbol.values() for part in (min(parts, key=_month), max(parts, key=_month))}
    return [part for part in partitions if part in edges], [part for part in partitions if part not in edges]


def _month(part: Partition) -> str:
    return str(part.month)


def _unless(over: threading.Event | None, ensure: Ensure) -> Ensure:
    def guarded(file: ArchiveFile) -> ArchiveRecord:
        if over is not None and over.is_set():
            raise CaptureError("was not begun: the run was stopped", where=file.name)
        return ensure(file)

    return guarded
