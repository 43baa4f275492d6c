"""Files published whole: written temporary, fsynced, renamed, the directory fsynced. A reader never sees half a file.

A disk that is full, read-only or broken becomes `StorageError`; what was there before stays as it was.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from capture_pipeline.errors import BusyError, LakeError, StorageError
from capture_pipeline.parsing import guard_parser

M = TypeVar("M", bound=BaseModel)
_TRY_EVERY_S = 0.02
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
    """Turn what a disk can do to us into `StorageError`; anything else passes."""
    try:
        yield
    except OSError as error:
        if error.errno in _STORAGE_ERRNO:
            remedy = "free space or mend the disk, then run again; nothing published was changed"
            raise StorageError(
                f"cannot be written: {os.strerror(error.errno or 0)}", where=str(path), remedy=remedy
            ) from error
        raise


def create_folder(path: Path) -> None:
    """Make a folder and those above it, durably.

    Raises:
        StorageError: The disk refused.
    """
    if path.is_dir():
        return
    create_folder(path.parent)
    try:
        path.mkdir(exist_ok=True)
        fsync(path.parent)
    except OSError as error:
        remedy = "mend storage.root, or the permissions of what is there"
        raise StorageError(
            f"cannot be made: {os.strerror(error.errno or 0)}", where=str(path), remedy=remedy
        ) from error


@contextlib.contextmanager
def atomic_write(path: Path, *, is_durable: bool = True) -> Iterator[Path]:
    """Yield a file temporary `path` to write to; on a clean exit it becomes `path`, otherwise it is removed.

    Args:
        path: Where the file is to appear; its folder is made.
        is_durable: Whether it survives a loss of power, at the price of two fsyncs; without it a process may be killed at any time.

    Raises:
        StorageError: The disk refused; `path` is as before.
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
        with contextlib.suppress(
            NotADirectoryError
        ):  # a file is in the way of its folder, which has been told
            temporary.unlink(missing_ok=True)


def unpublish(path: Path) -> None:
    """Remove what was published as `path`, durably, if anything was."""
    with storage_errors(path):
        if path.exists():
            path.unlink()
            fsync(path.parent)


def publish_bytes(path: Path, content: bytes | memoryview, *, is_durable: bool = True) -> None:
    """Publish `content` as `path`."""
    with atomic_write(path, is_durable=is_durable) as temporary, temporary.open("wb") as file:
        file.write(content)


def publish_model(path: Path, model: BaseModel, *, is_durable: bool = True) -> None:
    """Publish a manifest as indented JSON."""
    publish_bytes(path, (model.model_dump_json(indent=1) + "\n").encode(), is_durable=is_durable)


def read_model(path: Path, kind: type[M]) -> M | None:
    """Read a manifest, or None where there is none.

    Raises:
        LakeError: The file is there and is not what was written.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise LakeError("is a folder", where=str(path), remedy="move it aside") from None
    with guard_parser(
        str(path),
        "is damaged",
        kind=LakeError,
        remedy="move it aside; the next run fetches anew what it recorded",
    ):
        return kind.model_validate_json(content)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits, in constant memory.

    Raises:
        LakeError: It is not there.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise LakeError(
            "is recorded but gone", where=str(path), remedy="backfill its partition again to fetch it"
        ) from None


def fsync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def file_lock(path: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock on `path` while inside; the kernel releases it when the process dies.

    Args:
        path: The lock's file, which is made if it is not there.
        patience_s: How long to wait for another process that holds it.

    Raises:
        BusyError: Another process holds it, and still does after `patience_s`.
    """
    create_folder(path.parent)
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + patience_s
        while not (is_ours := _try_lock(descriptor)) and time.monotonic() < deadline:
            time.sleep(_TRY_EVERY_S)
        if not is_ours:
            holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
            raise BusyError(
                f"is held by {holder or 'another process'}",
                where=str(path),
                remedy="wait for it to end, or stop it",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
