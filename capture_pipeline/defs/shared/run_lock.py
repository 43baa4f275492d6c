"""Lock that shows whether the process of a run is alive. The kernel releases the lock when the process dies.

A lock is more reliable than a process id, which can be reused, or a heartbeat, which needs a time-out. It
works on one machine, or on a shared file system with locks. An empty file belongs to a process that has not
taken the lock yet.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def hold_run_lock(path: Path) -> Iterator[None]:
    """Hold the lock inside the `with` block, then remove the file.

    Args:
        path: Lock file of the run; its folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.ftruncate(descriptor, 1)  # allocates no block, so it also works on a full disk
        yield
    finally:
        # The file is removed before the lock is released. If another process gets the lock of an existing
        # file, the process of the run has died.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_dead(path: Path) -> bool:
    """Return True if the process that held the lock died. A missing or empty file does not prove a death."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_size > 0 and path.exists()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
