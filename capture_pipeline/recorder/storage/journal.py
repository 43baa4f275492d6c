"""The growing recording on disk. Each batch is appended as a whole gzip member or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Self

from capture_pipeline.errors import StorageError
from capture_pipeline.lake.files import fsync, storage_errors
from capture_pipeline.sessions.gzip_members import build_member
from capture_pipeline.sessions.models import Cause


class SegmentAlteredError(Exception):
    """Another program removed, replaced or altered the file during the recording.

    Attributes:
        cause: `file removed` or `file altered`.
        detail: Description of the alteration.
    """

    def __init__(self, cause: Cause, detail: str) -> None:
        """Store the cause and the description."""
        super().__init__(detail)
        self.cause, self.detail = cause, detail


class Journal:
    """An append-only file of gzip members.

    Attributes:
        path: The file.
        size: Bytes of whole members in the file.
        is_suspect: Whether an fsync failed; the content on the disk is then unknown, and nothing is appended.
    """

    def __init__(self, path: Path) -> None:
        """Open the file for appending; create it if it does not exist.

        Raises:
            StorageError: The file cannot be opened or created.
        """
        self.path = path
        self.is_suspect = False
        with storage_errors(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self.size = os.lseek(self._descriptor, 0, os.SEEK_END)
                fsync(path.parent)
            except OSError:
                os.close(self._descriptor)
                raise

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def append(self, lines: bytes, count: int) -> None:
        """Write one batch, whole or not at all.

        Args:
            lines: Whole lines.
            count: Count of the lines.

        Raises:
            StorageError: The batch cannot be written; the file is unchanged.
            SegmentAlteredError: Another program changed the size of the file; nothing was written.
        """
        self._check_size()
        member = memoryview(build_member(lines, count))
        with storage_errors(self.path):
            try:
                # A single call may write only a part, for instance on a disk that is almost full.
                while member:
                    member = member[os.write(self._descriptor, member) :]
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self.size)
                    os.lseek(self._descriptor, self.size, os.SEEK_SET)
                raise
        self.size = os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def check(self) -> None:
        """Check that the path still names the open file and that the file has the written size.

        Raises:
            SegmentAlteredError: The file was removed or replaced, or its size differs.
        """
        with contextlib.suppress(PermissionError):
            try:
                named = self.path.stat()
            except (FileNotFoundError, NotADirectoryError):
                raise SegmentAlteredError(Cause.FILE_REMOVED, "was removed while it was written") from None
            written = os.fstat(self._descriptor)
            if (named.st_dev, named.st_ino) != (written.st_dev, written.st_ino):
                raise SegmentAlteredError(
                    Cause.FILE_REMOVED, "was replaced by another file while it was written"
                )
        self._check_size()

    def _check_size(self) -> None:
        try:
            size = os.fstat(self._descriptor).st_size
        except OSError:
            return
        if size != self.size:
            raise SegmentAlteredError(
                Cause.FILE_ALTERED, f"had {size:,} bytes and {self.size:,} were written"
            )

    def sync(self) -> None:
        """Flush the file to the disk.

        Raises:
            StorageError: An fsync failed. The kernel may have dropped the pages, so it is not repeated.
        """
        if self.is_suspect:
            raise StorageError("an earlier fsync failed", where=str(self.path))
        try:
            with storage_errors(self.path):
                os.fsync(self._descriptor)
        except (StorageError, OSError):
            self.is_suspect = True
            raise

    def close(self) -> None:
        """Close the file, and ignore errors."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
