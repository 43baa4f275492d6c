"""Deadline of one request: its connection is shut down when the time is over.

A read timeout alone does not limit the duration of a request, because each received byte restarts it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_current = threading.local()


class Deadline:
    """Time until a request must be complete, or until the next part of its answer must arrive.

    Attributes:
        seconds: Duration from the start or from the last renewal.
        is_over: Whether the time ran out and the connections were shut down.
    """

    def __init__(self, seconds: float) -> None:
        """Start the deadline.

        Args:
            seconds: Duration.
        """
        self.seconds = seconds
        self.is_over = False
        self._until = time.monotonic() + seconds
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._released: list[socket.socket] = []

    def renew(self) -> None:
        """Restart the deadline."""
        self._until = time.monotonic() + self.seconds

    def watch(self, connection: socket.socket) -> None:
        """Add a connection to those that are shut down when the time is over."""
        with self._lock:
            self._watched.append(connection)
            if self.is_over:
                _shut_down(connection)

    def release(self, connection: socket.socket) -> None:
        """Close a connection after the end of the request, because its answer may still be read."""
        with self._lock:
            self._released.append(connection)

    @contextmanager
    def enforce(self) -> Iterator[None]:
        """Enforce the deadline on the connections that this thread opens or reuses inside the block."""
        threading.Thread(target=self._wait, name="deadline", daemon=True).start()
        _current.deadline = self
        try:
            yield
        finally:
            _current.deadline = None
            self._done.set()
            with self._lock:
                self._watched = []
                for connection in self._released:
                    connection.close()

    def _wait(self) -> None:
        while (remaining_s := self._until - time.monotonic()) > 0:
            if self._done.wait(remaining_s):
                return
        with self._lock:
            self.is_over = True
            for connection in self._watched:
                _shut_down(connection)


def watch(connection: socket.socket) -> None:
    """Add a connection to the deadline of this thread's request, if there is one."""
    deadline: Deadline | None = getattr(_current, "deadline", None)
    if deadline is not None:
        deadline.watch(connection)


def release(connection: socket.socket) -> None:
    """Close a connection, now or after the end of this thread's request."""
    deadline: Deadline | None = getattr(_current, "deadline", None)
    if deadline is None:
        connection.close()
    else:
        deadline.release(connection)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the connection is already closed
        connection.shutdown(socket.SHUT_RDWR)
