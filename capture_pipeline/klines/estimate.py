"""Estimate of the downloads and requests of a backfill. It is read-only: it reads listings and manifests.

Holes inside files that are not downloaded yet are unknown, so the estimate does not include their requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.rest.client import PAGE_ROWS
from capture_pipeline.binance.urls import ArchiveFile, Granularity, archive_folder, parse_name
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.ingest.rest_fill import find_ranges_to_request
from capture_pipeline.klines.ingest.trading_period import load_trading_period
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest, TopupsManifest
from capture_pipeline.lake.paths import Partition

_REQUESTS_A_FILE = 2
"""The zip and its checksum."""


@dataclass(frozen=True)
class Estimate:
    """Minimum cost of a backfill.

    Attributes:
        partitions: Number of partitions.
        complete: Number of partitions without a file to download and without a bar to request.
        files: Number of archive files to download.
        bytes: Size of these files.
        archive_requests: Number of requests to the archive: zips, checksums and listings.
        rest_requests: Number of requests to REST for klines.
        seconds: Time of the downloads at the recorded speed of earlier ones; None without an earlier
            download.
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
    """Requests for one partition: sizes of its files in bytes, number of REST pages, number of listings."""

    sizes: list[int]
    pages: int
    listings: int


def estimate_backfill(
    deployment: Deployment, partitions: Sequence[Partition], now_us: int, *, use_rest: bool = True
) -> Estimate:
    """Compare the archive's listings with the manifests of partitions.

    Args:
        partitions: The partitions.
        now_us: The present time.
        use_rest: Include the requests to REST.

    Raises:
        CaptureError: A listing cannot be downloaded, or a manifest is damaged.
    """
    ordered = sorted(partitions, key=lambda part: (part.symbol, part.month))
    needs: list[_Need] = []
    manifests: list[ArchivesManifest] = []
    for symbol, group in groupby(ordered, key=lambda part: part.symbol):
        monthly = _list_sizes(
            deployment,
            archive_folder(
                deployment.settings.market, Granularity.MONTHLY, symbol, deployment.settings.interval
            ),
        )
        for part in group:
            manifest = (
                read_model(deployment.lake.archives_manifest(part), ArchivesManifest) or ArchivesManifest()
            )
            manifests.append(manifest)
            need = _estimate_partition(deployment, part, manifest, monthly, now_us)
            needs.append(need if use_rest else replace(need, pages=0))
    sizes = [size for need in needs for size in need.sizes]
    rate = _compute_speed(record for manifest in manifests for record in manifest.files)
    return Estimate(
        partitions=len(needs),
        complete=sum(not need.sizes and not need.pages for need in needs),
        files=len(sizes),
        bytes=sum(sizes),
        archive_requests=_REQUESTS_A_FILE * len(sizes) + sum(need.listings for need in needs),
        rest_requests=sum(need.pages for need in needs),
        seconds=sum(sizes) / (rate * deployment.settings.http.parallel_downloads) if rate else None,
    )


def _estimate_partition(
    deployment: Deployment, part: Partition, manifest: ArchivesManifest, monthly: dict[str, int], now_us: int
) -> _Need:
    file = ArchiveFile(part.market, part.symbol, part.interval, part.month)
    present_names = {record.name for record in manifest.files if _is_current(deployment, record)}
    listings = 0
    published = {file.path: monthly[file.path]} if file.path in monthly else {}
    if not published:
        days = [ArchiveFile(part.market, part.symbol, part.interval, day) for day in part.month.days()]
        published = _list_sizes(deployment, f"{days[0].folder}{days[0].stem[:-2]}")
        listings = 1
    files = {path.rsplit("/", 1)[-1]: size for path, size in published.items()}
    return _Need(
        [size for name, size in files.items() if name not in present_names],
        _count_pages(deployment, part, manifest, files, now_us),
        listings,
    )


def _is_current(deployment: Deployment, record: ArchiveRecord) -> bool:
    """Report whether a backfill uses the recorded file without a new download."""
    is_current = record.usable and record.path and record.trust is not Trust.REPUBLISHED
    return bool(is_current) and deployment.lake.resolve(record.path or "").is_file()


def _count_pages(
    deployment: Deployment, part: Partition, manifest: ArchivesManifest, files: Iterable[str], now_us: int
) -> int:
    """Count the REST requests for the klines that no published file covers."""
    topups = read_model(deployment.lake.topups_manifest(part), TopupsManifest) or TopupsManifest()
    published = [_assume_complete(file) for name in files if (file := parse_name(name, part.market))]
    recorded = {record.name: record for record in manifest.usable()}
    archives = ArchivesManifest(files=[recorded.get(record.name, record) for record in published])
    trading_period = load_trading_period(deployment, part.symbol)
    missing = find_ranges_to_request(
        part, archives, topups, trading_period=trading_period, gaps=deployment.settings.gaps, now_us=now_us
    )
    page_us = PAGE_ROWS * part.interval.us
    return sum(-(-(end - start) // page_us) for start, end in missing)


def _assume_complete(file: ArchiveFile) -> ArchiveRecord:
    """Return the record of a published file under the assumption that the file is complete."""
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


def _list_sizes(deployment: Deployment, prefix: str) -> dict[str, int]:
    """List the zips of the archive: their sizes in bytes, by path."""
    return {
        entry.key: entry.size for entry in deployment.archive.listing(prefix) if entry.key.endswith(".zip")
    }


def _compute_speed(records: Iterable[ArchiveRecord]) -> float | None:
    """Compute the mean speed of the recorded downloads; None without a recorded download."""
    timed = [record for record in records if record.seconds > 0]
    seconds = sum(record.seconds for record in timed)
    return sum(record.bytes for record in timed) / seconds if seconds else None
