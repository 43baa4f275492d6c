"""Archive files of one partition, and every change of their state, which the manifest records.

A file is not published, verified, republished, altered on the disk, or in the quarantine with the reason.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from capture_pipeline.binance.archive.frame_cache import read_open_times
from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.http.retries import raise_if_cancelled
from capture_pipeline.binance.periods import Month
from capture_pipeline.binance.urls import ArchiveFile, Granularity, parse_name
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.klines.ingest.download import download_verified, move_into_place, verify_or_quarantine
from capture_pipeline.klines.quality.ranges import find_missing
from capture_pipeline.lake.files import publish_model, read_model
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest
from capture_pipeline.lake.paths import Partition

_VERIFIED = {Trust.OK, Trust.PINNED}
_MB = 1 << 20
_REMEDY = (
    "archive.pinned_checksums once it is verified by other means, or set archive.accept_without_checksum"
)


class ArchiveFiles:
    """The files in the manifest of one partition; safe to use from several threads. The caller has the lock.

    Attributes:
        manifest: The manifest of the partition, read once and published after each download.
        fetched: Names of the files that were downloaded.
    """

    def __init__(
        self,
        deployment: Deployment,
        partition: Partition,
        now_us: int,
        cancel: threading.Event | None = None,
    ) -> None:
        """Read the manifest of a partition.

        Args:
            deployment: The deployment.
            partition: The partition; the caller has its lock.
            now_us: The present time.
            cancel: Event that stops further files and further attempts.

        Raises:
            LakeError: The manifest is damaged.
        """
        self._deployment, self._partition, self._now_us = deployment, partition, now_us
        self._lake, self._cancel = deployment.lake, cancel
        self._path = self._lake.archives_manifest(partition)
        self._pinned = deployment.settings.archive.pinned_checksums
        self._mutex = threading.Lock()
        self.manifest = read_model(self._path, ArchivesManifest) or ArchivesManifest()
        self.fetched: list[str] = []

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Publish the manifest at the end of the `with` block if it has changed, also after an error."""
        before = self.manifest.model_copy(deep=True)
        try:
            yield
        finally:
            if self.manifest != before:
                self.publish()

    def quarantine_altered(self) -> None:
        """Compare every file with its recorded SHA-256, and move altered ones to the quarantine.

        The record of an altered current version remains, and `ensure` downloads the file again. An earlier
        version cannot be downloaded again, so its record is updated.

        Raises:
            LakeError: A file cannot be read or moved.
        """
        for record in self.manifest.files:
            self._is_unaltered(record)
        for record in self.manifest.superseded:
            if not self._is_unaltered(record):
                record.path, record.detail = None, "the file of this earlier version was altered or removed"

    def _is_unaltered(self, record: ArchiveRecord) -> bool:
        if record.path is None or record.quarantined:
            return True
        return verify_or_quarantine(self._lake, self._partition, record.path, record.sha256_own)

    def recheck(self) -> list[ArchiveRecord]:
        """Read the published checksum of each file again, mark the files to download again, and publish.

        Files in the quarantine and files without a checksum are included. A marked file remains in use until
        its new version is downloaded and verified. A file in the quarantine remains there.

        Returns:
            The marked files: files with a new published checksum, and files that did not match their
            checksum, because a cache may have served an old zip.

        Raises:
            CaptureError: A checksum cannot be downloaded; nothing is published.
        """
        marked = []
        for record in self.manifest.downloaded():
            published = self._deployment.archive.checksum(_find_file(record, self._partition)).sha256
            record.checked_at_us = self._now_us
            if published is not None and (record.trust is Trust.MISMATCH or _is_new(record, published)):
                _mark(record, published)
                marked.append(record)
        if self.manifest.files:
            self.publish()
        return marked

    def ensure(self, file: ArchiveFile) -> ArchiveRecord:
        """Return the record of a file; download the file if no usable version is recorded.

        Raises:
            CaptureError: The download failed, or a file cannot be written.
        """
        raise_if_cancelled(self._cancel, file.name)
        known = self._known(file)
        is_present = known is not None and known.usable and self._has_file(known)
        if known and is_present and known.trust is not Trust.REPUBLISHED:
            return known
        record = self.fetch(file)
        with self._mutex:
            current = (
                self._keep_known(known, record)
                if known and is_present and not record.usable
                else self._replace(known, record)
            )
            if record.path:
                self.publish()
        return current

    def list_usable(self) -> set[str]:
        """List the names of usable files and of files with a newer published version."""
        return {
            record.name
            for record in self.manifest.files
            if record.usable or record.trust is Trust.REPUBLISHED
        }

    def list_unpublished(self, since_us: int) -> set[str]:
        """List the names of the files that were requested at `since_us` or later and not published."""
        return {
            record.name
            for record in self.manifest.files
            if record.trust is Trust.NOT_PUBLISHED and record.fetched_at_us >= since_us
        }

    def record_unpublished(self, files: Iterable[ArchiveFile]) -> None:
        """Record files that are missing in a listing of the archive."""
        for file in files:
            self._replace(
                self._known(file),
                self._record(file, Trust.NOT_PUBLISHED, detail="the archive does not list it"),
            )

    def publish(self) -> None:
        """Publish the manifest, so that its files are not downloaded again after a crash."""
        self.manifest.files.sort(
            key=lambda record: (record.granularity != Granularity.MONTHLY, record.start_us)
        )
        publish_model(self._path, self.manifest)

    def fetch(self, file: ArchiveFile) -> ArchiveRecord:
        """Download and verify a file, without regard to its record in the manifest."""
        partial = self._partial_path(file)
        download = download_verified(
            self._deployment.archive, file, partial, self._pinned.get(file.name), self._cancel
        )
        if download is None:
            return self._record(file, Trust.NOT_PUBLISHED, detail="the archive does not have it")
        record = self._record(file, download.trust, detail=download.detail)
        record.bytes, record.sha256_own, record.sha256_published = (
            partial.stat().st_size,
            download.sha256,
            download.published,
        )
        record.etag, record.last_modified = download.download.etag, download.download.last_modified
        record.attempts, record.seconds = download.attempts, round(download.seconds, 3)
        self._read_and_place(file, partial, record)
        return record

    def _read_and_place(self, file: ArchiveFile, partial: Path, record: ArchiveRecord) -> None:
        """Parse a verified download, then move it into its place."""
        with self._mutex:
            self.fetched.append(file.name)
        if record.trust is not Trust.MISMATCH:
            with self._deployment.row_budget.reserve(file.bounds.length_us // file.interval.us):
                self._read(file, partial, record)
        self._place(file, partial, record)

    def _read(self, file: ArchiveFile, partial: Path, record: ArchiveRecord) -> None:
        """Parse a download and complete its record; a file without klines of its period is malformed."""
        try:
            found = read_open_times(
                partial.read_bytes(), file.stem, self._deployment.settings.http.max_csv_mb * _MB, file.bounds
            )
        except MalformedDataError as error:
            record.trust, record.detail = Trust.MALFORMED, str(error)
            return
        opens, frame = found.open_us, found.frame
        inside = opens[(opens >= file.bounds.start_us) & (opens < file.bounds.end_us)]
        record.rows, record.first_open_us, record.last_open_us = (
            opens.size,
            int(inside.min()),
            int(inside.max()),
        )
        record.holes = find_missing(opens, self._partition.interval.us, file.bounds)
        record.usable = record.trust in _VERIFIED or (
            record.trust is Trust.CHECKSUM_MISSING
            and self._deployment.settings.archive.accept_without_checksum
        )
        if record.unverified:
            record.detail = f"{record.detail}; not used: pin its SHA-256 {record.sha256_own} in {_REMEDY}"
        if record.usable and frame is not None:
            self._deployment.frame_cache.keep(file.name, record.sha256_own, frame)

    def _place(self, file: ArchiveFile, partial: Path, record: ArchiveRecord) -> None:
        """Move a download to the raw folder, or to the quarantine with the reason."""
        digest = record.sha256_own or ""
        target = (
            self._lake.quarantine(self._partition) / f"{file.stem}.{digest[:12]}.zip"
            if record.quarantined
            else self._lake.archive_file(self._partition, file.name, digest)
        )
        move_into_place(partial, target, f"{record.detail}" if record.quarantined else None)
        record.path = self._lake.relative(target)

    def _record(self, file: ArchiveFile, trust: Trust, detail: str | None) -> ArchiveRecord:
        start, end = file.bounds
        return ArchiveRecord(
            name=file.name,
            granularity=file.granularity,
            start_us=start,
            end_us=end,
            trust=trust,
            detail=detail,
            url=self._deployment.archive.url(file),
            fetched_at_us=self._now_us,
            checked_at_us=self._now_us,
        )

    def _known(self, file: ArchiveFile) -> ArchiveRecord | None:
        with self._mutex:
            return next((record for record in self.manifest.files if record.name == file.name), None)

    def _keep_known(self, known: ArchiveRecord, newer: ArchiveRecord) -> ArchiveRecord:
        """Keep the verified version of a file; record a newer version that is not usable as superseded."""
        known.detail = f"a version published again is not usable ({newer.trust}): {newer.detail}"
        if newer.path and all(newer.sha256_own != record.sha256_own for record in self.manifest.superseded):
            self.manifest.superseded.append(newer)
        return known

    def _replace(self, known: ArchiveRecord | None, record: ArchiveRecord) -> ArchiveRecord:
        if known:
            self.manifest.files.remove(known)
            if known.path and known.sha256_own != record.sha256_own and known not in self.manifest.superseded:
                path = known.path if self._has_file(known) else None
                self.manifest.superseded.append(known.model_copy(update={"usable": False, "path": path}))
        self.manifest.files.append(record)
        return record

    def _has_file(self, record: ArchiveRecord) -> bool:
        return record.path is not None and self._lake.resolve(record.path).is_file()

    def _partial_path(self, file: ArchiveFile) -> Path:
        return self._lake.raw(self._partition) / "archives" / f".{file.stem}.partial"


def _is_new(record: ArchiveRecord, published: str) -> bool:
    """Report whether the published digest is neither the recorded one nor that of the file in use."""
    return published != record.sha256_published and not (record.usable and published == record.sha256_own)


def _mark(record: ArchiveRecord, published: str) -> None:
    if record.quarantined:
        # Files in the quarantine expire, so the record of a file to download again does not name one.
        record.path = None
    why = (
        f"published again with SHA-256 {published}"
        if _is_new(record, published)
        else "its zip did not match its checksum"
    )
    record.trust = Trust.REPUBLISHED
    record.detail = f"{why}; materialize kline_archives to download it again"


def _find_file(record: ArchiveRecord, partition: Partition) -> ArchiveFile:
    file = parse_name(record.name, partition.market)
    return file or ArchiveFile(
        partition.market, partition.symbol, partition.interval, Month.of(record.start_us)
    )
