"""Replay of a recorded session: its messages at the recorded speed, and its snapshots as REST responses.

The file is read in blocks as the clock advances, so that memory use does not depend on its size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec
import polars as pl

from capture_pipeline.binance.periods import Interval
from capture_pipeline.binance.streams.messages import decode_trade_ids, decode_wire_diff
from capture_pipeline.binance.streams.names import StreamKind, kind_of, symbol_of
from capture_pipeline.binance.symbols import is_symbol
from capture_pipeline.binance.urls import ArchiveFile, Granularity, Market, TradesFile
from capture_pipeline.errors import ConfigError, MalformedDataError
from capture_pipeline.parsing import PARSE_ERRORS
from capture_pipeline.sessions.continuity import IdRange
from capture_pipeline.sessions.recordings.reader import read_lines
from sandbox_exchange.config.symbols import SymbolSpec
from sandbox_exchange.market.source import AnyFile, FileContent, KlineQuery
from sandbox_exchange.rest.market_data import Endpoint
from sandbox_exchange.rest.params import Params, RestError
from sandbox_exchange.streams.messages import Message, MessageWindow, StreamKey

_MAX_WINDOW_LINES = 5000
_SYMBOL_SEARCH_LINES = 5000


class Record(NamedTuple):
    """Line of a recording: capture time in microseconds UTC, stream name and the bytes of the exchange."""

    time_us: int
    stream: str
    data: bytes


def read_records(path: Path) -> Iterator[Record]:
    """Read the lines of a recording, plain or gzip. An incomplete last line is ignored.

    Raises:
        ConfigError: The file cannot be read, or a line does not have the form of a recording.
    """
    try:
        for _, line in read_lines(path, tolerant=True):
            yield Record(line.capture_ns // 1000, line.stream, bytes(line.data))
    except MalformedDataError as error:
        raise ConfigError(error.what, where=error.where, remedy=error.remedy) from None


class ReplayFeed:
    """Feed of the messages of a recording.

    Attributes:
        first_us: Capture time of the first line, microseconds UTC.
        symbols: Symbols of the first lines.
        snapshots: Last REST snapshot of each symbol up to the present time.
        failure: Error that ended the replay early; empty without an error.
    """

    def __init__(self, path: Path) -> None:
        """Read the first lines.

        Raises:
            ConfigError: The file is not a recording, or contains no complete line.
        """
        first_records = list(islice(read_records(path), _SYMBOL_SEARCH_LINES))
        if not first_records:
            raise ConfigError(
                "contains no complete line", where=str(path), remedy="give a recording, .jsonl.gz or .jsonl"
            )
        self.first_us = first_records[0].time_us
        names = {symbol_of(record.stream) for record in first_records}
        self.symbols = sorted(filter(is_symbol, names))
        self.snapshots: dict[str, bytes] = {}
        self.failure = ""
        self._is_started = False
        self._records = read_records(path)
        self._next: Record | None = next(self._records)

    @property
    def is_finished(self) -> bool:
        """True if all messages have passed."""
        return self._next is None

    @property
    def runs_without_listeners(self) -> bool:
        """True until the end of the recording: messages pass also while no connection is open."""
        return not self.is_finished

    def render(self, keys: Collection[StreamKey], start_us: int, end_us: int) -> Iterator[None]:
        """Prepare nothing, because the messages are recorded."""
        del keys, start_us, end_us
        return iter(())

    def window(self, keys: Collection[StreamKey], start_us: int, end_us: int) -> MessageWindow:
        """Return the messages up to `end_us` since the last call, from at most `_MAX_WINDOW_LINES` lines.

        The replay starts at the first call with keys.
        """
        if not (keys or self._is_started):
            return MessageWindow([], end_us)
        self._is_started = True
        wanted: dict[str, list[StreamKey]] = {}
        for key in keys:
            wanted.setdefault(key.stream, []).append(key)
        messages: list[Message] = []
        for _ in range(_MAX_WINDOW_LINES):
            record = self._next
            if record is None or record.time_us > end_us:
                return MessageWindow(messages, end_us)
            if kind_of(record.stream) is StreamKind.SNAPSHOT:
                self.snapshots[symbol_of(record.stream)] = record.data
            messages += [
                Message(record.time_us, key, record.data, *_ids(record))
                for key in wanted.get(record.stream, ())
            ]
            start_us = record.time_us
            self._advance()
        return MessageWindow(messages, start_us)

    def _advance(self) -> None:
        try:
            self._next = next(self._records, None)
        except ConfigError as error:
            self.failure, self._next = str(error), None


def _ids(record: Record) -> IdRange:
    """Return the ids of a message; zeros if it has no ids or is damaged."""
    with suppress(*PARSE_ERRORS):
        if kind_of(record.stream) is StreamKind.DEPTH:
            diff = decode_wire_diff(record.data)
            return IdRange(diff.first_id, diff.last_id)
        if kind_of(record.stream) is StreamKind.TRADE:
            trade = decode_trade_ids(record.data).trade_id
            return IdRange(trade, trade)
    return IdRange(0, 0)


class ReplaySource:
    """Source with the symbols of a recording, without klines and archive files."""

    def __init__(self, feed: ReplayFeed) -> None:
        self._feed = feed

    def symbols(self, market: Market) -> list[SymbolSpec]:
        """Return the spot symbols; tick and lot are unknown and have their minimum values."""
        smallest = {"tick_size": Decimal("0.00000001"), "lot_size": Decimal(1)}
        return (
            [SymbolSpec(symbol=name, **smallest) for name in self._feed.symbols]
            if market is Market.SPOT
            else []
        )

    def status(self, market: Market, symbol: SymbolSpec, now_us: int) -> str:
        """Return TRADING until the recording ends, then BREAK."""
        del market, symbol, now_us
        return "BREAK" if self._feed.is_finished else "TRADING"

    def klines(self, query: KlineQuery, now_us: int) -> pl.DataFrame:
        """Raise an error, because a recording has no klines."""
        del query, now_us
        _refuse("klines")

    def intervals(self, market: Market, granularity: Granularity, symbol: str) -> list[Interval]:
        """Return no intervals, because a recording has no archive files."""
        del market, granularity, symbol
        return []

    def files(
        self, market: Market, granularity: Granularity, symbol: str, interval: Interval, until_us: int
    ) -> list[ArchiveFile]:
        """Return no files."""
        del market, granularity, symbol, interval, until_us
        return []

    def trades_files(
        self, market: Market, granularity: Granularity, symbol: str, until_us: int
    ) -> list[TradesFile]:
        """Return no files."""
        del market, granularity, symbol, until_us
        return []

    def content(self, file: AnyFile) -> FileContent | None:
        """Return None, because a recording has no archive files."""
        del file
        return None


class ReplayTrading:
    """REST endpoint `depth` with the snapshots of a recording; aggregates are refused."""

    def __init__(self, feed: ReplayFeed) -> None:
        self._feed = feed

    def endpoints(self) -> dict[str, Endpoint]:
        """Return the endpoints by name."""
        return {"depth": self.depth, "aggTrades": self.agg_trades}

    def depth(self, params: Params, micro: bool) -> dict[str, Any]:  # noqa: FBT001, ARG002
        """Return the last snapshot up to the present time; status 503 if there is none."""
        symbol, limit = params.symbol(self._feed.symbols), params.limit(100, 5000)
        params.check_all_read()
        snapshot = self._feed.snapshots.get(symbol)
        if snapshot is None:
            raise RestError(-1001, "No snapshot of this symbol was recorded up to now.", status=503)
        try:
            book: dict[str, Any] = msgspec.json.decode(snapshot)
            return {**book, "bids": book["bids"][:limit], "asks": book["asks"][:limit]}
        except PARSE_ERRORS:
            raise RestError(-1001, "The recorded snapshot of this symbol is damaged.", status=503) from None

    def agg_trades(self, params: Params, micro: bool) -> NoReturn:  # noqa: FBT001, ARG002
        """Raise an error, because a recording has no aggregates."""
        _refuse("aggregate trades")


def _refuse(what: str) -> NoReturn:
    raise RestError(-1000, f"A recorded session contains no {what}.")
