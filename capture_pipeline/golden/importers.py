"""Recordings of other tools, read as what they hold: capture time, stream and the exchange's own bytes. Writes nothing.

hftbacktest: `<capture_ns> <raw JSON>`, gzip or plain; a REST snapshot stands between the messages without a stream.
cryptofeed: a first line with the URL, then `<unix seconds>: <JSON>`; snapshots in a file of their own, `<url> -> <unix seconds>: <JSON>`.
Sources: the raw captures of nkaz001/hftbacktest and of bmoscon/cryptofeed (`AsyncFileCallback`).
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from urllib.parse import unquote

import msgspec

from capture_pipeline.binance.streams import StreamKind, kind_of, snapshot_stream, symbol_of
from capture_pipeline.binance.symbols import parse_symbol
from capture_pipeline.errors import ConfigError, MalformedData
from capture_pipeline.golden.inflate import FindingKind
from capture_pipeline.golden.reader import Recording
from capture_pipeline.recording.lines import composed, spliced, split_envelope

_HFT = re.compile(rb"([0-9]{16,19}) (\{.*\})")
_CRYPTOFEED = re.compile(rb"([0-9]{9,11})(?:\.([0-9]{1,9})[0-9]*)?: (\{.*\})")
_CRYPTOFEED_REST = re.compile(rb"(https?://\S+) -> ([0-9]{9,11})(?:\.([0-9]{1,9})[0-9]*)?: (\{.*\})")
_QUERY_SYMBOL = re.compile(rb"[?&]symbol=([^&\s]+)")
_SUBSCRIBED = re.compile(rb"wss?://\S*[?&]streams=([^&\s]+)")
_ENVELOPE, _SNAPSHOT, _REPLY = b'{"stream":', b'{"lastUpdateId":', b'{"result":'
_LONGEST_NAME = 200
_check_json = msgspec.json.Decoder(msgspec.Raw).decode


class Origin(StrEnum):
    """Whose recording it is."""

    HFTBACKTEST = "hftbacktest"
    CRYPTOFEED = "cryptofeed"


@dataclass(frozen=True, slots=True)
class Captured:
    """One message.

    Attributes:
        capture_ns: When it was captured, nanoseconds UTC, by the recorder's clock.
        stream: The exchange's name of the stream, or `<symbol>@depthSnapshot`.
        message: The exchange's bytes: the whole envelope of a stream's message, or the bare body of a REST answer.
    """

    capture_ns: int
    stream: str
    message: bytes

    def line(self, capture_ns: int) -> bytes:
        """The message as a line of a recording."""
        if kind_of(self.stream) is StreamKind.SNAPSHOT:
            return composed(capture_ns, self.stream, self.message)
        return spliced(capture_ns, self.message)


def read(origin: Origin, files: list[Path], symbol: str | None = None) -> Iterator[Captured]:
    """All messages of some files that together are one recording, in order; what only answers a subscription is left out.

    Args:
        origin: Who wrote them.
        files: In the order in which they follow each other.
        symbol: Whose snapshots those without a stream are; needed only where several symbols have a depth stream.

    Raises:
        MalformedData: A line is not what that tool writes, with file and number, or a file is damaged.
    """
    if origin is Origin.HFTBACKTEST:
        return _hftbacktest(files, symbol or _only_symbol(files))
    return _cryptofeed(files)


def subscribed(origin: Origin, files: list[Path]) -> list[str]:
    """The streams that a recording says it subscribed to, each once; none of a tool that does not say it.

    Raises:
        MalformedData: A file is damaged.
    """
    if origin is not Origin.CRYPTOFEED:
        return []
    heads = [next(_lines(path), (0, b""))[1] for path in files]
    found = [unquote(match[1].decode("utf-8", "replace")) for head in heads if (match := _SUBSCRIBED.match(head))]
    return list(dict.fromkeys(name for streams in found for name in streams.split("/") if name))


def _hftbacktest(files: list[Path], symbol: str | None) -> Iterator[Captured]:
    for path in files:
        for number, line in _lines(path):
            match = _HFT.fullmatch(line)
            if not match:
                raise _malformed(path, number, line, Origin.HFTBACKTEST)
            message = match[2]
            if message.startswith(_SNAPSHOT):
                if symbol is None:
                    remedy = "name it with --symbol"
                    raise MalformedData(f"line {number:,} is a snapshot, and of which symbol is not told", where=str(path), remedy=remedy)
                yield Captured(int(match[1]), snapshot_stream(symbol), _sound(path, number, message))
            elif not message.startswith(_REPLY):
                yield _enveloped(path, number, int(match[1]), message)


def _cryptofeed(files: list[Path]) -> Iterator[Captured]:
    kinds = {path: _is_rest(path) for path in files}
    bodies = [captured for path in files if kinds[path] for captured in _rest_bodies(path)]
    bodies.sort(key=attrgetter("capture_ns"))
    messages = (captured for path in files if not kinds[path] for captured in _frames(path))
    # a stamp that goes back stays where it stands: merging looks at the heads only
    return heapq.merge(bodies, messages, key=attrgetter("capture_ns"))


def _frames(path: Path) -> Iterator[Captured]:
    for number, line in _lines(path):
        match = _CRYPTOFEED.fullmatch(line)
        if not match:
            if number == 1 and line.startswith((b"wss://", b"ws://")):
                continue
            raise _malformed(path, number, line, Origin.CRYPTOFEED)
        if not match[3].startswith(_REPLY):
            yield _enveloped(path, number, _ns(match[1], match[2]), match[3])


def _rest_bodies(path: Path) -> Iterator[Captured]:
    for number, line in _lines(path):
        match = _CRYPTOFEED_REST.fullmatch(line)
        if not match:
            raise _malformed(path, number, line, Origin.CRYPTOFEED)
        symbol = _QUERY_SYMBOL.search(match[1])
        if symbol and match[4].startswith(_SNAPSHOT):
            stream = snapshot_stream(_symbol_of_query(path, number, symbol[1]))
            yield Captured(_ns(match[2], match[3]), stream, _sound(path, number, match[4]))


def _symbol_of_query(path: Path, number: int, text: bytes) -> str:
    """Return the symbol that a REST address names, percent-encoded or not."""
    try:
        return parse_symbol(unquote(text.decode("utf-8", "backslashreplace"), errors="strict"))
    except (ConfigError, UnicodeError) as error:
        what = f"line {number:,} names no symbol: {error}"
        raise MalformedData(what, where=str(path), remedy="remove the line, then import again") from None


def _is_rest(path: Path) -> bool:
    first = next(_lines(path), None)
    return first is not None and _CRYPTOFEED_REST.fullmatch(first[1]) is not None


def _only_symbol(files: list[Path]) -> str | None:
    """The symbol of the only depth stream; None where there is none or several."""
    symbols: set[str] = set()
    for path in files:
        for _, line in _lines(path):
            start = line.find(b'{"stream":"', 0, 40)
            name = line[start + 11 : start + _LONGEST_NAME].split(b'"', 1)[0].decode("utf-8", "replace") if start >= 0 else ""
            if kind_of(name) is StreamKind.DEPTH:
                symbols.add(symbol_of(name))
    return symbols.pop() if len(symbols) == 1 else None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    with Recording(path) as recording:
        for block in recording:
            for line in block.split(b"\n")[:-1]:
                number += 1
                if line:
                    yield number, line
    for finding in recording.findings:
        if finding.kind is not FindingKind.OPEN_LINE:
            raise MalformedData(str(finding), where=str(path), remedy="mend or cut the file, then import it")
    if recording.open_line:
        yield number + 1, recording.open_line


def _enveloped(path: Path, number: int, capture_ns: int, message: bytes) -> Captured:
    try:
        stream, _ = split_envelope(message)
    except MalformedData as error:
        raise MalformedData(f"line {number:,} {error.what}", where=str(path), remedy="only combined streams can be imported") from None
    return Captured(capture_ns, stream, _sound(path, number, message))


def _sound(path: Path, number: int, message: bytes) -> bytes:
    try:
        _check_json(message)
    except ValueError as error:
        raise MalformedData(
            f"line {number:,} holds no JSON: {error}", where=str(path), remedy="cut the line, the gap will be told"
        ) from None
    return message


def _ns(seconds: bytes, fraction: bytes | None) -> int:
    """Nanoseconds of decimal seconds, exactly."""
    return int(seconds) * 1_000_000_000 + int((fraction or b"0").ljust(9, b"0"))


def _malformed(path: Path, number: int, line: bytes, origin: Origin) -> MalformedData:
    return MalformedData(f"line {number:,} is no line of {origin}: {line[:80]!r}", where=str(path), remedy="is --from right?")
