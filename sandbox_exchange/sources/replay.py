"""A recorded session in place of the market: its messages byte for byte at their recorded pace, its snapshots as REST answers.

The file is read as the clock goes by, a block at a time, so that memory does not grow with it.
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
from capture_pipeline.golden.readers.line_reader import Recording
from capture_pipeline.parsing import PARSE_ERRORS, explain
from capture_pipeline.sessions.line_format import decode_line
from sandbox_exchange.market.source import AnyFile, Content, KlineQuery
from sandbox_exchange.market.symbols import SymbolSpec
from sandbox_exchange.rest.market_data import Endpoint
from sandbox_exchange.rest.params import Params, RestError
from sandbox_exchange.streams.messages import Key, Message

_BLOCK_BYTES = 1 << 18
_A_WINDOW = 5000
_LOOKED_AT = 5000


class Record(NamedTuple):
    """One line of a recording: capture time in microseconds UTC, stream, and the exchange's bytes."""

    time_us: int
    stream: str
    data: bytes


def records(path: Path) -> Iterator[Record]:
    """The lines of a recording, plain or gzip of any number of members; a torn end is the end.

    Raises:
        ConfigError: The file cannot be read, or a line is none of a recording.
    """
    number = 0
    try:
        with Recording(path, _BLOCK_BYTES) as recording:
            for block in recording:
                for line in block.split(b"\n")[:-1]:
                    number += 1
                    yield _record(line, path, number)
    except MalformedDataError as error:
        raise ConfigError(error.what, where=error.where, remedy=error.remedy) from None


def _record(line: bytes, path: Path, number: int) -> Record:
    try:
        read = decode_line(line)
    except PARSE_ERRORS as error:
        remedy = 'lines have the form {"capture_ns":…,"stream":"…","data":…}'
        raise ConfigError(
            f"line {number} is none of a recording: {explain(error)}", where=str(path), remedy=remedy
        ) from None
    return Record(read.capture_ns // 1000, read.stream, bytes(read.data))


class ReplayFeed:
    """The messages of a recording as streams.

    Attributes:
        first_us: Capture time of the first line, microseconds UTC.
        symbols: Those found near the beginning.
        snapshots: By symbol, the last REST snapshot that has passed.
        failure: Why the recording ended before its end; empty where it did not.
    """

    def __init__(self, path: Path) -> None:
        """Read the beginning.

        Raises:
            ConfigError: It is no recording, or an empty one.
        """
        beginning = list(islice(records(path), _LOOKED_AT))
        if not beginning:
            raise ConfigError(
                "holds no whole line", where=str(path), remedy="give a recording, .jsonl.gz or .jsonl"
            )
        self.first_us = beginning[0].time_us
        names = {symbol_of(record.stream) for record in beginning}
        self.symbols = sorted(filter(is_symbol, names))
        self.snapshots: dict[str, bytes] = {}
        self.failure = ""
        self._is_heard = False
        self._records = records(path)
        self._next: Record | None = next(self._records)

    @property
    def is_finished(self) -> bool:
        """Whether all has passed."""
        return self._next is None

    @property
    def runs_without_listeners(self) -> bool:
        """Messages pass even when nobody listens."""
        return not self.is_finished

    def render(self, keys: Collection[Key], start_us: int, end_us: int) -> Iterator[None]:
        """Prepare nothing: the lines are there."""
        del keys, start_us, end_us
        return iter(())

    def window(self, keys: Collection[Key], start_us: int, end_us: int) -> tuple[list[Message], int]:
        """The messages that have come up to `end_us` since the last call, a bounded number of lines at once."""
        if not (keys or self._is_heard):
            return [], end_us
        self._is_heard = True
        wanted: dict[str, list[Key]] = {}
        for key in keys:
            wanted.setdefault(key.stream, []).append(key)
        messages: list[Message] = []
        for _ in range(_A_WINDOW):
            record = self._next
            if record is None or record.time_us > end_us:
                return messages, end_us
            if kind_of(record.stream) is StreamKind.SNAPSHOT:
                self.snapshots[symbol_of(record.stream)] = record.data
            messages += [
                Message(record.time_us, key, record.data, *_ids(record))
                for key in wanted.get(record.stream, ())
            ]
            start_us = record.time_us
            self._advance()
        return messages, start_us

    def _advance(self) -> None:
        try:
            self._next = next(self._records, None)
        except ConfigError as error:
            self.failure, self._next = str(error), None


def _ids(record: Record) -> tuple[int, int]:
    """First and last id of a message; zeros where it has none or is damaged."""
    with suppress(*PARSE_ERRORS):
        if kind_of(record.stream) is StreamKind.DEPTH:
            diff = decode_wire_diff(record.data)
            return diff.first_id, diff.last_id
        if kind_of(record.stream) is StreamKind.TRADE:
            trade = decode_trade_ids(record.data).trade_id
            return trade, trade
    return 0, 0


class ReplaySource:
    """What archive and klines say of a recording: its symbols, and nothing else."""

    def __init__(self, feed: ReplayFeed) -> None:
        """Keep the recording."""
        self._feed = feed

    def symbols(self, market: Market) -> list[SymbolSpec]:
        """The spot symbols; tick and lot are not known, and stated as the smallest."""
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
        """Refused."""
        del query, now_us
        _refuse("klines")

    def intervals(self, market: Market, granularity: Granularity, symbol: str) -> list[Interval]:
        """None: there is no archive."""
        del market, granularity, symbol
        return []

    def files(
        self, market: Market, granularity: Granularity, symbol: str, interval: Interval, until_us: int
    ) -> list[ArchiveFile]:
        """None."""
        del market, granularity, symbol, interval, until_us
        return []

    def trades_files(
        self, market: Market, granularity: Granularity, symbol: str, until_us: int
    ) -> list[TradesFile]:
        """None."""
        del market, granularity, symbol, until_us
        return []

    def content(self, file: AnyFile) -> Content | None:
        """None."""
        del file
        return None


class ReplayTrading:
    """Depth of a recording: its own snapshots."""

    def __init__(self, feed: ReplayFeed) -> None:
        """Keep the recording."""
        self._feed = feed

    def endpoints(self) -> dict[str, Endpoint]:
        """The endpoints by name."""
        return {"depth": self.depth, "aggTrades": self.agg_trades}

    def depth(self, params: Params, micro: bool) -> dict[str, Any]:  # noqa: FBT001, ARG002
        """The last snapshot that was recorded by now; 503 where none was."""
        symbol, limit = params.symbol(self._feed.symbols), params.limit(100, 5000)
        params.finish()
        recorded = self._feed.snapshots.get(symbol)
        if recorded is None:
            raise RestError(-1001, "No snapshot of this symbol was recorded up to now.", status=503)
        try:
            book: dict[str, Any] = msgspec.json.decode(recorded)
            return {**book, "bids": book["bids"][:limit], "asks": book["asks"][:limit]}
        except PARSE_ERRORS:
            raise RestError(-1001, "The recorded snapshot of this symbol is damaged.", status=503) from None

    def agg_trades(self, params: Params, micro: bool) -> NoReturn:  # noqa: FBT001, ARG002
        """Refused."""
        _refuse("aggregate trades")


def _refuse(what: str) -> NoReturn:
    raise RestError(-1000, f"A recorded session holds no {what}.")
