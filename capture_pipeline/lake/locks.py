"""Locks between processes. The kernel releases a lock when its process ends, also after SIGKILL.

The file of a lock contains its owner while it is locked, so that the error of another process names it. A
lock belongs to one process: a child that is forked inside a lock does not keep it. A lock works on a full
disk, where its file may lack the owner. It works on one machine, or on a shared file system with locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from pydantic import BaseModel

from capture_pipeline.errors import BusyError, StorageError
from capture_pipeline.lake.files import create_folder, storage_errors
from capture_pipeline.parsing import PARSE_ERRORS

_TRY_EVERY_S = 0.02
_MAX_BYTES = 1000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_descriptors: set[int] = set()
"""Open files of the locks of this process."""


class Owner(BaseModel):
    """Owner of a lock. Pid, start time and boot id together identify one process.

    Attributes:
        pid: Process id.
        since: Time of the lock, ISO 8601, UTC.
        boot_id: Id that the kernel chose when the machine started; empty if the system has none.
        started: Start of the process after the start of the machine, in ticks of the kernel.
    """

    pid: int
    since: str
    boot_id: str
    started: str

    @property
    def is_alive(self) -> bool:
        """True if this process still runs."""
        return self.boot_id == _read_boot_id() and self.started == _read_start(self.pid) != ""

    def __str__(self) -> str:
        """Return the pid and the time of the lock, for a message."""
        return f"pid {self.pid} since {self.since}"


@contextlib.contextmanager
def file_lock(
    path: Path,
    timeout_s: float = 0.0,
    cancel: threading.Event | None = None,
    *,
    is_owner_required: bool = False,
) -> Iterator[None]:
    """Lock `path` exclusively.

    Args:
        path: File of the lock; it is created if it does not exist.
        timeout_s: Longest time to wait for another process, seconds.
        cancel: Event that ends the wait.
        is_owner_required: Whether the lock fails if the disk has no space for its owner.

    Raises:
        BusyError: Another process or thread has the lock, after `timeout_s` too.
        StorageError: The file cannot be created, or the required owner cannot be written.
    """
    create_folder(path.parent)
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    _descriptors.add(descriptor)
    try:
        _acquire(descriptor, path, timeout_s, cancel)
        try:
            _write_owner(descriptor, path, is_required=is_owner_required)
            yield
        finally:
            if descriptor in _descriptors:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, 0)
    finally:
        if descriptor in _descriptors:  # a forked child has closed it
            _descriptors.remove(descriptor)
            os.close(descriptor)


def find_owner(path: Path) -> Owner | None:
    """Return the living process that has the lock of `path`.

    None if nobody has it or the owner is unknown.
    """
    owner = _parse_owner(_read_content(path, is_locked=True))
    return owner if owner is not None and owner.is_alive else None


def is_abandoned(path: Path) -> bool:
    """Return True if the owner of a lock died without releasing it.

    A missing or empty file does not prove a death: its process may not have the lock yet.
    """
    # An owner that removes the file does so before it releases the lock.
    return bool(_read_content(path, is_locked=False)) and path.exists()


def _acquire(descriptor: int, path: Path, timeout_s: float, cancel: threading.Event | None) -> None:
    deadline = time.monotonic() + timeout_s
    while not _try_lock(descriptor, fcntl.LOCK_EX):
        if time.monotonic() >= deadline or (cancel is not None and cancel.is_set()):
            owner = _parse_owner(os.pread(descriptor, _MAX_BYTES, 0))
            raise BusyError(
                f"is locked by {owner or 'another process'}",
                where=str(path),
                remedy="wait for the end of that process, or stop it",
            )
        time.sleep(_TRY_EVERY_S)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_content(path: Path, *, is_locked: bool) -> bytes:
    """Return the content of a lock's file if the lock is taken, or free; otherwise nothing.

    The check takes the lock shared for an instant. An owner that must not fail at that instant sets a
    timeout.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        is_taken = not _try_lock(descriptor, fcntl.LOCK_SH)
        return os.pread(descriptor, _MAX_BYTES, 0) if is_taken == is_locked else b""
    finally:
        os.close(descriptor)


def _write_owner(descriptor: int, path: Path, *, is_required: bool) -> None:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    owner = Owner(pid=os.getpid(), since=since, boot_id=_read_boot_id(), started=_read_start(os.getpid()))
    with contextlib.nullcontext() if is_required else contextlib.suppress(StorageError), storage_errors(path):
        os.ftruncate(descriptor, 1)  # needs no block of the disk; see `is_abandoned`
        os.pwrite(descriptor, owner.model_dump_json().encode(), 0)


def _parse_owner(content: bytes) -> Owner | None:
    try:
        return Owner.model_validate_json(content)
    except PARSE_ERRORS:
        return None


def _read_boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else ""


def _read_start(pid: int) -> str:
    """Return the start of a process in ticks of the kernel since the start of the machine.

    Empty if the process has ended.
    """
    try:
        started_s = psutil.Process(pid).create_time() - psutil.boot_time()
    except psutil.Error:
        return ""
    return str(round(started_s * os.sysconf("SC_CLK_TCK")))


def _close_inherited() -> None:
    """Close the locks of the parent in a forked child; the locks of the parent remain."""
    while _descriptors:
        os.close(_descriptors.pop())


os.register_at_fork(after_in_child=_close_inherited)
