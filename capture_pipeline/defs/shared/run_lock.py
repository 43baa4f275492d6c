"""Whether the process of a run is alive: it holds a shared lock on a file of its own, and the kernel lets go of it when the process dies.

Process ids are reused and a heartbeat by time needs a guess; a lock needs neither. It holds for one machine, or a file system with locks.
A file of no bytes belongs to a process that is about to take the lock, so that no run is too young to be judged.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def hold_run_lock(path: Path) -> Iterator[None]:
    """Hold the lock while inside; a clean exit removes the file.

    Args:
        path: The run's own file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.ftruncate(descriptor, 1)  # takes no block, so that a full disk does not refuse it
        yield
    finally:
        # Removed before the lock is let go: whoever gets the lock of a file that is still there knows that its holder died.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_dead(path: Path) -> bool:
    """Whether a process held the file's lock and left both; without a file, or with an empty one, nothing is known, which is not dead."""
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
