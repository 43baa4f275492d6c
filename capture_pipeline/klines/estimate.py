"""What a backfill will download and ask for, from the archive's listings and what is recorded; nothing is changed.

Holes inside files that were not downloaded yet are unknown, so what they will cost is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.rest.client import PAGE_ROWS
from capture_pipeline.binance.urls import ArchiveFile, Granularity, folder, parse_name
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.klines.ingest.rest_fill import ranges_to_request
from capture_pipeline.klines.ingest.trading_period import load_trading_period
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest, TopupsManifest
from capture_pipeline.lake.paths import Partition

_REQUESTS_A_FILE = 2
"""The zip and its checksum."""


@dataclass(frozen=True)
class Estimate:
    """The least that a backfill of partitions costs.

    Attributes:
        partitions: How many.
        complete: Of them, those for which there is nothing to download and nothing to ask.
        files: Archive files to download.
        bytes: Their size.
        archive_requests: Requests to the archive: zips, checksums, listings.
        rest_requests: Requests for candles.
        seconds: Time of the downloads at the speed of those that are recorded; None where none is.
    """

    partitions: int
    complete: int
    files: int
    bytes: int
    archive_requests: int
    rest_requests: int
    seconds: float | None


@dataclass(frozen=True)
class _Need:
    """What one partition lacks: sizes of files in bytes, REST pages, listings that a backfill asks for."""

    sizes: list[int]
    pages: int
    listings: int


def estimate(
    workspace: Workspace, partitions: Sequence[Partition], now_us: int, *, ask_rest: bool = True
) -> Estimate:
    """Compare the archive's listings with what is recorded.

    Args:
        workspace: The deployment.
        partitions: Which ones.
        now_us: The present.
        ask_rest: Whether the backfill asks REST.

    Raises:
        CaptureError: A listing could not be had, or a record is damaged.
    """
    ordered = sorted(partitions, key=lambda part: (part.symbol, part.month))
    needs: list[_Need] = []
    manifests: list[ArchivesManifest] = []
    for symbol, group in groupby(ordered, key=lambda part: part.symbol):
        monthly = _sizes(
            workspace,
            folder(workspace.settings.market, Granularity.MONTHLY, symbol, workspace.settings.interval),
        )
        for part in group:
            manifest = (
                read_model(workspace.lake.archives_manifest(part), ArchivesManifest) or ArchivesManifest()
            )
            manifests.append(manifest)
            need = _need(workspace, part, manifest, monthly, now_us)
            needs.append(need if ask_rest else replace(need, pages=0))
    sizes = [size for need in needs for size in need.sizes]
    rate = _bytes_a_second(record for manifest in manifests for record in manifest.files)
    return Estimate(
        partitions=len(needs),
        complete=sum(not need.sizes and not need.pages for need in needs),
        files=len(sizes),
        bytes=sum(sizes),
        archive_requests=_REQUESTS_A_FILE * len(sizes) + sum(need.listings for need in needs),
        rest_requests=sum(need.pages for need in needs),
        seconds=sum(sizes) / (rate * workspace.settings.http.parallel_downloads) if rate else None,
    )


def _need(
    workspace: Workspace, part: Partition, manifest: ArchivesManifest, monthly: dict[str, int], now_us: int
) -> _Need:
    file = ArchiveFile(part.market, part.symbol, part.interval, part.month)
    have = {record.name for record in manifest.files if _is_there(workspace, record)}
    listings = 0
    published = {file.path: monthly[file.path]} if file.path in monthly else {}
    if not published:
        days = [ArchiveFile(part.market, part.symbol, part.interval, day) for day in part.month.days()]
        published = _sizes(workspace, f"{days[0].folder}{days[0].stem[:-2]}")
        listings = 1
    files = {path.rsplit("/", 1)[-1]: size for path, size in published.items()}
    return _Need(
        [size for name, size in files.items() if name not in have],
        _pages(workspace, part, manifest, files, now_us),
        listings,
    )


def _is_there(workspace: Workspace, record: ArchiveRecord) -> bool:
    """Whether a backfill takes the recorded file as it is."""
    is_current = record.usable and record.path and record.trust is not Trust.REPUBLISHED
    return bool(is_current) and workspace.lake.resolve(record.path or "").is_file()


def _pages(
    workspace: Workspace, part: Partition, manifest: ArchivesManifest, files: Iterable[str], now_us: int
) -> int:
    """How many REST requests the candles take that no published file covers."""
    topups = read_model(workspace.lake.topups_manifest(part), TopupsManifest) or TopupsManifest()
    published = [_record(file) for name in files if (file := parse_name(name, part.market))]
    known = {record.name: record for record in manifest.usable()}
    archives = ArchivesManifest(files=[known.get(record.name, record) for record in published])
    life = load_trading_period(workspace, part.symbol)
    missing = ranges_to_request(
        part, archives, topups, life=life, gaps=workspace.settings.gaps, now_us=now_us
    )
    page_us = PAGE_ROWS * part.interval.us
    return sum(-(-(end - start) // page_us) for start, end in missing)


def _record(file: ArchiveFile) -> ArchiveRecord:
    """Return a published file as a backfill records it if it has every candle."""
    start, end = file.bounds
    return ArchiveRecord(
        name=file.name,
        granularity=file.granularity,
        start_us=start,
        end_us=end,
        trust=Trust.OK,
        usable=True,
        url="",
        fetched_at_us=0,
        checked_at_us=0,
    )


def _sizes(workspace: Workspace, prefix: str) -> dict[str, int]:
    """Bytes of the zips that the archive lists, by path."""
    return {
        entry.key: entry.size for entry in workspace.archive.listing(prefix) if entry.key.endswith(".zip")
    }


def _bytes_a_second(records: Iterable[ArchiveRecord]) -> float | None:
    """Speed of one download, of those recorded."""
    timed = [record for record in records if record.seconds > 0]
    seconds = sum(record.seconds for record in timed)
    return sum(record.bytes for record in timed) / seconds if seconds else None
