"""The package's own operations without a network: an archive that answers from files or memory, and the workspace that asks it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from capture_pipeline.binance.archive.client import ArchiveClient, Download
from capture_pipeline.binance.archive.protocol import parse_checksum
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.binance.periods import Month, parse_time
from capture_pipeline.binance.urls import ArchiveFile, Market, PublishedFile, parse_name
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.lake.paths import Partition
from capture_pipeline.settings.models import Settings

NOW_US = parse_time("2026-01-10")
Reader = Callable[[ArchiveFile], tuple[bytes, str] | None]
"""Zip and text of its checksum file, None where there is none."""


class OfflineArchive(ArchiveClient):
    """The archive's answers without HTTP; a download is a write of the bytes that would have come."""

    def __init__(self, http: Http, read: Reader) -> None:
        """Keep where the bytes come from."""
        super().__init__(http, "http://127.0.0.1", "http://127.0.0.1")
        self._read = read

    def _found(self, file: PublishedFile) -> tuple[bytes, str] | None:
        return self._read(file) if isinstance(file, ArchiveFile) else None

    def checksum(
        self, file: PublishedFile, cancel: threading.Event | None = None
    ) -> tuple[str | None, str | None]:
        """The published digest."""
        found = self._found(file)
        return (parse_checksum(found[1], file.name), None) if found else (None, "no checksum is published")

    def download(
        self, file: PublishedFile, sink: BinaryIO, state: Download, cancel: threading.Event | None = None
    ) -> bool:
        """Write the zip into `sink`."""
        state.attempts += 1
        found = self._found(file)
        if found is None:
            return False
        sink.truncate(0)
        sink.write(found[0])
        state.etag = found[1].split()[0]
        return True


@dataclass(frozen=True)
class OfflineWorkspace(Workspace):
    """A deployment whose archive is offline.

    Attributes:
        read: Where its archive's bytes come from.
    """

    read: Reader

    @cached_property
    def archive(self) -> ArchiveClient:
        """The exchange's archive."""
        return OfflineArchive(self.http, self.read)


def settings_for(root: Path, symbols: list[str], start: str, end: str) -> Settings:
    """Settings of a spot deployment of 1m bars.

    Args:
        root: Storage root.
        symbols: Which ones.
        start: First day.
        end: Last day.
    """
    document = {
        "symbols": symbols,
        "history": {"start": start, "end": end},
        "storage": {"root": str(root.absolute())},
    }
    return Settings.model_validate(document)


def from_folder(folder: Path) -> Reader:
    """Read zips and checksum files of a folder."""

    def read(file: ArchiveFile) -> tuple[bytes, str] | None:
        path = folder / file.name
        return (
            (path.read_bytes(), Path(f"{path}.CHECKSUM").read_text(encoding="ascii"))
            if path.is_file()
            else None
        )

    return read


def file_of(path: Path) -> ArchiveFile:
    """The archive file that a zip is.

    Raises:
        ValueError: Its name is none of the archive's.
    """
    file = parse_name(path.name, Market.SPOT)
    if file is None:
        raise ValueError(path.name)
    return file


def partition_of(file: ArchiveFile) -> Partition:
    """The partition that a monthly zip fills.

    Raises:
        ValueError: It is a daily one.
    """
    if not isinstance(file.period, Month):
        raise ValueError(file.name)  # noqa: TRY004 - a value of the right type that does not fit
    return Partition(file.market, file.interval, file.symbol, file.period)
