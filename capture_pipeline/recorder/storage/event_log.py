"""`events.jsonl`: events of a recorder for people, one JSON object per line. No reader of data needs it."""

from __future__ import annotations

import json
import os
from pathlib import Path


class EventLog:
    """Appends events. If the disk refuses one, the event is lost and counted."""

    def __init__(self, path: Path) -> None:
        """Store the path; the file is opened for each event, because events are rare."""
        self._path = path
        self.lost = 0

    def write(self, capture_ns: int, kind: str, **details: object) -> None:
        """Append one event.

        Args:
            capture_ns: Time of the event on the recorder's clock.
            kind: Name of the event, for instance connection_opened, clock_step, audit.
            details: Values that can be written as JSON or text.
        """
        line = json.dumps({"capture_ns": capture_ns, "event": kind, **details}, default=str) + "\n"
        try:
            append_line(self._path, line)
        except OSError:
            self.lost += 1


def append_line(path: Path, line: str) -> None:
    """Append one whole line; a torn last line, which a kill may have left, is terminated first."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        data = line.encode()
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
