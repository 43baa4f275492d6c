"""Raw files that are no longer what was recorded: moved to the quarantine with the reason, so that they are fetched again."""

from __future__ import annotations

from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.klines.ingest.download import move_into_place
from capture_pipeline.lake.files import sha256_file
from capture_pipeline.lake.manifests import ArchivesManifest
from capture_pipeline.lake.paths import Partition
from capture_pipeline.terminal import logger

_log = logger(__name__)


def quarantine_altered_files(workspace: Workspace, partition: Partition, manifest: ArchivesManifest) -> None:
    """Compare every archive file of a partition with its recorded SHA-256.

    Of a current version the record stays, and its file is gone: it is fetched again as any file that is gone. An earlier version cannot be
    fetched again: its record says what became of it.

    Args:
        workspace: The deployment.
        partition: Whose files; its lock is held.
        manifest: What is recorded; records of earlier versions are updated in place.

    Raises:
        LakeError: A file cannot be read or moved.
    """
    for record in manifest.files:
        if record.path and not record.quarantined:
            is_unaltered(workspace, partition, record.path, record.sha256_own)
    for record in manifest.superseded:
        if (
            record.path
            and not record.quarantined
            and not is_unaltered(workspace, partition, record.path, record.sha256_own)
        ):
            record.path, record.detail = None, "the file of this earlier version was altered or removed"


def is_unaltered(workspace: Workspace, partition: Partition, recorded: str, sha256: str | None) -> bool:
    """Whether a recorded raw file is there with its bytes; one with other bytes is moved to the quarantine.

    Args:
        workspace: The deployment.
        partition: Whose file; its lock is held.
        recorded: Its path in the manifest.
        sha256: Its recorded digest.

    Raises:
        LakeError: The file cannot be read or moved.
    """
    path = workspace.lake.resolve(recorded)
    if not path.is_file():
        return False
    found = sha256_file(path)
    if found == sha256:
        return True
    target = workspace.lake.quarantine(partition) / f"{path.stem}.altered-{found[:12]}{path.suffix}"
    reason = f"{recorded} was altered on the disk: its SHA-256 is {found}, recorded was {sha256}"
    move_into_place(path, target, reason)
    _log.warning("%s; it lies in the quarantine, and is fetched again", reason)
    return False
