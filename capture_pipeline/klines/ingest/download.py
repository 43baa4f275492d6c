"""Download and verification of one zip of the archive, and its place in the lake.

A download is written into a partial file, which a later attempt resumes. A raw file that was altered on the
disk is moved to the quarantine. The content of a file is not examined here.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from capture_pipeline.binance.archive.client import ArchiveClient, Download
from capture_pipeline.binance.archive.protocol import NextStep, Trust, evaluate_digest
from capture_pipeline.binance.urls import PublishedFile
from capture_pipeline.errors import PermanentError, TransientError
from capture_pipeline.lake.files import create_folder, fsync, publish_bytes, sha256_file, storage_errors
from capture_pipeline.lake.paths import Lake, Partition
from capture_pipeline.terminal import logger

_log = logger(__name__)


@dataclass(frozen=True)
class VerifiedDownload:
    """A download and the result of its verification.

    Attributes:
        trust: Result of the comparison of digests.
        detail: Why there is no checksum, or which digests differ; None for a verified file.
        sha256: SHA-256 of the downloaded file.
        published: SHA-256 of the published checksum; None without a usable one.
        download: The last download of the file.
        attempts: Requests of all downloads of the file.
        seconds: Time of all downloads of the file.
    """

    trust: Trust
    detail: str | None
    sha256: str
    published: str | None
    download: Download
    attempts: int
    seconds: float


def download_verified(
    archive: ArchiveClient,
    file: PublishedFile,
    partial: Path,
    pinned: str | None = None,
    cancel: threading.Event | None = None,
) -> VerifiedDownload | None:
    """Download a zip and compare its digest with the published checksum.

    After a mismatch, checksum and zip are downloaded a second time. After a second mismatch, both are
    downloaded from the bucket.

    Args:
        archive: Client of the archive.
        file: The zip.
        partial: Path of the partial file; the download remains there until `move_into_place`.
        pinned: Digest that the settings pin for this zip.
        cancel: Event that stops further attempts.

    Returns:
        The download, or None if the archive does not have the file.

    Raises:
        CaptureError: The download failed, or the partial file cannot be written.
    """
    attempts, seconds = 0, 0.0
    for fresh in (False, True):
        published, why = archive.checksum(file, cancel)
        download = _download(archive, file, partial, cancel)
        if download is None:
            return None
        attempts, seconds = attempts + download.attempts, seconds + download.seconds
        own = sha256_file(partial)
        trust, following = evaluate_digest(own, published, pinned, fresh=fresh)
        if following is not NextStep.FETCH_AFRESH:
            if trust is Trust.MISMATCH:
                from_bucket = _from_bucket(archive, file, partial, pinned, cancel)
                if from_bucket is not None:
                    return from_bucket
                why = (
                    f"SHA-256 {own} is not the published {published}, "
                    "also after a second download and from the bucket"
                )
            return VerifiedDownload(trust, why, own, published, download, attempts, seconds)
        discard_partial(partial)
    raise AssertionError("the second download is always the last one")


def _from_bucket(
    archive: ArchiveClient,
    file: PublishedFile,
    partial: Path,
    pinned: str | None,
    cancel: threading.Event | None,
) -> VerifiedDownload | None:
    """Download a zip and its checksum from the bucket; replace the partial file if they match.

    The cache in front of the archive may serve an old zip and a new checksum (binance/binance-public-data
    #498).
    """
    bucket, bucket_partial = archive.bucket, partial.with_name(f"{partial.name}.bucket")
    if bucket is None:
        return None
    try:
        published = bucket.checksum(file, cancel).sha256
        download = _download(bucket, file, bucket_partial, cancel)
        if download is None:
            return None
        own = sha256_file(bucket_partial)
        trust = evaluate_digest(own, published, pinned, fresh=True).trust
        if trust not in {Trust.OK, Trust.PINNED}:
            return None
        discard_partial(partial)
        bucket_partial.replace(partial)
        return VerifiedDownload(
            trust,
            "from the bucket: the archive's cache served an old zip",
            own,
            published,
            download,
            download.attempts,
            download.seconds,
        )
    except (TransientError, PermanentError):
        # The archive's own answer remains: the caller moves it to the quarantine, and the next recheck
        # requests it again.
        return None
    finally:
        discard_partial(bucket_partial)


def move_into_place(partial: Path, target: Path, reason: str | None = None) -> None:
    """Move a download to its final path, durably; a reason is written to a text file next to it."""
    create_folder(target.parent)
    with storage_errors(target):
        fsync(partial)
        partial.replace(target)
        fsync(target.parent)
    _version(partial).unlink(missing_ok=True)
    if reason is not None:
        publish_bytes(target.with_suffix(".reason.txt"), f"{reason}\n".encode())


def verify_or_quarantine(lake: Lake, partition: Partition, recorded: str, sha256: str | None) -> bool:
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
    path = lake.resolve(recorded)
    if not path.is_file():
        return False
    found = sha256_file(path)
    if found == sha256:
        return True
    target = lake.quarantine(partition) / f"{path.stem}.altered-{found[:12]}{path.suffix}"
    reason = f"{recorded} was altered on the disk: its SHA-256 is {found}, recorded was {sha256}"
    move_into_place(path, target, reason)
    _log.warning("%s; it is in the quarantine and will be downloaded again", reason)
    return False


def discard_partial(partial: Path) -> None:
    """Delete a partial file and its version."""
    partial.unlink(missing_ok=True)
    _version(partial).unlink(missing_ok=True)


def _version(partial: Path) -> Path:
    """Return the path of the file that contains the ETag of a partial file."""
    return partial.with_suffix(".etag")


def _download(
    archive: ArchiveClient, file: PublishedFile, partial: Path, cancel: threading.Event | None
) -> Download | None:
    """Download into the partial file; resume it if an earlier attempt left one with its version."""
    version = _version(partial)
    etag = version.read_text() if version.is_file() and partial.is_file() else None

    def write_version(etag: str | None) -> None:
        version.write_text(etag or "")

    state = Download(etag=etag or None, on_version=write_version)
    create_folder(partial.parent)
    with storage_errors(partial), partial.open("r+b" if partial.is_file() else "w+b") as sink:
        found = archive.download(file, sink, state, cancel)
    if not found:
        discard_partial(partial)
        return None
    return state
