"""Reader of the messages of a source file. Undamaged lines are imported, others are reported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import msgspec

from capture_pipeline.binance.streams.names import symbol_of
from capture_pipeline.binance.symbols import is_symbol
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.imports.evidence import Evidence
from capture_pipeline.golden.imports.notes import CapturedMessage, LeftOut, Notes, Offsets
from capture_pipeline.golden.imports.recognition import check_not_binary, identify_file, import_remedy
from capture_pipeline.parsing import PARSE_ERRORS, explain
from capture_pipeline.sessions.line_format import split_message
from capture_pipeline.sessions.recordings.reader import Recording
from capture_pipeline.sessions.recordings.source import DamagePolicy, Finding, FindingKind

_EVENT_TIME = re.compile(rb'"E":([0-9]{13})(?:[0-9]{3})?[,}]')
_HEAD_BYTES = 200
_UNITS = {13: ("milliseconds", 1_000_000), 16: ("microseconds", 1000), 19: ("nanoseconds", 1)}
_STREAM, _SNAPSHOT = b'{"stream":"', b'{"lastUpdateId":'
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class BodyKind(StrEnum):
    """Kind of a JSON object of a connection."""

    MESSAGE = "message"
    SNAPSHOT = "snapshot"
    CONTROL = "control answers"
    ERROR = "error objects"


class Body(NamedTuple):
    """JSON object of a connection: a message with its stream, or an answer."""

    kind: BodyKind
    stream: str
    data: bytes


class Parser(Protocol):
    """Parser of the lines of one file."""

    origin: ClassVar[str]
    notes: Notes
    evidence: Evidence

    def parse_line(self, number: int, line: bytes) -> Iterable[CapturedMessage]:
        """Return the messages that are complete with this line."""

    def finish(self) -> Iterable[CapturedMessage]:
        """Return the message that is complete at the end of the file."""


@dataclass(slots=True)
class _Reading:
    """One pass over one file.

    Attributes:
        path: The file.
        parser: Parser of its lines.
        offsets: Comparison of capture times with event times.
        number: Number of lines so far.
        refused: Error of the first invalid line.
        behind: Number of lines from the first invalid line on.
        message_count: Number of messages so far.
        pending: Messages of the last line, which are not passed on before the next line is known.
    """

    path: Path
    parser: Parser
    offsets: Offsets = field(default_factory=Offsets)
    number: int = 0
    refused: MalformedDataError | None = None
    behind: int = 0
    message_count: int = 0
    pending: list[CapturedMessage] = field(default_factory=list)

    def parse_line(self, line: bytes) -> Iterator[CapturedMessage]:
        """Yield the messages of the previous line. No line is parsed after an invalid one."""
        self.number += 1
        if self.refused:
            self.behind += 1
        elif line:
            try:
                found = list(self.parser.parse_line(self.number, line))
            except MalformedDataError as error:
                self.refused, self.behind = error, 1
                return
            yield from self.pending
            self.pending = [self.inspect(captured) for captured in found]

    def inspect(self, captured: CapturedMessage) -> CapturedMessage:
        """Compare the capture time of a message with its event time, and collect evidence of the market."""
        self.message_count += 1
        self.parser.evidence.inspect_message(self.path.name, captured.stream, captured.data)
        if event := _EVENT_TIME.search(captured.data, 0, _HEAD_BYTES):
            self.offsets.compare(self.number, captured.capture_ns, int(event[1]))
        return captured

    def end(self, findings: list[Finding], open_line: bytes) -> Iterator[CapturedMessage]:
        """Process the end of the file, and report parts that were not imported.

        Raises:
            MalformedDataError: A line is invalid although the file is not damaged.
        """
        damage = [finding for finding in findings if finding.kind is not FindingKind.OPEN_LINE]
        if self.refused and not damage:
            raise self.describe_error(self.refused)
        is_cut = self.refused is not None or any(
            finding.kind is FindingKind.DAMAGED_MEMBER for finding in damage
        )
        if is_cut:
            # The damage may begin in the last valid line, because a decoder fails only some bytes after it.
            self.behind += bool(self.pending) + bool(open_line)
            self.pending = []
        before = self.number
        if open_line and not is_cut:
            yield from self.parse_line(open_line)
            if self.refused and not self.message_count and not damage:
                raise self.describe_error(self.refused)
        left = [str(finding) for finding in damage]
        if self.refused and self.number > before:
            left.append(f"the last line is torn: {len(open_line):,} bytes, {open_line[:60]!r}")
            self.behind = 0
        for at, what in enumerate(left):
            self.parser.notes.left_out.append(LeftOut(self.path.name, what, 0 if at else self.behind))
        yield from (*self.pending, *map(self.inspect, self.parser.finish()))
        self.offsets.check(self.path)
        if self.offsets.far:
            self.parser.notes.far.append(
                f"{self.path.name}: {self.offsets.far:,} of {self.offsets.compared:,} stamps are "
                "far from their "
                f"event time, {self.offsets.first_far}"
            )

    def describe_error(self, error: MalformedDataError) -> MalformedDataError:
        """Add the file to the error of a line, and the kind of the file if it has no valid line."""
        known = None if self.message_count else identify_file(self.path)
        if known is None or known.remedy == import_remedy(self.parser.origin):
            return MalformedDataError(error.what, where=str(self.path), remedy=error.remedy)
        return MalformedDataError(
            f"{error.what}; the file is {known.what}", where=str(self.path), remedy=known.remedy
        )


def read_messages(path: Path, parser: Parser) -> Iterator[CapturedMessage]:
    """Read the messages of a file.

    Raises:
        MalformedDataError: The file is of another kind, or a line is invalid although the file is not
            damaged.
    """
    check_not_binary(path)
    reading = _Reading(path, parser)
    with Recording(path, policy=DamagePolicy.SALVAGE) as recording:
        for block in recording:
            for line in block.split(b"\n")[:-1]:
                yield from reading.parse_line(line)
    yield from reading.end(recording.findings, recording.open_line)


def parse_body(number: int, message: bytes) -> Body:
    """Parse a JSON object of a connection.

    Raises:
        MalformedDataError: The text is not JSON, or not an object that the exchange sends.
    """
    if message.startswith(_STREAM):
        try:
            found = split_message(message)
            name, data = found.stream, found.data
        except MalformedDataError:
            name, data = b'"', b""
        if b'"' not in name and b"\\" not in name:
            _check_json(number, data)
            return Body(BodyKind.MESSAGE, _require_name(number, _valid_name(name), name), data)
    elif message.startswith(_SNAPSHOT):
        _check_json(number, message)
        return Body(BodyKind.SNAPSHOT, "", message)
    return _by_keys(number, message)


def _by_keys(number: int, message: bytes) -> Body:
    try:
        parts = _decode_object(message)
    except PARSE_ERRORS as error:
        raise MalformedDataError(
            f"line {number:,} is not JSON: {explain(error)}",
            remedy="delete this line; its messages are then reported as a gap",
        ) from None
    if {"stream", "data"} <= parts.keys():
        return Body(BodyKind.MESSAGE, _text(number, parts["stream"]), bytes(parts["data"]).strip())
    if "lastUpdateId" in parts:
        return Body(BodyKind.SNAPSHOT, "", message)
    if "error" in parts or {"code", "msg"} <= parts.keys():
        return Body(BodyKind.ERROR, "", message)
    if "result" in parts:
        return Body(BodyKind.CONTROL, "", message)
    what = f"line {number:,} is not a message of a combined stream: {message[:80]!r}"
    raise MalformedDataError(
        what, remedy='import messages of Binance\'s combined streams, {"stream": …, "data": …}'
    )


def parse_stamp(number: int, digits: bytes, notes: Notes) -> int:
    """Convert a stamp to nanoseconds. Its number of digits shows the unit.

    Raises:
        MalformedDataError: The number of digits fits no unit.
    """
    unit = _UNITS.get(len(digits))
    if unit is None:
        what = f"line {number:,} has a stamp of {len(digits)} digits: {digits[:30].decode()}"
        remedy = "write stamps as milliseconds (13 digits), microseconds (16) or nanoseconds (19)"
        raise MalformedDataError(what, remedy=remedy)
    notes.units[unit[0]] = None
    return int(digits) * unit[1]


def check_stream(number: int, stream: str) -> str:
    """Return `stream` if its symbol is valid in a path and its name in a line.

    Raises:
        MalformedDataError: The name is not valid.
    """
    name = stream.encode("utf-8", "backslashreplace")
    return _require_name(number, _valid_name(name), name)


def symbol_or_empty(stream: str) -> str:
    """Return the symbol of a stream in capitals; empty for streams of all symbols (`!ticker@arr`)."""
    return "" if stream.startswith("!") else symbol_of(stream)


def _check_json(number: int, data: bytes) -> None:
    try:
        _decode_any(data)
    except PARSE_ERRORS as error:
        raise MalformedDataError(
            f"line {number:,} is not JSON: {explain(error)}",
            remedy="delete this line; its messages are then reported as a gap",
        ) from None


def _text(number: int, raw: msgspec.Raw) -> str:
    try:
        return check_stream(number, msgspec.json.decode(raw, type=str))
    except PARSE_ERRORS:
        return _require_name(number, "", bytes(raw))


def _require_name(number: int, valid: str, name: bytes) -> str:
    if not valid:
        raise MalformedDataError(
            f"line {number:,} has an invalid stream name: {name[:80]!r}",
            remedy="delete this line",
        )
    return valid


@lru_cache(maxsize=1 << 14)
def _valid_name(name: bytes) -> str:
    """Return the name of a stream as text; empty if it is not valid in a line or in a path."""
    try:
        stream = name.decode()
    except UnicodeDecodeError:
        return ""
    symbol = symbol_or_empty(stream)
    is_bad = (symbol and not is_symbol(symbol)) or not stream.isprintable() or '"' in stream or "\\" in stream
    return "" if is_bad else stream
