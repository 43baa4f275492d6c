"""From the public archive to verified raw files: the monthly zip where it is published and sound, and the daily ones for what it lacks.

A verified file is not fetched again unless it was altered on the disk. One that fails its checksum twice, or is no kline file, goes to
the quarantine with its reason, and the sources below it take its place.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import DAY_US
from capture_pipeline.binance.urls import ArchiveFile
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.deployment.venue_guard import ensure_venue
from capture_pipeline.errors import BusyError, CaptureError
from capture_pipeline.klines.ingest.altered_files import quarantine_altered_files
from capture_pipeline.klines.ingest.fetcher import Fetcher
from capture_pipeline.klines.ingest.republished import recheck
from capture_pipeline.klines.quality.ranges import intersect, subtract, whole_steps
from capture_pipeline.lake.files import file_lock, read_model
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest
from capture_pipeline.lake.paths import Partition

T = TypeVar("T")
PATIENCE_S = 10.0
_BETWEEN_TRIES_S = 0.1
_BETWEEN_LOOKS_S = 0.2
_ASKED_SINGLY = 2


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

    @property
    def unverified(self) -> list[ArchiveRecord]:
        """Files that came and are not used because their checksum is missing or unreadable."""
        return [record for record in self.manifest.files if record.unverified]


def fetch_many(
    workspace: Workspace, partitions: list[Partition], now_us: int, *, check_revisions: bool = False
) -> Generator[ArchivesResult | tuple[Partition, CaptureError]]:
    """Fetch many partitions side by side, each result as it comes.

    The first and the last month of every symbol go before the rest, so that a wrong request shows in seconds. A caller that stops
    listening is not kept: no further file and no further try is begun; downloads under way end with what has come.

    Args:
        workspace: The deployment.
        partitions: Which ones.
        now_us: The present.
        check_revisions: Read the published checksum of each recorded file again, and fetch the files that have another one now.

    Yields:
        A result, or the partition with the error that ended it.

    Raises:
        ConfigError: The lake is another exchange's; nothing was asked.
        CaptureError: Whose it is cannot be read or recorded.
    """
    retry_while_busy(partial(ensure_venue, workspace))
    at_once = workspace.settings.http.parallel_downloads
    over = threading.Event()

    def bring(part: Partition) -> ArchivesResult:
        if check_revisions:
            retry_while_busy(partial(recheck, workspace, part, now_us), over)
        return retry_while_busy(partial(fetch, workspace, part, now_us, over), over)

    pool = ThreadPoolExecutor(at_once, thread_name_prefix="archive")
    try:
        for group in _edges_first(partitions):
            waiting, running = iter(group), deque[tuple[Partition, Future[ArchivesResult]]]()
            while True:
                # Downloads do not run far ahead of who uses them: what was parsed is still at hand then, and memory is bounded.
                begun = islice(waiting, at_once + 1 - len(running))
                running.extend((part, pool.submit(bring, part)) for part in begun)
                if not running:
                    break
                part, future = running.popleft()
                try:
                    yield result_interruptibly(future)
                except CaptureError as error:
                    yield part, error
    finally:
        over.set()
        pool.shutdown(wait=False, cancel_futures=True)


def result_interruptibly(future: Future[T]) -> T:
    """What a task in another thread returns or raises; waits in short steps, so that an interrupt is noticed wherever it arrives."""
    while not wait([future], _BETWEEN_LOOKS_S).done:
        pass
    return future.result()


def retry_while_busy(work: Callable[[], T], over: threading.Event | None = None) -> T:
    """Do what needs the lock of a partition, and try again while another run holds it for a moment.

    Args:
        work: Raises `BusyError` before it has done anything.
        over: Set to try no further.

    Raises:
        BusyError: The lock was held all the time.
        CaptureError: As `work` raises.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return work()
        except BusyError:
            if time.monotonic() > deadline or (over is not None and over.is_set()):
                raise
        time.sleep(_BETWEEN_TRIES_S)


def with_partition_lock(workspace: Workspace, partition: Partition, work: Callable[[], T]) -> T:
    """Do work that takes no lock itself while nobody else changes the partition.

    Raises:
        BusyError: Another run held it for long.
    """

    def with_lock() -> T:
        with file_lock(workspace.lake.lock(partition)):
            return work()

    return retry_while_busy(with_lock)


def fetch(
    workspace: Workspace, partition: Partition, now_us: int, over: threading.Event | None = None
) -> ArchivesResult:
    """Bring one partition's archive files up to what is published.

    Args:
        workspace: The deployment.
        partition: Which one.
        now_us: The present; no file is asked for before its period has ended.
        over: Set to begin no further file and no further try.

    Raises:
        BusyError: Another process is fetching this partition.
        ConfigError: The lake is another exchange's.
        CaptureError: A file could not be had; what was fetched before stays recorded.
    """
    ensure_venue(workspace)
    lake = workspace.lake
    with file_lock(lake.lock(partition)):
        manifest = read_model(lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
        before = manifest.model_copy(deep=True)
        fetcher = Fetcher(workspace, partition, manifest, now_us, over)
        try:
            quarantine_altered_files(workspace, partition, manifest)
            _fetch_files(workspace, partition, fetcher, now_us, over)
        finally:
            if manifest != before:
                fetcher.publish()
    return ArchivesResult(partition, manifest, fetcher.fetched)


def _fetch_files(
    workspace: Workspace, partition: Partition, fetcher: Fetcher, now_us: int, over: threading.Event | None
) -> None:
    month = partition.month
    monthly = ArchiveFile(partition.market, partition.symbol, partition.interval, month)
    whole = fetcher.ensure(monthly) if month.end_us <= now_us else None
    # Recorded daily files are part of the bars beside a monthly one too: what is lost of them is fetched again.
    recorded = fetcher.recorded()
    days = [ArchiveFile(partition.market, partition.symbol, partition.interval, day) for day in month.days()]
    wanted = [file for file in days if file.name in recorded]
    others = [file for file in days if file.name not in recorded and _ends_by(file, now_us)]
    if whole is not None and whole.usable:
        wanted += _for_holes(workspace, fetcher, whole, others, over)
    elif whole is not None and whole.trust is Trust.NOT_PUBLISHED:
        # Before the listing of a symbol and after its delisting there is no daily file either.
        wanted += _few_or_listed(workspace, others, over)
    else:
        wanted += _published(workspace, fetcher, others, over)
    with ThreadPoolExecutor(workspace.settings.http.parallel_downloads, thread_name_prefix="daily") as pool:
        list(pool.map(fetcher.ensure, wanted))


def _for_holes(
    workspace: Workspace,
    fetcher: Fetcher,
    monthly: ArchiveRecord,
    files: list[ArchiveFile],
    over: threading.Event | None,
) -> list[ArchiveFile]:
    """Choose the daily files that may fill holes of a usable monthly file.

    Holes that listed outages and suspensions cover need no request. A day of which the archive had no file when the monthly one was out is
    not asked for again: files of days are published before that of their month.
    """
    missing = fetcher.not_published(since_us=monthly.fetched_at_us)
    left = [file for file in files if file.name not in missing]
    if not left or not monthly.holes:
        return []
    listed = [each for each in workspace.outages if each.applies_to(left[0].market, left[0].symbol)]
    covered = whole_steps([(each.start_us, each.end_us) for each in listed], left[0].interval.us)
    open_holes = subtract(monthly.holes, covered)
    wanted = [file for file in left if intersect(open_holes, [file.bounds])]
    found = _few_or_listed(workspace, wanted, over)
    fetcher.note_not_published(file for file in wanted if file not in found)
    return found


def _few_or_listed(
    workspace: Workspace, files: list[ArchiveFile], over: threading.Event | None
) -> list[ArchiveFile]:
    """Choose the daily files of one month that are worth a request: few are requested directly, of more one listing is requested."""
    return files if len(files) <= _ASKED_SINGLY else _listed(workspace, files, over)


def _published(
    workspace: Workspace, fetcher: Fetcher, files: list[ArchiveFile], over: threading.Event | None
) -> list[ArchiveFile]:
    """The days worth asking for: all between two edges of which one is published, else those that the archive lists."""
    edges = [fetcher.ensure(file) for file in dict.fromkeys((*files[:1], *files[-1:]))]
    if any(record.trust is not Trust.NOT_PUBLISHED for record in edges) or len(files) == len(edges):
        return files[1:-1]
    return _listed(workspace, files, over)


def _listed(
    workspace: Workspace, files: list[ArchiveFile], over: threading.Event | None
) -> list[ArchiveFile]:
    """Those of the daily files of one month that the archive lists; one request."""
    prefix = f"{files[0].folder}{files[0].stem[:-2]}"
    listed = {entry.key for entry in workspace.archive.listing(prefix, over)}
    return [file for file in files if file.path in listed]


def _ends_by(file: ArchiveFile, now_us: int) -> bool:
    return file.bounds[0] + DAY_US <= now_us


def _edges_first(partitions: list[Partition]) -> tuple[list[Partition], list[Partition]]:
    by_symbol: dict[str, list[Partition]] = {}
    for part in partitions:
        by_symbol.setdefault(part.symbol, []).append(part)
    edges = {
        part for parts in by_symbol.values() for part in (min(parts, key=_month), max(parts, key=_month))
    }
    return [part for part in partitions if part in edges], [part for part in partitions if part not in edges]


def _month(part: Partition) -> str:
    return str(part.month)
