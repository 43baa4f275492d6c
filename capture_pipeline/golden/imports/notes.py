"""Report of an import: skipped lines by kind, unreadable parts of files, implausible stamps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from capture_pipeline.errors import MalformedDataError

MAX_LISTED = 20
MAX_OFFSET_S = 1800
"""Maximum plausible difference of stamp and event time; more means a wrong unit, time zone or clock."""


class CapturedMessage(NamedTuple):
    """One message.

    Attributes:
        capture_ns: Capture time by the recorder's clock, nanoseconds UTC.
        stream: Name of the stream at the exchange, or `<symbol>@depthSnapshot`.
        data: Bytes of the message's `data`, or the body of a REST answer.
    """

    capture_ns: int
    stream: str
    data: bytes


class LeftOut(NamedTuple):
    """A part of a source file that was not imported.

    Attributes:
        file: Name of the file.
        what: Problem, with its place.
        lines: Number of readable lines that were not imported.
    """

    file: str
    what: str
    lines: int = 0

    def __str__(self) -> str:
        """Format the part as one line."""
        return f"{self.file}: {self.what}" + (
            f"; {self.lines:,} lines after it were not imported" if self.lines else ""
        )


@dataclass(slots=True)
class Offsets:
    """Comparison of the stamps of one file with the event times of its messages.

    Attributes:
        compared: Number of messages with an event time.
        far: Number of stamps that differ by more than `MAX_OFFSET_S` from the event time.
        first_far: Line and difference of the first such stamp.
    """

    compared: int = 0
    far: int = 0
    first_far: str = ""

    def compare(self, number: int, capture_ns: int, event_ms: int) -> None:
        """Compare the stamp of a message with the event time of the message."""
        self.compared += 1
        distance_s = capture_ns // 1_000_000_000 - event_ms // 1000
        if abs(distance_s) > MAX_OFFSET_S:
            self.far += 1
            self.first_far = self.first_far or f"line {number:,} by {distance_s:,} s"

    def check(self, path: Path) -> None:
        """Check that most stamps are plausible capture times.

        Raises:
            MalformedDataError: More than half of the stamps are implausible.
        """
        if 2 * self.far > self.compared:
            what = (
                f"{self.far:,} of {self.compared:,} stamps differ by more than {MAX_OFFSET_S // 60} minutes "
                "from the event time E"
            )
            remedy = "correct the stamps: UTC, in nano-, micro- or milliseconds since 1970"
            raise MalformedDataError(f"{what}, {self.first_far}", where=str(path), remedy=remedy)


@dataclass(slots=True)
class Notes:
    """Report of an import.

    Attributes:
        skipped: Number of lines without market data, by kind.
        errors: The first error objects, as sent by the exchange.
        left_out: Parts that were not imported.
        faulty: The first rows that were imported as bad lines, with reasons.
        faulty_rows: Number of rows that were imported as bad lines.
        far: Implausible stamps, one text per file.
        units: Time units of the stamps.
        subscribed: Streams of the subscriptions in the recording.
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
        if len(self.errors) < MAX_LISTED:
            shown = text[:200].decode("utf-8", "backslashreplace")
            self.errors.append("".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown))

    def fault(self, where: str) -> None:
        """Count a faulty row."""
        self.faulty_rows += 1
        if len(self.faulty) < MAX_LISTED:
            self.faulty.append(where)
