"""`events.jsonl`: events of a recorder for people, one JSON object per line. No reader of data needs it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from capture_pipeline.recorder.events import LoggedEvent, MessageRejected, StrayMessageFound

_MAX_RAW_EVENTS = 1000
"""Logged events of each type that contain a raw message."""


class EventLog:
    """Appends events. If the disk refuses one, the event is lost and counted."""

    def __init__(self, path: Path, now_ns: Callable[[], int]) -> None:
        """Store the path; the file is opened for each event, because events are rare.

        Args:
            path: `events.jsonl` of the session.
            now_ns: Returns the time of an event on the recorder's clock.
        """
        self._path, self._now_ns = path, now_ns
        self._raw_counts: Counter[type[LoggedEvent]] = Counter()
        self.lost = 0

    def write(self, event: LoggedEvent) -> None:
        """Append one event.

        Of events with a raw message only the first ones, because a change affects all.
        """
        if isinstance(event, MessageRejected | StrayMessageFound):
            self._raw_counts[type(event)] += 1
            if self._raw_counts[type(event)] > _MAX_RAW_EVENTS:
                return
        line = json.dumps({"capture_ns": self._now_ns(), **event.line()}, default=str) + "\n"
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
