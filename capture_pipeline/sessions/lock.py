"""Lock that allows one writer per session.

The file of the lock names the running recorder, so that the recorder can be stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from capture_pipeline.errors import BusyError
from capture_pipeline.lake.locks import file_lock, find_owner
from capture_pipeline.sessions.layout import SessionFolder

_TIMEOUT_S = 2.0
"""`lock_owner_pid` of another process takes the lock for an instant."""


def lock_owner_pid(folder: SessionFolder) -> int | None:
    """Return the pid of the running recorder of a session, or None."""
    owner = find_owner(folder.lock)
    return None if owner is None else owner.pid


@contextlib.contextmanager
def session_lock(folder: SessionFolder) -> Iterator[None]:
    """Lock a session as its only writer.

    Raises:
        BusyError: Another process has the lock; the message names its pid and start.
        StorageError: The file of the lock cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(folder.lock, _TIMEOUT_S, is_owner_required=True))
        except BusyError:
            raise BusyError(
                f"is being recorded by {find_owner(folder.lock) or 'another process'}",
                where=str(folder.path),
                remedy=f"wait for its end, or run `capture session stop {folder.session}`",
            ) from None
        yield
