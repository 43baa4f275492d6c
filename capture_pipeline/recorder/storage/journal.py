"""The growing recording on disk: batches appended as whole gzip members, never half of one left behind."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Self

from capture_pipeline.errors import StorageError
from capture_pipeline.lake.files import fsync, storage_errors
from capture_pipeline.sessions.gzip_members import member_of
from capture_pipeline.sessions.models import Cause


class SegmentAlteredError(Exception):
    """Somebody removed, replaced or altered the file while it was written.

    Attributes:
        cause: `file removed` or `file altered`.
        detail: What was found.
    """

    def __init__(self, cause: Cause, detail: str) -> None:
        """Keep both."""
        super().__init__(detail)
        self.cause, self.detail = cause, detail


class Journal:
    """One file that only grows.

    Attributes:
        path: The file.
        size: Bytes of whole members in it.
        is_suspect: An fsync failed: what is on the disk is unknown, and this file takes nothing more.
    """

    def __init__(self, path: Path) -> None:
        """Open it for appending; it is made if it is not there.

        Raises:
            StorageError: The disk refuses.
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
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def append(self, lines: bytes, count: int) -> None:
        """Write one batch; it is there whole, or not at all.

        Args:
            lines: Whole lines.
            count: How many they are.

        Raises:
            StorageError: The disk refuses; the file is as before.
            SegmentAlteredError: Somebody else changed its size; nothing was written.
        """
        self._check_size()
        member = memoryview(member_of(lines, count))
        with storage_errors(self.path):
            try:
                # One call can write less than it was given, on a disk that fills up for instance.
                while member:
                    member = member[os.write(self._descriptor, member) :]
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self.size)
                    os.lseek(self._descriptor, self.size, os.SEEK_SET)
                raise
        self.size = os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def check(self) -> None:
        """Make sure that the path still names the file that is written, and that its size is what was written.

        Raises:
            SegmentAlteredError: It does not.
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
        """Make what was written survive a loss of power.

        Raises:
            StorageError: It failed; the kernel may have dropped the pages, so it is not tried again on this file.
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
        """Let go of the file."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
