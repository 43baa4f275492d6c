"""Parser of CSV files of Binance-Data-Processor: diffs, trades and snapshots, one row per level or trade.

The tool stores the fields of a message and not its bytes. The parser builds a message from them in the format
of the exchange, with prices and quantities as in the file. Rows of one diff or snapshot are adjacent. A diff
without levels has no row, so that its ids are missing. A faulty row is reported and kept: it becomes a line
with the row as text, which fails every validation.
Source: `scraper.py` and the test files of DanielLasota/Binance-Data-Processor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.binance.symbols import is_symbol
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.imports.evidence import CM, SPOT, UM, Evidence
from capture_pipeline.golden.imports.line_formats import snapshot_stream
from capture_pipeline.golden.imports.lines import check_stream, parse_stamp, symbol_or_empty
from capture_pipeline.golden.imports.notes import CapturedMessage, Notes

_NAME = re.compile(r"_(spot|usd_m_futures|coin_m_futures)_(.+?)_[0-9]{2}-[0-9]{2}-[0-9]{4}")
_MARKETS = {"spot": SPOT, "usd_m_futures": UM, "coin_m_futures": CM}
_STAMP, _LEVEL = "TimestampOfReceive", ("IsAsk", "Price", "Quantity")
_STREAM = (_STAMP, "Stream", "EventType", "EventTime", "Symbol")
_TRADE = frozenset({*_STREAM, "TransactionTime", "TradeId", "Price", "Quantity", "IsBuyerMarketMaker"})
_DIFF = frozenset({*_STREAM, "FirstUpdateId", "FinalUpdateId", *_LEVEL})
_SNAPSHOT = frozenset({_STAMP, "LastUpdateId", *_LEVEL})
_DIFF_KEYS = {
    "EventTime": "E",
    "TransactionTime": "T",
    "Symbol": "s",
    "PSUnknownField": "ps",
    "FirstUpdateId": "U",
    "FinalUpdateId": "u",
    "FinalUpdateIdInLastStream": "pu",
}
_SNAPSHOT_KEYS = {
    "LastUpdateId": "lastUpdateId",
    "MessageOutputTime": "E",
    "TransactionTime": "T",
    "Symbol": "symbol",
    "Pair": "pair",
}
_TRADE_KEYS = {
    "EventTime": "E",
    "Symbol": "s",
    "TradeId": "t",
    "Price": "p",
    "Quantity": "q",
    "TransactionTime": "T",
    "XUnknownParameter": "X",
    "IsBuyerMarketMaker": "m",
    "MUnknownParameter": "M",
}
_NUMBERS = frozenset({"E", "T", "U", "u", "pu", "t", "lastUpdateId"})
_FLAGS = {"0": "false", "1": "true", "False": "false", "True": "true"}
_DIGITS = re.compile(r"[0-9]{1,18}")
_DECIMAL = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?(?:[eE][-+]?[0-9]{1,2})?")
_WORD = re.compile(r"[\w.-]{1,40}")
Row = dict[str, str]


class _FaultError(Exception):
    """Error: a row has an invalid value, or another number of cells than columns."""


@dataclass(slots=True)
class _OpenMessage:
    """A diff or a snapshot that is not complete yet.

    Attributes:
        key: Cells that all rows of the message have in common.
        capture_ns: Capture time, nanoseconds UTC.
        stream: Name of the stream.
        head: Fields except the levels, as JSON without the brackets.
        names: JSON keys of bids and asks.
        sides: Bids and asks, as JSON.
    """

    key: tuple[str, ...]
    capture_ns: int
    stream: str
    head: str
    names: tuple[str, str]
    sides: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    def message(self) -> CapturedMessage:
        """Build the message from all rows."""
        sides = (f'"{name}":[{",".join(side)}]' for name, side in zip(self.names, self.sides, strict=True))
        return CapturedMessage(self.capture_ns, self.stream, f"{{{self.head},{','.join(sides)}}}".encode())


@dataclass(slots=True)
class ProcessorLines:
    """Parser of the rows of one file.

    Attributes:
        path: The file.
        notes: Report of the import.
        evidence: Evidence of market and venue.
        symbol: Symbol of snapshots, if neither a column nor the file name contains it.
        is_survey: True to report no faults, because the file is read again.
    """

    origin: ClassVar[str] = "binance-data-processor"
    path: Path
    notes: Notes
    evidence: Evidence
    symbol: str | None = None
    is_survey: bool = False
    _columns: tuple[str, ...] = ()
    _named: str = ""
    _open: _OpenMessage | None = None
    _last_ns: int = 0
    _stream: str = ""

    def __post_init__(self) -> None:
        """Read market and symbol from the file name."""
        if found := _NAME.search(self.path.name):
            self.evidence.add_market(_MARKETS[found[1]], self.path.name, "its name")
            self._named = found[2].upper()

    def parse_line(self, number: int, line: bytes) -> Iterable[CapturedMessage]:
        """Return the messages that are complete with this row."""
        if line.startswith(b"#"):
            self.notes.skipped["comment lines"] += 1
            return ()
        text = line.decode("utf-8", "backslashreplace")
        if not self._columns:
            self._columns = _parse_header(number, text)
            self._stream = f"{(self._named or self.symbol or 'unknown').lower()}@{_kind_of(self._columns)}"
            return ()
        try:
            return self._row(number, text)
        except (_FaultError, MalformedDataError) as error:
            return self._emit_faulty_row(number, text, str(error))

    def finish(self) -> Iterable[CapturedMessage]:
        """Return the diff or the snapshot of the last rows."""
        opened, self._open = self._open, None
        return (opened.message(),) if opened else ()

    def _row(self, number: int, text: str) -> Iterable[CapturedMessage]:
        cells = text.split(",")
        if len(cells) != len(self._columns):
            raise _FaultError(f"has {len(cells)} cells instead of {len(self._columns)}")
        row = dict(zip(self._columns, cells, strict=True))
        capture_ns = parse_stamp(number, _number(row, _STAMP).encode(), self.notes)
        if "TradeId" in row:
            _expect(row, "trade")
            stream = self._stream_of(number, row)
            data = ",".join(['"e":"trade"', *_fields(row, _TRADE_KEYS)])
            found = CapturedMessage(capture_ns, stream, f"{{{data}}}".encode())
            self._last_ns, self._stream = capture_ns, stream
            return (found,)
        return self._level(number, row, capture_ns)

    def _level(self, number: int, row: Row, capture_ns: int) -> Iterable[CapturedMessage]:
        side = int(_cell(row, "IsAsk", {"0", "1"}))
        level = f'["{_decimal(row, "Price")}","{_decimal(row, "Quantity")}"]'
        key = tuple(value for name, value in row.items() if name not in _LEVEL)
        done: Iterable[CapturedMessage] = ()
        if self._open is None or self._open.key != key:
            opened = self._start_message(number, row, capture_ns, key)
            done, self._open = self.finish(), opened
            self._last_ns, self._stream = capture_ns, opened.stream
        self._open.sides[side].append(level)
        return done

    def _start_message(self, number: int, row: Row, capture_ns: int, key: tuple[str, ...]) -> _OpenMessage:
        if "LastUpdateId" in row:
            stream = check_stream(number, snapshot_stream(self._symbol(number, row)))
            return _OpenMessage(
                key, capture_ns, stream, ",".join(_fields(row, _SNAPSHOT_KEYS)), ("bids", "asks")
            )
        _expect(row, "depthUpdate")
        head = ",".join(['"e":"depthUpdate"', *_fields(row, _DIFF_KEYS)])
        return _OpenMessage(key, capture_ns, self._stream_of(number, row), head, ("b", "a"))

    @staticmethod
    def _stream_of(number: int, row: Row) -> str:
        stream = check_stream(number, row["Stream"])
        if symbol_or_empty(stream) != row["Symbol"]:
            raise _FaultError(f"Symbol {row['Symbol'][:40]!r} is not that of its stream {stream!r}")
        return stream

    def _symbol(self, number: int, row: Row) -> str:
        symbol = row.get("Symbol") or self.symbol or self._named
        if not symbol or not is_symbol(symbol):
            remedy = "name it with --symbol, or keep the name that the tool gave the file"
            raise MalformedDataError(f"line {number:,} is a snapshot of an unknown symbol", remedy=remedy)
        return symbol

    def _emit_faulty_row(self, number: int, text: str, why: str) -> Iterable[CapturedMessage]:
        """Return the row as a line that fails validation. An interrupted diff continues after it."""
        if not self.is_survey:
            self.notes.fault(f"{self.path.name} line {number:,}: {why}: {text[:80]!r}")
        return (CapturedMessage(self._last_ns, self._stream, json.dumps(text).encode()),)


def _parse_header(number: int, text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not any(needed <= set(names) for needed in (_TRADE, _DIFF, _SNAPSHOT)) or len(set(names)) != len(
        names
    ):
        what = (
            f"line {number:,} is not a header of Binance-Data-Processor's trades, diffs or snapshots: "
            f"{text[:120]!r}"
        )
        raise MalformedDataError(
            what, remedy="import the files that the tool's scraper wrote, one stream in each file"
        )
    return names


def _kind_of(columns: tuple[str, ...]) -> StreamKind:
    if "TradeId" in columns:
        return StreamKind.TRADE
    return StreamKind.DEPTH if "FinalUpdateId" in columns else StreamKind.SNAPSHOT


def _fields(row: Row, keys: dict[str, str]) -> list[str]:
    """Format the fields of a message as JSON, in the order of the exchange, if the file has their columns."""
    return [f'"{key}":{_json(row, name, key)}' for name, key in keys.items() if name in row]


def _json(row: Row, name: str, key: str) -> str:
    if key in _NUMBERS:
        return str(int(_number(row, name)))
    if key in {"m", "M"}:
        return _FLAGS[_cell(row, name, _FLAGS.keys())]
    if key in {"p", "q"}:
        return f'"{_decimal(row, name)}"'
    if not _WORD.fullmatch(row[name]):
        raise _FaultError(f"{name} is not a word: {row[name][:40]!r}")
    return f'"{row[name]}"'


def _number(row: Row, name: str) -> str:
    if not _DIGITS.fullmatch(row[name]):
        raise _FaultError(f"{name} is not a number: {row[name][:40]!r}")
    return row[name]


def _cell(row: Row, name: str, allowed: Iterable[str]) -> str:
    if row[name] not in set(allowed):
        raise _FaultError(f"{name} is none of {', '.join(sorted(allowed))}: {row[name][:40]!r}")
    return row[name]


def _decimal(row: Row, name: str) -> str:
    """Return a price or a quantity as a plain decimal; older files contain floats, some with an exponent."""
    text = row[name]
    if not _DECIMAL.fullmatch(text):
        raise _FaultError(f"{name} is not a number of 0 or more: {text[:40]!r}")
    return text if "e" not in text.lower() else f"{Decimal(text):f}"


def _expect(row: Row, event: str) -> None:
    if row["EventType"] != event:
        raise _FaultError(f"EventType is not {event}: {row['EventType'][:40]!r}")
