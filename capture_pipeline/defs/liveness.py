"""Whether the process of a run is alive: it holds a shared lock on a file of its own, and the kernel lets go of it when the process dies.

Process ids are reused and a heartbeat by time needs a guess; a lock needs neither. It holds for one machine, or a file system with locks.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alive(path: Path) -> Iterator[None]:
    """Hold the lock while inside; a clean exit removes the file.

    Args:
        path: The run's own file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        # Removed before the lock is let go: whoever gets the lock of a file that is still there knows that its holder died.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_dead(path: Path) -> bool:
    """Whether the file is there and nobody holds it; without a file nothing is known, which is not dead."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return path.exists()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
