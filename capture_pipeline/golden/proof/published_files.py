"""Published zips for proofs of sessions: downloaded once, verified, stored unchanged, and parsed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from capture_pipeline.binance.archive.frame_cache import read_zip
from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.urls import ArchiveFile, TradesFile
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import ChecksumMismatchError, LakeError, MalformedDataError
from capture_pipeline.golden.proof.published_trades import parse_published_trades
from capture_pipeline.klines.ingest.download import VerifiedDownload, download_verified, move_into_place
from capture_pipeline.lake.files import sha256_file
from capture_pipeline.lake.locks import file_lock

DAILY_KLINES = "daily_klines"
_MB = 1 << 20


@dataclass(frozen=True)
class Publication:
    """A published file and its rows.

    Attributes:
        path: Path in the lake, as in manifests.
        frame: Rows of the file.
    """

    path: str
    frame: pl.DataFrame


def fetch_trades(deployment: Deployment, file: TradesFile) -> Publication | None:
    """Return the published trades of a day; None if they are not published yet.

    Raises:
        ChecksumMismatchError: The file does not match its checksum; it is moved to the quarantine.
        MalformedDataError: The file is not a valid trades file of that day; it is moved to the quarantine.
        LakeError: The stored file was altered.
        CaptureError: The download failed, or a file cannot be written.
    """
    most = deployment.settings.http.max_csv_mb * _MB
    return _load_or_fetch(
        deployment,
        file,
        file.kind,
        lambda content: parse_published_trades(content, file.stem, most, file.bounds),
    )


def fetch_klines(deployment: Deployment, file: ArchiveFile) -> Publication | None:
    """Return the published klines of a day; see `fetch_trades`."""
    most = deployment.settings.http.max_csv_mb * _MB
    return _load_or_fetch(
        deployment, file, DAILY_KLINES, lambda content: read_zip(content, file.stem, most, file.bounds)
    )


def _load_or_fetch(
    deployment: Deployment, file: ArchiveFile | TradesFile, kind: str, read: Callable[[bytes], pl.DataFrame]
) -> Publication | None:
    with file_lock(deployment.lake.published_lock(file.market, kind, file.symbol)):
        stored = _find_stored(deployment, file, kind)
        if stored is not None:
            return Publication(deployment.lake.relative(stored), read(stored.read_bytes()))
        return _fetch(deployment, file, kind, read)


def _find_stored(deployment: Deployment, file: ArchiveFile | TradesFile, kind: str) -> Path | None:
    """Return the path of the currently published version in the lake; None if it is not stored.

    Raises:
        LakeError: The stored file was altered.
    """
    pinned = deployment.settings.archive.pinned_checksums.get(file.name)
    digest = pinned or deployment.archive.checksum(file).sha256
    path = (
        deployment.lake.published_file(file.market, kind, file.symbol, file.name, digest) if digest else None
    )
    if path is None or not path.is_file():
        return None
    if sha256_file(path) != digest:
        raise LakeError(
            "was altered after the download",
            where=str(path),
            remedy="remove the file; the next proof downloads it again",
        )
    return path


def _fetch(
    deployment: Deployment, file: ArchiveFile | TradesFile, kind: str, read: Callable[[bytes], pl.DataFrame]
) -> Publication | None:
    lake, archive = deployment.lake, deployment.settings.archive
    partial = lake.published_partial(file.market, kind, file.symbol, file.name)
    got = download_verified(deployment.archive, file, partial, archive.pinned_checksums.get(file.name))
    if got is None:
        return None
    try:
        _check(file, got, accept_without=archive.accept_without_checksum)
        frame = read(partial.read_bytes())
    except (ChecksumMismatchError, MalformedDataError) as error:
        move_into_place(
            partial,
            lake.published_quarantine(file.market, kind, file.symbol, file.name, got.sha256),
            str(error),
        )
        raise
    target = lake.published_file(file.market, kind, file.symbol, file.name, got.sha256)
    move_into_place(partial, target)
    return Publication(lake.relative(target), frame)


def _check(file: ArchiveFile | TradesFile, got: VerifiedDownload, *, accept_without: bool) -> None:
    if got.trust is Trust.MISMATCH:
        remedy = (
            "the file is in the quarantine; prove again later, or pin its checksum in "
            "archive.pinned_checksums"
        )
        raise ChecksumMismatchError(f"{got.detail}", where=file.name, remedy=remedy)
    if got.trust is Trust.CHECKSUM_MISSING and not accept_without:
        remedy = "prove again later, pin its checksum, or set archive.accept_without_checksum"
        raise ChecksumMismatchError(f"cannot be verified: {got.detail}", where=file.name, remedy=remedy)
