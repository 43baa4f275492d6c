"""Detection of altered raw files. They are moved to the quarantine with the reason and downloaded again."""

from __future__ import annotations

from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.ingest.download import move_into_place
from capture_pipeline.lake.files import sha256_file
from capture_pipeline.lake.manifests import ArchivesManifest
from capture_pipeline.lake.paths import Partition
from capture_pipeline.terminal import logger

_log = logger(__name__)


def quarantine_altered_files(
    deployment: Deployment, partition: Partition, manifest: ArchivesManifest
) -> None:
    """Compare every archive file of a partition with its recorded SHA-256.

    The record of an altered current version remains, and the next run downloads the file again. An earlier
    version cannot be downloaded again, so its record is updated.

    Args:
        partition: The partition; the caller has its lock.
        manifest: The partition's manifest; records of earlier versions are updated in place.

    Raises:
        LakeError: A file cannot be read or moved.
    """
    for record in manifest.files:
        if record.path and not record.quarantined:
            verify_or_quarantine(deployment, partition, record.path, record.sha256_own)
    for record in manifest.superseded:
        if (
            record.path
            and not record.quarantined
            and not verify_or_quarantine(deployment, partition, record.path, record.sha256_own)
        ):
            record.path, record.detail = None, "the file of this earlier version was altered or removed"


def verify_or_quarantine(
    deployment: Deployment, partition: Partition, recorded: str, sha256: str | None
) -> bool:
    """Verify a raw file and move an altered one to the quarantine.

    Args:
        partition: The partition of the file; the caller has its lock.
        recorded: Path of the file in the manifest.
        sha256: Digest of the file in the manifest.

    Returns:
        True if the file is present and unaltered.

    Raises:
        LakeError: The file cannot be read or moved.
    """
    path = deployment.lake.resolve(recorded)
    if not path.is_file():
        return False
    found = sha256_file(path)
    if found == sha256:
        return True
    target = deployment.lake.quarantine(partition) / f"{path.stem}.altered-{found[:12]}{path.suffix}"
    reason = f"{recorded} was altered on the disk: its SHA-256 is {found}, recorded was {sha256}"
    move_into_place(path, target, reason)
    _log.warning("%s; it is in the quarantine and will be downloaded again", reason)
    return False
