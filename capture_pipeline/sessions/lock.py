"""Lock that allows one writer per session; the kernel releases it when the owner dies.

The file names the owner. `lock_owner_pid` takes the lock shared for an instant. A recorder that starts at
that instant retries.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from capture_pipeline.errors import BusyError
from capture_pipeline.lake.files import create_folder, storage_errors
from capture_pipeline.parsing import PARSE_ERRORS
from capture_pipeline.sessions.layout import SessionFolder

_PATIENCE_S, _TRY_EVERY_S = 2.0, 0.02
_MAX_BYTES = 1000
_START_TIME = 19
"""Index of the start time in `/proc/PID/stat`, counted after the process name."""


class Owner(BaseModel):
    """Owner of a lock. Pid, start time and boot id together identify one process."""

    pid: int
    since: str
    boot_id: str
    started: str

    @property
    def is_alive(self) -> bool:
        """Whether this process still runs."""
        return self.boot_id == _boot_id() and self.started == _read_start_time(self.pid) != ""


def lock_owner_pid(folder: SessionFolder) -> int | None:
    """Return the pid of the recorder at work on a session, or None; the lock decides, not the pid alone."""
    try:
        descriptor = os.open(folder.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _read_owner(descriptor)
        return owner.pid if owner is not None and owner.is_alive else None
    else:
        return None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def session_lock(folder: SessionFolder) -> Iterator[None]:
    """Lock a session as its only writer; the kernel releases the lock when the process dies.

    Raises:
        BusyError: Another process has the lock; the message names its pid and start.
        StorageError: The file of the lock cannot be written.
    """
    create_folder(folder.path)
    with storage_errors(folder.lock):
        descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(descriptor, folder)
        with storage_errors(folder.lock):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _this_process().model_dump_json().encode(), 0)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, folder: SessionFolder) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _read_owner(descriptor)
            if (
                owner is None or not owner.is_alive or owner.pid == os.getpid()
            ) and time.monotonic() < deadline:
                # Another process reads the owner, or has just taken the lock and not written its pid yet.
                time.sleep(_TRY_EVERY_S)
                continue
            who = f"pid {owner.pid} since {owner.since}" if owner is not None else "another process"
            remedy = f"capture session stop {folder.session}"
            raise BusyError(f"is being recorded by {who}", where=str(folder.path), remedy=remedy) from None
        else:
            return


def _read_owner(descriptor: int) -> Owner | None:
    try:
        return Owner.model_validate_json(os.pread(descriptor, _MAX_BYTES, 0))
    except PARSE_ERRORS:
        return None


def _this_process() -> Owner:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Owner(pid=os.getpid(), since=since, boot_id=_boot_id(), started=_read_start_time(os.getpid()))


def _boot_id() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else ""


def _read_start_time(pid: int) -> str:
    """Return the start time of a process in kernel ticks; empty if it is gone, `?` if unknown."""
    if not Path("/proc/self/stat").exists():
        return "?"
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_START_TIME]
    except (OSError, IndexError):
        return ""
