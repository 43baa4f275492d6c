"""A deadline for one request: its connection is shut down when time is up, whatever the library is doing with it then.

A read timeout alone does not bound a request: each byte restarts it, in the status line, the headers and the body alike.
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
    """The time by which a request must be complete, or by which the next part of its answer must arrive.

    Attributes:
        seconds: From its beginning, or from the last renewal.
        is_over: Whether the time was up; the connection is shut down then.
    """

    def __init__(self, seconds: float) -> None:
        """Begin to count.

        Args:
            seconds: See the attribute.
        """
        self.seconds = seconds
        self.is_over = False
        self._until = time.monotonic() + seconds
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._released: list[socket.socket] = []

    def renew(self) -> None:
        """Begin to count again."""
        self._until = time.monotonic() + self.seconds

    def watch(self, connection: socket.socket) -> None:
        """Shut down a connection, too, when time is up."""
        with self._lock:
            self._watched.append(connection)
            if self.is_over:
                _shut_down(connection)

    def release(self, connection: socket.socket) -> None:
        """Close a connection once the request is done: its answer may still be read."""
        with self._lock:
            self._released.append(connection)

    @contextmanager
    def enforce(self) -> Iterator[None]:
        """Watch the connections that this thread opens or uses again."""
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
        while (left := self._until - time.monotonic()) > 0:
            if self._done.wait(left):
                return
        with self._lock:
            self.is_over = True
            for connection in self._watched:
                _shut_down(connection)


def watch(connection: socket.socket) -> None:
    """Have the deadline of this thread's request watch a connection; without one nothing is done."""
    deadline: Deadline | None = getattr(_current, "deadline", None)
    if deadline is not None:
        deadline.watch(connection)


def release(connection: socket.socket) -> None:
    """Close a connection, at once or when this thread's request is done."""
    deadline: Deadline | None = getattr(_current, "deadline", None)
    if deadline is None:
        connection.close()
    else:
        deadline.release(connection)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)
