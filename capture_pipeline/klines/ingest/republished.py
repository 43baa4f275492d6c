"""Files that were published anew under an old name: found by reading their checksums again, marked, and fetched beside the old version."""

from __future__ import annotations

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import Month
from capture_pipeline.binance.urls import ArchiveFile, parse_name
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.deployment.venue_guard import check_venue
from capture_pipeline.lake.files import file_lock, publish_model, read_model
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest
from capture_pipeline.lake.paths import Partition


def recheck_partition(workspace: Workspace, partition: Partition, now_us: int) -> list[ArchiveRecord]:
    """Read the published checksum of each file again, of those too that were set aside or had none.

    Args:
        workspace: The deployment.
        partition: Which one.
        now_us: The present.

    Returns:
        The files found to be re-published, and those whose zip did not match its checksum: a cache may have served an old zip. They are
        marked so. Bars in use stay so until the new version is fetched and verified; what
        was set aside is fetched again, its old version stays in the quarantine.

    Raises:
        ConfigError: The lake is another exchange's.
        CaptureError: A checksum could not be read.
    """
    check_venue(workspace)
    lake = workspace.lake
    with file_lock(lake.lock(partition)):
        manifest = read_model(lake.archives_manifest(partition), ArchivesManifest)
        if manifest is None:
            return []
        found = []
        for record in list_recheckable(manifest):
            published, _ = workspace.archive.checksum(_file(record, partition))
            record.checked_at_us = now_us
            if published is not None and (record.trust is Trust.MISMATCH or _is_new(record, published)):
                _mark(record, published)
                found.append(record)
        publish_model(lake.archives_manifest(partition), manifest)
    return found


def list_recheckable(manifest: ArchivesManifest) -> list[ArchiveRecord]:
    """Files of which a version was fetched, whatever became of it."""
    return [record for record in manifest.files if record.trust is not Trust.NOT_PUBLISHED]


def _is_new(record: ArchiveRecord, published: str) -> bool:
    """Whether the published digest is neither the one known nor that of bytes in use."""
    return published != record.sha256_published and not (record.usable and published == record.sha256_own)


def _mark(record: ArchiveRecord, published: str) -> None:
    if record.quarantined:
        # The quarantine is cleaned with time: nothing that is fetched again refers to it.
        record.path = None
    why = (
        f"published anew with SHA-256 {published}"
        if _is_new(record, published)
        else "its zip did not match its checksum"
    )
    record.trust = Trust.REPUBLISHED
    record.detail = f"{why}; materialize kline_archives to fetch it again"


def _file(record: ArchiveRecord, partition: Partition) -> ArchiveFile:
    file = parse_name(record.name, partition.market)
    return file or ArchiveFile(
        partition.market, partition.symbol, partition.interval, Month.of(record.start_us)
    )
