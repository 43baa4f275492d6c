"""Deployment without a network: its archive client reads files or memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from capture_pipeline.binance.archive.client import ArchiveClient, Download, PublishedDigest
from capture_pipeline.binance.archive.protocol import parse_checksum
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.binance.periods import Month, parse_time
from capture_pipeline.binance.urls import ArchiveFile, Market, PublishedFile, parse_name
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.lake.paths import Partition
from capture_pipeline.settings.models import Settings

NOW_US = parse_time("2026-01-10")
Reader = Callable[[ArchiveFile], tuple[bytes, str] | None]
"""Function that returns a zip and the text of its checksum file; None if the file does not exist."""


class OfflineArchive(ArchiveClient):
    """Archive client without HTTP; a download writes the bytes of a reader."""

    def __init__(self, http: Http, read: Reader) -> None:
        """Create a client; `read` returns the content of files."""
        super().__init__(http, "http://127.0.0.1", "http://127.0.0.1")
        self._read = read

    def _read_file(self, file: PublishedFile) -> tuple[bytes, str] | None:
        return self._read(file) if isinstance(file, ArchiveFile) else None

    def checksum(self, file: PublishedFile, cancel: threading.Event | None = None) -> PublishedDigest:
        """Return the published digest, or the reason for its absence."""
        content = self._read_file(file)
        if content is None:
            return PublishedDigest(None, "no checksum is published")
        return PublishedDigest(parse_checksum(content[1], file.name), None)

    def download(
        self, file: PublishedFile, sink: BinaryIO, state: Download, cancel: threading.Event | None = None
    ) -> bool:
        """Write the zip into `sink`."""
        state.attempts += 1
        content = self._read_file(file)
        if content is None:
            return False
        sink.truncate(0)
        sink.write(content[0])
        state.etag = content[1].split()[0]
        return True


@dataclass(frozen=True)
class OfflineDeployment(Deployment):
    """Deployment with an offline archive.

    Attributes:
        read: Function that returns the content of files.
    """

    read: Reader

    @cached_property
    def archive(self) -> ArchiveClient:
        """Offline archive client."""
        return OfflineArchive(self.http, self.read)


def create_settings(root: Path, symbols: list[str], start: str, end: str) -> Settings:
    """Create settings of a spot deployment with 1m bars.

    Args:
        root: Storage root.
        symbols: Symbols of the deployment.
        start: First day of the history.
        end: Last day of the history.
    """
    document = {
        "symbols": symbols,
        "history": {"start": start, "end": end},
        "storage": {"root": str(root.absolute())},
    }
    return Settings.model_validate(document)


def read_from_folder(folder: Path) -> Reader:
    """Create a reader of the zips and checksum files in a folder."""

    def read(file: ArchiveFile) -> tuple[bytes, str] | None:
        path = folder / file.name
        return (
            (path.read_bytes(), Path(f"{path}.CHECKSUM").read_text(encoding="ascii"))
            if path.is_file()
            else None
        )

    return read


def archive_file_of(path: Path) -> ArchiveFile:
    """Parse the name of a zip.

    Raises:
        ValueError: The name is not a name of the archive.
    """
    file = parse_name(path.name, Market.SPOT)
    if file is None:
        raise ValueError(path.name)
    return file


def partition_of(file: ArchiveFile) -> Partition:
    """Return the partition of a monthly file.

    Raises:
        ValueError: The file is a daily file.
    """
    if not isinstance(file.period, Month):
        raise ValueError(file.name)  # noqa: TRY004 - the type of the argument is valid
    return Partition(file.market, file.interval, file.symbol, file.period)
