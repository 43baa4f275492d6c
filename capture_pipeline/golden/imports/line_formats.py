"""The lines of recording tools that keep the exchange's bytes: hftbacktest, cryptofeed, and this product's own form.

hftbacktest: `<stamp> <JSON>`, gzip or plain. Its collectors write nanoseconds, the Python one microseconds. A snapshot has no stream.
cryptofeed: `<unix seconds>: <JSON>` for what came; `<url> <-> <unix seconds>` at each connection, in old versions the URL alone;
`<url> <- <unix seconds>: <text>` for what was sent; `<url> -> <unix seconds>: <text>` for answers of REST; `configuration: <text>`.
Sources: the collectors of nkaz001/hftbacktest and nkaz001/collect-binancefutures, and `AsyncFileCallback` of bmoscon/cryptofeed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import msgspec

from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.imports.evidence import Evidence
from capture_pipeline.golden.imports.lines import BodyKind, body_of, checked_stream, stamp_ns
from capture_pipeline.golden.imports.notes import Captured, Notes
from capture_pipeline.parsing import PARSE_ERRORS, explain
from capture_pipeline.sessions.line_format import decode_line

_HFT = re.compile(rb"([0-9]+) (\{.*\})")
_CAME = re.compile(rb"([0-9]{9,11})(?:\.([0-9]{1,9})[0-9]*)?: (.*)")
_CONNECTED = re.compile(rb"(wss?://\S+)(?: <-> [0-9.]+)?")
_SENT = re.compile(rb"((?:wss?|https?)://\S+) <- [0-9.]+: (.*)")
_ANSWERED = re.compile(rb"(https?://\S+) -> ([0-9]{9,11})(?:\.([0-9]{1,9})[0-9]*)?: (.*)")
_QUERY_SYMBOL = re.compile(r"/depth\?(?:\S*&)?symbol=([^&\s]+)(?:&|$)")
_SUBSCRIBED = re.compile(r"[?&]streams=([^&\s]+)")
_OWN_SYMBOL = re.compile(rb'"symbol":\s*"([^"\\]+)"')
_SYMBOL_WITHIN = 300
_Strings = msgspec.json.Decoder(dict[str, Any]).decode


def bare_snapshot_stream(symbol: str) -> str:
    """The stream under which a snapshot of a symbol is recorded."""
    return f"{symbol.lower()}@{StreamKind.SNAPSHOT}"


@dataclass(slots=True)
class _Lines:
    """What the parsers have in common.

    Attributes:
        path: The file.
        notes: What is reported of the import.
        evidence: What tells market and venue.
        symbol: Whose snapshots those without a stream are; None where it is not known.
        is_survey: Whether such a snapshot is let pass without a stream, because its symbol is still being looked for.
    """

    path: Path
    notes: Notes
    evidence: Evidence
    symbol: str | None = None
    is_survey: bool = False

    def rest(self) -> Iterable[Captured]:
        """None: a message is one line."""
        return ()

    def _captured(self, number: int, capture_ns: int, message: bytes) -> Iterable[Captured]:
        """What a JSON object of a connection is worth: a message, a snapshot, or nothing but a count."""
        body = body_of(number, message)
        if body.kind is BodyKind.MESSAGE:
            return (Captured(capture_ns, body.stream, body.data),)
        if body.kind is BodyKind.SNAPSHOT:
            return (Captured(capture_ns, self._snapshot(number, body.data), body.data),)
        if body.kind is BodyKind.ERROR:
            self.notes.error(message)
        else:
            self.notes.skipped[str(body.kind)] += 1
        return ()

    def _snapshot(self, number: int, data: bytes) -> str:
        found = _OWN_SYMBOL.search(data, 0, _SYMBOL_WITHIN)
        if found:
            return checked_stream(number, bare_snapshot_stream(found[1].decode("utf-8", "backslashreplace")))
        if self.symbol:
            return bare_snapshot_stream(self.symbol)
        if self.is_survey:
            return ""
        raise MalformedDataError(
            f"line {number:,} is a snapshot, and of which symbol is not told", remedy="name it with --symbol"
        )


class HftbacktestLines(_Lines):
    """`<stamp> <JSON>`."""

    origin: ClassVar[str] = "hftbacktest"

    def take(self, number: int, line: bytes) -> Iterable[Captured]:
        """The message of a line."""
        match = _HFT.fullmatch(line)
        if not match:
            raise MalformedDataError(
                f"line {number:,} is no line of hftbacktest: {line[:80]!r}", remedy="is --from right?"
            )
        return self._captured(number, stamp_ns(number, match[1], self.notes), match[2])


class CaptureLines(_Lines):
    """`{"capture_ns":…,"stream":…,"data":…}`."""

    origin: ClassVar[str] = "capture"

    def take(self, number: int, line: bytes) -> Iterable[Captured]:
        """The message of a line."""
        try:
            found = decode_line(line)
        except PARSE_ERRORS as error:
            what = f"line {number:,} is no line of a recording: {explain(error)}: {line[:80]!r}"
            raise MalformedDataError(what, remedy="is --from right?") from None
        stamp = stamp_ns(number, b"%d" % found.capture_ns, self.notes)
        return (Captured(stamp, checked_stream(number, found.stream), bytes(found.data).strip()),)


@dataclass(slots=True)
class CryptofeedLines(_Lines):
    """Messages and answers of REST; addresses, what was sent and configurations are skipped."""

    origin: ClassVar[str] = "cryptofeed"
    _is_in_text: bool = field(default=False)
    """Whether the line before began a text, for instance a page of HTML, that may go on."""

    def take(self, number: int, line: bytes) -> Iterable[Captured]:
        """The message of a line."""
        if match := _CAME.fullmatch(line):
            self._is_in_text = False
            self.notes.units["seconds"] = None
            return self._captured(number, _ns(match[1], match[2]), match[3])
        if match := _ANSWERED.fullmatch(line):
            return self._answer(number, _address(match[1]), _ns(match[2], match[3]), match[4])
        if not self._is_about_the_connection(line):
            raise MalformedDataError(
                f"line {number:,} is no line of cryptofeed: {line[:80]!r}", remedy="is --from right?"
            )
        return ()

    def _is_about_the_connection(self, line: bytes) -> bool:
        """Whether a line tells of the connection, or goes on with a text; it is counted."""
        if match := _SENT.fullmatch(line):
            self._seen("lines sent", match[1])
            self._subscribed(match[2])
        elif match := _CONNECTED.fullmatch(line):
            self._seen("connection lines", match[1])
        elif line.startswith(b"configuration: "):
            self.notes.skipped["configuration lines"] += 1
        else:
            self.notes.skipped["lines of texts"] += self._is_in_text
            return self._is_in_text
        self._is_in_text = False
        return True

    def _answer(self, number: int, url: str, capture_ns: int, data: bytes) -> Iterable[Captured]:
        self.evidence.url(url, f"{self.path.name} line {number:,}")
        symbol = _QUERY_SYMBOL.search(url)
        self._is_in_text = not data.startswith((b"{", b"[")) and not _is_json(data)
        if not symbol or not data.startswith(b"{"):
            self.notes.skipped["other answers of REST"] += 1
            return ()
        body = body_of(number, data)
        if body.kind is BodyKind.ERROR:
            self.notes.error(data)
            return ()
        return (Captured(capture_ns, checked_stream(number, bare_snapshot_stream(unquote(symbol[1]))), data),)

    def _seen(self, kind: str, address: bytes) -> None:
        url = _address(address)
        self.notes.skipped[kind] += 1
        self.evidence.url(url, self.path.name)
        if found := _SUBSCRIBED.search(url):
            self.notes.subscribed.update({name: None for name in unquote(found[1]).split("/") if name})

    def _subscribed(self, sent: bytes) -> None:
        """The streams of a request to subscribe."""
        try:
            request = _Strings(sent)
        except PARSE_ERRORS:
            return
        names = request.get("params")
        if request.get("method") == "SUBSCRIBE" and isinstance(names, list):
            self.notes.subscribed.update({name: None for name in names if isinstance(name, str)})


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except PARSE_ERRORS:
        return False
    return True


def _address(url: bytes) -> str:
    return url.decode("utf-8", "backslashreplace")


def _ns(seconds: bytes, fraction: bytes | None) -> int:
    """Nanoseconds of decimal seconds, exactly."""
    return int(seconds) * 1_000_000_000 + int((fraction or b"0").ljust(9, b"0"))
