"""Zips that sessions are proved by: fetched once, verified, kept in the lake as they were sent, and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from capture_pipeline.binance.archive.frame_cache import read_zip
from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.urls import ArchiveFile, TradesFile
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import ChecksumMismatchError, LakeError, MalformedDataError
from capture_pipeline.golden.proof.published_trades import published_trades
from capture_pipeline.klines.ingest.download import VerifiedDownload, download_verified, move_into_place
from capture_pipeline.lake.files import file_lock, sha256_file

DAILY_KLINES = "daily_klines"
_MB = 1 << 20


@dataclass(frozen=True)
class Publication:
    """A published file and what stands in it.

    Attributes:
        path: In the lake, as manifests name it.
        frame: Its rows.
    """

    path: str
    frame: pl.DataFrame


def trades_of(workspace: Workspace, file: TradesFile) -> Publication | None:
    """Published trades of a day; None where they are not out.

    Raises:
        ChecksumMismatchError: The bytes are not those that its checksum is about; they are in the quarantine.
        MalformedDataError: It is no sound file of that day; likewise.
        CaptureError: It could not be had, or the disk refused.
    """
    most = workspace.settings.http.max_csv_mb * _MB
    return _published(
        workspace, file, file.kind, lambda content: published_trades(content, file.stem, most, file.bounds)
    )


def klines_of(workspace: Workspace, file: ArchiveFile) -> Publication | None:
    """Published klines of a day; as `trades_of`."""
    most = workspace.settings.http.max_csv_mb * _MB
    return _published(
        workspace, file, DAILY_KLINES, lambda content: read_zip(content, file.stem, most, file.bounds)
    )


def _published(
    workspace: Workspace, file: ArchiveFile | TradesFile, kind: str, read: Callable[[bytes], pl.DataFrame]
) -> Publication | None:
    with file_lock(workspace.lake.published_lock(file.market, kind, file.symbol)):
        kept = _kept(workspace, file, kind)
        if kept is not None:
            return Publication(workspace.lake.relative(kept), read(kept.read_bytes()))
        return _fetched(workspace, file, kind, read)


def _kept(workspace: Workspace, file: ArchiveFile | TradesFile, kind: str) -> Path | None:
    """The version that is published now, if it is in the lake.

    Raises:
        LakeError: It is there and was altered.
    """
    pinned = workspace.settings.archive.pinned_checksums.get(file.name)
    digest = pinned or workspace.archive.checksum(file)[0]
    path = (
        workspace.lake.published_file(file.market, kind, file.symbol, file.name, digest) if digest else None
    )
    if path is None or not path.is_file():
        return None
    if sha256_file(path) != digest:
        raise LakeError(
            "is not what was fetched", where=str(path), remedy="remove it; the next proof fetches it again"
        )
    return path


def _fetched(
    workspace: Workspace, file: ArchiveFile | TradesFile, kind: str, read: Callable[[bytes], pl.DataFrame]
) -> Publication | None:
    lake, archive = workspace.lake, workspace.settings.archive
    partial = lake.published_partial(file.market, kind, file.symbol, file.name)
    got = download_verified(workspace.archive, file, partial, archive.pinned_checksums.get(file.name))
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
        remedy = "it is in the quarantine; prove again later, or pin its checksum in archive.pinned_checksums"
        raise ChecksumMismatchError(f"{got.detail}", where=file.name, remedy=remedy)
    if got.trust is Trust.CHECKSUM_MISSING and not accept_without:
        remedy = "prove again later, pin its checksum, or set archive.accept_without_checksum"
        raise ChecksumMismatchError(f"cannot be verified: {got.detail}", where=file.name, remedy=remedy)
