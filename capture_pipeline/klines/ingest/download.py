"""One zip of the archive, whatever it holds: downloaded into a partial file that a later try goes on with, judged, put where it stays.

What stands in it is not looked at here.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from capture_pipeline.binance.archive.client import ArchiveClient, Download
from capture_pipeline.binance.archive.protocol import Next, Trust, judge
from capture_pipeline.binance.urls import PublishedFile
from capture_pipeline.errors import PermanentError, TransientError
from capture_pipeline.lake.files import create_folder, fsync, publish_bytes, sha256_file, storage_errors


@dataclass(frozen=True)
class VerifiedDownload:
    """A download and what its digest proves.

    Attributes:
        trust: Of it.
        detail: Why there is no checksum, or what does not match.
        sha256: Its own.
        published: The one that is published, if any.
        download: The last one made.
        attempts: Requests of all of them.
        seconds: Time of all of them.
    """

    trust: Trust
    detail: str | None
    sha256: str
    published: str | None
    download: Download
    attempts: int
    seconds: float


def fetch_judged(
    archive: ArchiveClient,
    file: PublishedFile,
    partial: Path,
    pinned: str | None = None,
    over: threading.Event | None = None,
) -> VerifiedDownload | None:
    """Download a file and judge it; after a mismatch checksum and zip are both fetched afresh, once, and then from the bucket.

    Args:
        archive: Whom to ask.
        file: For which zip.
        partial: Where it is written, and stays until it is put in place.
        pinned: The digest that the settings pin for it.
        over: Set to begin no further try.

    Returns:
        What came, or None where the archive does not have it.

    Raises:
        CaptureError: It could not be had, or the disk refused.
    """
    attempts, seconds = 0, 0.0
    for fresh in (False, True):
        published, why = archive.checksum(file, over)
        download = _download(archive, file, partial, over)
        if download is None:
            return None
        attempts, seconds = attempts + download.attempts, seconds + download.seconds
        own = sha256_file(partial)
        trust, following = judge(own, published, pinned, fresh=fresh)
        if following is not Next.FETCH_AFRESH:
            if trust is Trust.MISMATCH:
                straight = _from_bucket(archive, file, partial, pinned, over)
                if straight is not None:
                    return straight
                why = f"SHA-256 {own} is not the published {published}, also when fetched afresh and from the bucket"
            return VerifiedDownload(trust, why, own, published, download, attempts, seconds)
        discard(partial)
    raise AssertionError("a fresh download is never fetched afresh")


def _from_bucket(
    archive: ArchiveClient,
    file: PublishedFile,
    partial: Path,
    pinned: str | None,
    over: threading.Event | None,
) -> VerifiedDownload | None:
    """Replace a download that does not match its checksum by that of the bucket, if the bucket's file and checksum match.

    The cache in front of the archive may serve an old zip beside a new checksum (binance/binance-public-data #498).
    """
    bucket, straight = archive.bucket, partial.with_name(f"{partial.name}.bucket")
    if bucket is None:
        return None
    try:
        published, _ = bucket.checksum(file, over)
        download = _download(bucket, file, straight, over)
        if download is None:
            return None
        own = sha256_file(straight)
        trust, _ = judge(own, published, pinned, fresh=True)
        if trust not in {Trust.OK, Trust.PINNED}:
            return None
        discard(partial)
        straight.replace(partial)
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
        # The archive's own answer stands: it is put into the quarantine, and fetched again at the next recheck.
        return None
    finally:
        discard(straight)


def place(partial: Path, target: Path, reason: str | None = None) -> None:
    """Move a download to where it stays, durably, with the reason beside it where that is the quarantine."""
    create_folder(target.parent)
    with storage_errors(target):
        fsync(partial)
        partial.replace(target)
        fsync(target.parent)
    _version(partial).unlink(missing_ok=True)
    if reason is not None:
        publish_bytes(target.with_suffix(".reason.txt"), f"{reason}\n".encode())


def discard(partial: Path) -> None:
    """Forget what came so far."""
    partial.unlink(missing_ok=True)
    _version(partial).unlink(missing_ok=True)


def _version(partial: Path) -> Path:
    """The file that says of which version the partial one is."""
    return partial.with_suffix(".etag")


def _download(
    archive: ArchiveClient, file: PublishedFile, partial: Path, over: threading.Event | None
) -> Download | None:
    """Download into the partial file, going on with what an earlier try left; its version stands beside it."""
    version = _version(partial)
    etag = version.read_text() if version.is_file() and partial.is_file() else None

    def remember(new: str | None) -> None:
        version.write_text(new or "")

    state = Download(etag=etag or None, remember=remember)
    create_folder(partial.parent)
    with storage_errors(partial), partial.open("r+b" if partial.is_file() else "w+b") as sink:
        found = archive.download(file, sink, state, over)
    if not found:
        discard(partial)
        return None
    return state
