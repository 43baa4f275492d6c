"""One writer a session: a lock that the kernel lets go of when its holder dies, with who holds it for the error message."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from capture_pipeline.errors import Busy, StorageError
from capture_pipeline.lake.files import make_folder
from capture_pipeline.recording.layout import SessionFolder


def holder_of(folder: SessionFolder) -> int | None:
    """The pid of the recorder at work on a session, None if there is none; told by the lock, not by the pid's existence."""
    try:
        descriptor = os.open(folder.lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(json.loads(os.pread(descriptor, 1000, 0) or b'{"pid":0}')["pid"]) or None
    else:
        return None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def holding(folder: SessionFolder) -> Iterator[None]:
    """Be the one writer of a session; the kernel lets go of the lock when the process dies.

    Raises:
        Busy: Another process is, with its pid and since when.
        StorageError: The disk refuses.
    """
    make_folder(folder.path)
    try:
        descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(f"cannot be locked: {error.strerror}", where=str(folder.lock)) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = json.loads(os.pread(descriptor, 1000, 0) or b"{}")
            what = f"is being recorded by pid {holder.get('pid', '?')} since {holder.get('since', '?')}"
            raise Busy(what, where=str(folder.path), remedy=f"capture session stop {folder.session}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_owner()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _owner() -> dict[str, object]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"pid": os.getpid(), "since": since, "boot_id": boot.read_text().strip() if boot.exists() else ""}
