"""Atomic publication of files: write a temporary file, fsync, rename, fsync the folder.

A reader never sees a partial file. An error of the disk (full, read-only, broken) becomes `StorageError`, and
the previous file stays unchanged.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from capture_pipeline.errors import LakeError, StorageError
from capture_pipeline.parsing import guard_parser

M = TypeVar("M", bound=BaseModel)
_STORAGE_ERRNO = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EROFS,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.ENODEV,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
}


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk into `StorageError`; other errors are raised unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno in _STORAGE_ERRNO:
            remedy = "free space or repair the disk, then run again; nothing published was changed"
            raise StorageError(
                f"cannot be written: {os.strerror(error.errno or 0)}", where=str(path), remedy=remedy
            ) from error
        raise


def create_folder(path: Path) -> None:
    """Create a folder and its parents, durably.

    Raises:
        StorageError: The folder cannot be created.
    """
    if path.is_dir():
        return
    create_folder(path.parent)
    try:
        path.mkdir(exist_ok=True)
        fsync(path.parent)
    except OSError as error:
        remedy = "correct storage.root, or the permissions of the folders in it"
        raise StorageError(
            f"cannot be created: {os.strerror(error.errno or 0)}", where=str(path), remedy=remedy
        ) from error


@contextlib.contextmanager
def atomic_write(path: Path, *, is_durable: bool = True) -> Iterator[Path]:
    """Yield a temporary file; on a clean exit it is renamed to `path`, otherwise it is removed.

    Args:
        path: Final path; its folder is created.
        is_durable: Whether the file survives a loss of power, which takes two fsyncs. Without it the file
            still survives a kill of the process.

    Raises:
        StorageError: The file cannot be written; `path` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        create_folder(path.parent)
        with storage_errors(path):
            yield temporary
            if is_durable:
                fsync(temporary)
            temporary.replace(path)
            if is_durable:
                fsync(path.parent)
    finally:
        # NotADirectoryError: a file is in the place of the folder, and `create_folder` has raised for it.
        with contextlib.suppress(NotADirectoryError):
            temporary.unlink(missing_ok=True)


def unpublish(path: Path) -> None:
    """Remove a published file, durably, if it exists."""
    with storage_errors(path):
        if path.exists():
            path.unlink()
            fsync(path.parent)


def publish_bytes(path: Path, content: bytes | memoryview, *, is_durable: bool = True) -> None:
    """Publish `content` as `path`."""
    with atomic_write(path, is_durable=is_durable) as temporary, temporary.open("wb") as file:
        file.write(content)


def publish_model(path: Path, model: BaseModel, *, is_durable: bool = True) -> None:
    """Publish a model as indented JSON."""
    publish_bytes(path, (model.model_dump_json(indent=1) + "\n").encode(), is_durable=is_durable)


def read_model(path: Path, kind: type[M]) -> M | None:
    """Read a published model; None if the file does not exist.

    Raises:
        LakeError: The file is a folder, or its content is not valid.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise LakeError("is a folder", where=str(path), remedy="move it away") from None
    with guard_parser(
        str(path),
        "is damaged",
        kind=LakeError,
        remedy="move the file away; the next run downloads the listed files again",
    ):
        return kind.model_validate_json(content)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits, in constant memory.

    Raises:
        LakeError: The file does not exist.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise LakeError(
            "is recorded but missing", where=str(path), remedy="backfill its partition again to download it"
        ) from None


def fsync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
