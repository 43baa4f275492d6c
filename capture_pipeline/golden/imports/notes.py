"""What an import took and what it left: skipped lines by kind, unreadable parts of files, stamps that contradict event times."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from capture_pipeline.errors import MalformedDataError

MOST_LISTED = 20
MOST_OFFSET_S = 1800
"""A stamp further from its event time is implausible: the wrong unit, local time taken for UTC, or a clock that was never set."""


class Captured(NamedTuple):
    """One message.

    Attributes:
        capture_ns: When it was captured, nanoseconds UTC, by the recorder's clock.
        stream: The exchange's name of the stream, or `<symbol>@depthSnapshot`.
        data: The bytes of the message's `data`, or the body of a REST answer.
    """

    capture_ns: int
    stream: str
    data: bytes


class LeftOut(NamedTuple):
    """A part of a source file that was not taken.

    Attributes:
        file: Its name.
        what: What is wrong, with the place.
        lines: How many lines of it could be read and were not taken.
    """

    file: str
    what: str
    lines: int = 0

    def __str__(self) -> str:
        """One line."""
        return f"{self.file}: {self.what}" + (
            f"; {self.lines:,} lines behind it not taken" if self.lines else ""
        )


@dataclass(slots=True)
class Offsets:
    """Stamps of one file against the event times of the messages.

    Attributes:
        compared: Messages that have both.
        far: Those whose stamp lies more than `MOST_OFFSET_S` from the event time.
        first_far: Line and distance of the first of them.
    """

    compared: int = 0
    far: int = 0
    first_far: str = ""

    def see(self, number: int, capture_ns: int, event_ms: int) -> None:
        """Compare one message."""
        self.compared += 1
        distance_s = capture_ns // 1_000_000_000 - event_ms // 1000
        if abs(distance_s) > MOST_OFFSET_S:
            self.far += 1
            self.first_far = self.first_far or f"line {number:,} by {distance_s:,} s"

    def check(self, path: Path) -> None:
        """Refuse a file most of whose stamps cannot be capture times.

        Raises:
            MalformedDataError: They cannot.
        """
        if 2 * self.far > self.compared:
            what = f"{self.far:,} of {self.compared:,} stamps lie more than {MOST_OFFSET_S // 60} minutes from the event time E"
            remedy = "stamps must be UTC, in nano-, micro- or milliseconds since 1970; correct them"
            raise MalformedDataError(f"{what}, {self.first_far}", where=str(path), remedy=remedy)


@dataclass(slots=True)
class Notes:
    """What is reported of an import.

    Attributes:
        skipped: Lines that hold no market data, by kind.
        errors: The first error objects, as sent.
        left_out: Parts that were not taken.
        faulty: Rows that were taken as bad lines, each with its reason; the first few.
        faulty_rows: How many.
        far: Stamps that lie implausibly far from their event time, by file, with the first.
        units: Units of time that stamps were in.
        subscribed: Streams that a recording says it subscribed to.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    faulty: list[str] = field(default_factory=list)
    faulty_rows: int = 0
    far: list[str] = field(default_factory=list)
    units: dict[str, None] = field(default_factory=dict)
    subscribed: dict[str, None] = field(default_factory=dict)

    def error(self, text: bytes) -> None:
        """Count an error object."""
        self.skipped["error objects"] += 1
        if len(self.errors) < MOST_LISTED:
            shown = text[:200].decode("utf-8", "backslashreplace")
            self.errors.append("".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown))

    def fault(self, where: str) -> None:
        """Count a faulty row."""
        self.faulty_rows += 1
        if len(self.faulty) < MOST_LISTED:
            self.faulty.append(where)
