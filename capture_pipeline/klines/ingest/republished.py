"""Detection of archive files that the exchange published again under the same name, by their checksums."""

from __future__ import annotations

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import Month
from capture_pipeline.binance.urls import ArchiveFile, parse_name
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.deployment.venue_guard import check_venue
from capture_pipeline.lake.files import file_lock, publish_model, read_model
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest
from capture_pipeline.lake.paths import Partition


def recheck_partition(deployment: Deployment, partition: Partition, now_us: int) -> list[ArchiveRecord]:
    """Read the published checksum of each file again and mark the files to download again.

    Files in the quarantine and files without a checksum are included. A marked file remains in use until its
    new version is downloaded and verified. A file in the quarantine remains there.

    Args:
        partition: The partition.
        now_us: The present time.

    Returns:
        The marked files: files with a new published checksum, and files that did not match their checksum,
        because a cache may have served an old zip.

    Raises:
        ConfigError: The lake belongs to another exchange.
        CaptureError: A checksum cannot be downloaded, or the manifest cannot be read or written.
    """
    check_venue(deployment)
    lake = deployment.lake
    with file_lock(lake.lock(partition)):
        manifest = read_model(lake.archives_manifest(partition), ArchivesManifest)
        if manifest is None:
            return []
        found = []
        for record in list_recheckable(manifest):
            published, _ = deployment.archive.checksum(_find_file(record, partition))
            record.checked_at_us = now_us
            if published is not None and (record.trust is Trust.MISMATCH or _is_new(record, published)):
                _mark(record, published)
                found.append(record)
        publish_model(lake.archives_manifest(partition), manifest)
    return found


def list_recheckable(manifest: ArchivesManifest) -> list[ArchiveRecord]:
    """List the files of which a version was downloaded, usable or not."""
    return [record for record in manifest.files if record.trust is not Trust.NOT_PUBLISHED]


def _is_new(record: ArchiveRecord, published: str) -> bool:
    """Report whether the published digest is neither the recorded one nor that of the file in use."""
    return published != record.sha256_published and not (record.usable and published == record.sha256_own)


def _mark(record: ArchiveRecord, published: str) -> None:
    if record.quarantined:
        # Files in the quarantine expire, so the record of a file to download again does not name one.
        record.path = None
    why = (
        f"published anew with SHA-256 {published}"
        if _is_new(record, published)
        else "its zip did not match its checksum"
    )
    record.trust = Trust.REPUBLISHED
    record.detail = f"{why}; materialize kline_archives to fetch it again"


def _find_file(record: ArchiveRecord, partition: Partition) -> ArchiveFile:
    file = parse_name(record.name, partition.market)
    return file or ArchiveFile(
        partition.market, partition.symbol, partition.interval, Month.of(record.start_us)
    )
