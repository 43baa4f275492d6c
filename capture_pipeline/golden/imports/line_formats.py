"""Parsers of lines with original messages of the exchange: hftbacktest, cryptofeed, and this product's form.

hftbacktest, gzip or plain: `<stamp> <JSON>`. The stamps of its collectors are nanoseconds, those of the
Python collector microseconds. A snapshot has no stream.

cryptofeed:

- `<unix seconds>: <JSON>` for a received message
- `<url> <-> <unix seconds>` for a connection; in old versions only the URL
- `<url> <- <unix seconds>: <text>` for a sent message
- `<url> -> <unix seconds>: <text>` for an answer of REST
- `configuration: <text>`

Sources: the collectors of nkaz001/hftbacktest and nkaz001/collect-binancefutures, and `AsyncFileCallback` of
bmoscon/cryptofeed.
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
from capture_pipeline.golden.imports.lines import BodyKind, check_stream, parse_body, parse_stamp
from capture_pipeline.golden.imports.notes import CapturedMessage, Notes
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


def snapshot_stream(symbol: str) -> str:
    """Return the stream name for REST snapshots of a symbol."""
    return f"{symbol.lower()}@{StreamKind.SNAPSHOT}"


@dataclass(slots=True)
class _Lines:
    """Common part of the parsers.

    Attributes:
        path: The file.
        notes: Report of the import.
        evidence: Evidence of market and venue.
        symbol: Symbol of snapshots without a stream; None if it is unknown.
        is_survey: True to accept such a snapshot without a symbol, because the survey looks for the symbol.
    """

    path: Path
    notes: Notes
    evidence: Evidence
    symbol: str | None = None
    is_survey: bool = False

    def finish(self) -> Iterable[CapturedMessage]:
        """Return no message, because each message is one line."""
        return ()

    def _parse_json(self, number: int, capture_ns: int, message: bytes) -> Iterable[CapturedMessage]:
        """Parse a JSON object of a connection: return a message or a snapshot, count other objects."""
        body = parse_body(number, message)
        if body.kind is BodyKind.MESSAGE:
            return (CapturedMessage(capture_ns, body.stream, body.data),)
        if body.kind is BodyKind.SNAPSHOT:
            return (CapturedMessage(capture_ns, self._snapshot(number, body.data), body.data),)
        if body.kind is BodyKind.ERROR:
            self.notes.error(message)
        else:
            self.notes.skipped[str(body.kind)] += 1
        return ()

    def _snapshot(self, number: int, data: bytes) -> str:
        found = _OWN_SYMBOL.search(data, 0, _SYMBOL_WITHIN)
        if found:
            return check_stream(number, snapshot_stream(found[1].decode("utf-8", "backslashreplace")))
        if self.symbol:
            return snapshot_stream(self.symbol)
        if self.is_survey:
            return ""
        raise MalformedDataError(
            f"line {number:,} is a snapshot of an unknown symbol", remedy="name the symbol with --symbol"
        )


class HftbacktestLines(_Lines):
    """`<stamp> <JSON>`."""

    origin: ClassVar[str] = "hftbacktest"

    def parse_line(self, number: int, line: bytes) -> Iterable[CapturedMessage]:
        """Return the message of a line."""
        match = _HFT.fullmatch(line)
        if not match:
            raise MalformedDataError(
                f"line {number:,} is not a line of hftbacktest: {line[:80]!r}",
                remedy="check the option --format",
            )
        return self._parse_json(number, parse_stamp(number, match[1], self.notes), match[2])


class CaptureLines(_Lines):
    """`{"capture_ns":…,"stream":…,"data":…}`."""

    origin: ClassVar[str] = "capture"

    def parse_line(self, number: int, line: bytes) -> Iterable[CapturedMessage]:
        """Return the message of a line."""
        try:
            found = decode_line(line)
        except PARSE_ERRORS as error:
            what = f"line {number:,} is not a line of a recording: {explain(error)}: {line[:80]!r}"
            raise MalformedDataError(what, remedy="check the option --format") from None
        stamp = parse_stamp(number, b"%d" % found.capture_ns, self.notes)
        return (CapturedMessage(stamp, check_stream(number, found.stream), bytes(found.data).strip()),)


@dataclass(slots=True)
class CryptofeedLines(_Lines):
    """Messages and answers of REST. URLs, sent messages and configurations are skipped."""

    origin: ClassVar[str] = "cryptofeed"
    _is_in_text: bool = field(default=False)
    """True if the previous line began a text, for example an HTML page, that may continue."""

    def parse_line(self, number: int, line: bytes) -> Iterable[CapturedMessage]:
        """Return the message of a line."""
        if match := _CAME.fullmatch(line):
            self._is_in_text = False
            self.notes.units["seconds"] = None
            return self._parse_json(number, _ns(match[1], match[2]), match[3])
        if match := _ANSWERED.fullmatch(line):
            return self._parse_answer(number, _address(match[1]), _ns(match[2], match[3]), match[4])
        if not self._is_about_the_connection(line):
            raise MalformedDataError(
                f"line {number:,} is not a line of cryptofeed: {line[:80]!r}",
                remedy="check the option --format",
            )
        return ()

    def _is_about_the_connection(self, line: bytes) -> bool:
        """Count a line about the connection or a further line of a text; returns False for other lines."""
        if match := _SENT.fullmatch(line):
            self._inspect_address("lines sent", match[1])
            self._read_subscription(match[2])
        elif match := _CONNECTED.fullmatch(line):
            self._inspect_address("connection lines", match[1])
        elif line.startswith(b"configuration: "):
            self.notes.skipped["configuration lines"] += 1
        else:
            self.notes.skipped["lines of texts"] += self._is_in_text
            return self._is_in_text
        self._is_in_text = False
        return True

    def _parse_answer(self, number: int, url: str, capture_ns: int, data: bytes) -> Iterable[CapturedMessage]:
        self.evidence.inspect_url(url, f"{self.path.name} line {number:,}")
        symbol = _QUERY_SYMBOL.search(url)
        self._is_in_text = not data.startswith((b"{", b"[")) and not _is_json(data)
        if not symbol or not data.startswith(b"{"):
            self.notes.skipped["other answers of REST"] += 1
            return ()
        body = parse_body(number, data)
        if body.kind is BodyKind.ERROR:
            self.notes.error(data)
            return ()
        return (CapturedMessage(capture_ns, check_stream(number, snapshot_stream(unquote(symbol[1]))), data),)

    def _inspect_address(self, kind: str, address: bytes) -> None:
        url = _address(address)
        self.notes.skipped[kind] += 1
        self.evidence.inspect_url(url, self.path.name)
        if found := _SUBSCRIBED.search(url):
            self.notes.subscribed.update({name: None for name in unquote(found[1]).split("/") if name})

    def _read_subscription(self, sent: bytes) -> None:
        """Read the streams of a subscription request."""
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
    """Convert decimal seconds to nanoseconds, exactly."""
    return int(seconds) * 1_000_000_000 + int((fraction or b"0").ljust(9, b"0"))
