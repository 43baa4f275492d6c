"""`events.jsonl`: what happened beside the messages, one JSON object a line. Evidence for people; no reader of data needs it."""

from __future__ import annotations

import json
import os
from pathlib import Path


class EventLog:
    """Appends events; a disk that refuses loses them and counts how many."""

    def __init__(self, path: Path) -> None:
        """Keep the path; the file is opened for each event, which are few."""
        self._path = path
        self.lost = 0

    def write(self, capture_ns: int, kind: str, **details: object) -> None:
        """Append one event.

        Args:
            capture_ns: When, on the recorder's clock.
            kind: What, for instance connection_opened, clock_step, audit.
            details: Anything that JSON can hold.
        """
        line = json.dumps({"capture_ns": capture_ns, "event": kind, **details}, default=str) + "\n"
        try:
            append_line(self._path, line)
        except OSError:
            self.lost += 1


def append_line(path: Path, line: str) -> None:
    """Append one whole line, after mending a torn one that a kill may have left."""
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
