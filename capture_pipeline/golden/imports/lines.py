"""Lines of a source file as messages: its sound part is taken, the rest is reported; and what a message of the exchange can be."""

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
from capture_pipeline.golden.imports.notes import Captured, LeftOut, Notes, Offsets
from capture_pipeline.golden.imports.recognition import fits, recognized, refuse_binary
from capture_pipeline.golden.readers.gzip_reader import Finding, FindingKind
from capture_pipeline.golden.readers.line_reader import Recording
from capture_pipeline.parsing import PARSE_ERRORS, explain
from capture_pipeline.sessions.line_format import split_message

_EVENT_TIME = re.compile(rb'"E":([0-9]{13})(?:[0-9]{3})?[,}]')
_HEAD_BYTES = 200
_UNITS = {13: ("milliseconds", 1_000_000), 16: ("microseconds", 1000), 19: ("nanoseconds", 1)}
_STREAM, _SNAPSHOT = b'{"stream":"', b'{"lastUpdateId":'
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class BodyKind(StrEnum):
    """What a JSON object between the messages can be."""

    MESSAGE = "message"
    SNAPSHOT = "snapshot"
    CONTROL = "control answers"
    ERROR = "error objects"


class Body(NamedTuple):
    """One JSON object of a connection: a message with its stream, or an answer."""

    kind: BodyKind
    stream: str
    data: bytes


class Parser(Protocol):
    """Reads the lines of one file."""

    origin: ClassVar[str]
    notes: Notes
    evidence: Evidence

    def take(self, number: int, line: bytes) -> Iterable[Captured]:
        """The messages that are complete with this line."""

    def rest(self) -> Iterable[Captured]:
        """The message that is complete with the end of the file."""


@dataclass(slots=True)
class _Reading:
    """One pass over one file.

    Attributes:
        path: The file.
        parser: What reads its lines.
        offsets: Its stamps against event times.
        number: Lines so far.
        refused: What is wrong with the first line that is none.
        behind: Lines from that one on.
        taken: Messages taken.
        held: Messages of the last line, which are not passed on before the next line is known.
    """

    path: Path
    parser: Parser
    offsets: Offsets = field(default_factory=Offsets)
    number: int = 0
    refused: MalformedDataError | None = None
    behind: int = 0
    taken: int = 0
    held: list[Captured] = field(default_factory=list)

    def take(self, line: bytes) -> Iterator[Captured]:
        """The messages of a line; none behind a line that is none."""
        self.number += 1
        if self.refused:
            self.behind += 1
        elif line:
            try:
                found = list(self.parser.take(self.number, line))
            except MalformedDataError as error:
                self.refused, self.behind = error, 1
                return
            yield from self.held
            self.held = [self.seen(captured) for captured in found]

    def seen(self, captured: Captured) -> Captured:
        """Compare a message's stamp and look for its market."""
        self.taken += 1
        self.parser.evidence.message(self.path.name, captured.stream, captured.data)
        if event := _EVENT_TIME.search(captured.data, 0, _HEAD_BYTES):
            self.offsets.see(self.number, captured.capture_ns, int(event[1]))
        return captured

    def end(self, findings: list[Finding], open_line: bytes) -> Iterator[Captured]:
        """The end of the file: refuse a line that no damage explains, report what was left out.

        Raises:
            MalformedDataError: A line is none, and the file is whole.
        """
        damage = [finding for finding in findings if finding.kind is not FindingKind.OPEN_LINE]
        if self.refused and not damage:
            raise self.refusal(self.refused)
        is_cut = self.refused is not None or any(
            finding.kind is FindingKind.DAMAGED_MEMBER for finding in damage
        )
        if is_cut:
            # The damage may begin inside the last line that looks sound: a decoder fails only some bytes after it.
            self.behind += bool(self.held) + bool(open_line)
            self.held = []
        before = self.number
        if open_line and not is_cut:
            yield from self.take(open_line)
            if self.refused and not self.taken and not damage:
                raise self.refusal(self.refused)
        left = [str(finding) for finding in damage]
        if self.refused and self.number > before:
            left.append(f"the last line is torn: {len(open_line):,} bytes, {open_line[:60]!r}")
            self.behind = 0
        for at, what in enumerate(left):
            self.parser.notes.left_out.append(LeftOut(self.path.name, what, 0 if at else self.behind))
        yield from (*self.held, *map(self.seen, self.parser.rest()))
        self.offsets.check(self.path)
        if self.offsets.far:
            told = f"{self.offsets.far:,} of {self.offsets.compared:,} stamps are far from their event time, {self.offsets.first_far}"
            self.parser.notes.far.append(f"{self.path.name}: {told}")

    def refusal(self, error: MalformedDataError) -> MalformedDataError:
        """What is wrong with a line, and what the file is if nothing before it was taken."""
        known = None if self.taken else recognized(self.path)
        if known is None or known.remedy == fits(self.parser.origin):
            return MalformedDataError(error.what, where=str(self.path), remedy=error.remedy)
        return MalformedDataError(
            f"{error.what}; the file is {known.what}", where=str(self.path), remedy=known.remedy
        )


def messages_of(path: Path, parser: Parser) -> Iterator[Captured]:
    """The messages of a file.

    Raises:
        MalformedDataError: The file is of another kind, or a line is none of its kind and no damage of the file explains that.
    """
    refuse_binary(path)
    reading = _Reading(path, parser)
    with Recording(path, salvage=True) as recording:
        for block in recording:
            for line in block.split(b"\n")[:-1]:
                yield from reading.take(line)
    yield from reading.end(recording.findings, recording.open_line)


def body_of(number: int, message: bytes) -> Body:
    """What a JSON object is.

    Raises:
        MalformedDataError: It is no JSON, or nothing that a connection of the exchange sends.
    """
    if message.startswith(_STREAM):
        try:
            name, data = split_message(message)
        except MalformedDataError:
            name, data = b'"', b""
        if b'"' not in name and b"\\" not in name:
            _check_json(number, data)
            return Body(BodyKind.MESSAGE, _checked(number, _valid_name(name), name), data)
    elif message.startswith(_SNAPSHOT):
        _check_json(number, message)
        return Body(BodyKind.SNAPSHOT, "", message)
    return _by_keys(number, message)


def _by_keys(number: int, message: bytes) -> Body:
    try:
        parts = _decode_object(message)
    except PARSE_ERRORS as error:
        raise MalformedDataError(
            f"line {number:,} holds no JSON: {explain(error)}",
            remedy="cut the line, the gap will be reported",
        ) from None
    if {"stream", "data"} <= parts.keys():
        return Body(BodyKind.MESSAGE, _text(number, parts["stream"]), bytes(parts["data"]).strip())
    if "lastUpdateId" in parts:
        return Body(BodyKind.SNAPSHOT, "", message)
    if "error" in parts or {"code", "msg"} <= parts.keys():
        return Body(BodyKind.ERROR, "", message)
    if "result" in parts:
        return Body(BodyKind.CONTROL, "", message)
    what = f"line {number:,} is no message of the combined stream: {message[:80]!r}"
    raise MalformedDataError(what, remedy="only combined streams of Binance can be imported, {stream, data}")


def stamp_ns(number: int, digits: bytes, notes: Notes) -> int:
    """A stamp in nanoseconds; its unit is told from its number of digits.

    Raises:
        MalformedDataError: It has another number of digits than the time of a market has in any of the units.
    """
    unit = _UNITS.get(len(digits))
    if unit is None:
        what = f"line {number:,} has a stamp of {len(digits)} digits: {digits[:30].decode()}"
        raise MalformedDataError(what, remedy="milliseconds have 13 digits, microseconds 16, nanoseconds 19")
    notes.units[unit[0]] = None
    return int(digits) * unit[1]


def checked_stream(number: int, stream: str) -> str:
    """`stream` itself, if its symbol can be part of a path and its name part of a line.

    Raises:
        MalformedDataError: It cannot.
    """
    name = stream.encode("utf-8", "backslashreplace")
    return _checked(number, _valid_name(name), name)


def import_symbol(stream: str) -> str:
    """The symbol of a stream in capitals; empty for streams of all symbols (`!ticker@arr`) and of none."""
    return "" if stream.startswith("!") else symbol_of(stream)


def _check_json(number: int, data: bytes) -> None:
    try:
        _decode_any(data)
    except PARSE_ERRORS as error:
        raise MalformedDataError(
            f"line {number:,} holds no JSON: {explain(error)}",
            remedy="cut the line, the gap will be reported",
        ) from None


def _text(number: int, raw: msgspec.Raw) -> str:
    try:
        return checked_stream(number, msgspec.json.decode(raw, type=str))
    except PARSE_ERRORS:
        return _checked(number, "", bytes(raw))


def _checked(number: int, valid: str, name: bytes) -> str:
    if not valid:
        raise MalformedDataError(
            f"line {number:,} has a stream whose name is none of the exchange: {name[:80]!r}",
            remedy="cut the line",
        )
    return valid


@lru_cache(maxsize=1 << 14)
def _valid_name(name: bytes) -> str:
    """The name of a stream as text; empty if it is none that can stand in a line and in a path."""
    try:
        stream = name.decode()
    except UnicodeDecodeError:
        return ""
    symbol = import_symbol(stream)
    is_bad = (symbol and not is_symbol(symbol)) or not stream.isprintable() or '"' in stream or "\\" in stream
    return "" if is_bad else stream
