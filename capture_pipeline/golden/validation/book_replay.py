"""The order books of a recording, replayed: how long they are valid, whether they cross, and whether they equal what else is recorded.

Where a bookTicker stands in the recording its best prices must be ours at the same update id; a snapshot that comes while a book is synced
is an audit. The ids of all snapshots are known from the first pass, so that each audit begins just before its id is passed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capture_pipeline.binance.streams.messages import (
    BookTicker,
    DepthSnapshot,
    decode_book_ticker,
    decode_depth,
    decode_snapshot,
)
from capture_pipeline.binance.streams.names import StreamKind, kind_of, symbol_of
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.readers.line_reader import read_lines
from capture_pipeline.golden.scan.scan import Scan
from capture_pipeline.orderbook.audit import Audit, AuditOutcome
from capture_pipeline.orderbook.levels import Book, decimal_text, to_units
from capture_pipeline.orderbook.sync import BookSync, State, Step

_MOST_PENDING = 4096
_MOST_SHOWN = 5
Best = tuple[int, int, int, int]


@dataclass(slots=True)
class SymbolReplay:
    """One symbol's book.

    Attributes:
        symbol: In capitals.
        sync: The book.
        snapshot_ids: `lastUpdateId` of all its snapshots, ascending.
        diffs: Depth diffs seen.
        valid: Those after which the book was synced, and those that it had no need of.
        crossed: Diffs after which it was crossed.
        compared: bookTickers at an update id at which the book stood.
        differing: Those of them with another best price or quantity, the first few.
        mismatches: How many.
        audits: Comparisons with snapshots.
    """

    symbol: str
    sync: BookSync[Book] = field(default_factory=lambda: BookSync(Book()))
    snapshot_ids: list[int] = field(default_factory=list)
    diffs: int = 0
    valid: int = 0
    crossed: int = 0
    compared: int = 0
    mismatches: int = 0
    differing: list[str] = field(default_factory=list)
    audits: list[Audit] = field(default_factory=list)
    _buffered: int = 0
    _ahead: list[DepthSnapshot] = field(default_factory=list)
    _bests: OrderedDict[int, Best | None] = field(default_factory=OrderedDict)
    _tickers: OrderedDict[int, BookTicker] = field(default_factory=OrderedDict)

    def depth(self, data: bytes) -> None:
        """Take a diff."""
        diff = decode_depth(data)
        self.diffs += 1
        sync = self.sync
        if sync.state is State.SYNCED and not sync.is_auditing:
            place = bisect_right(self.snapshot_ids, sync.last_id)
            if place < len(self.snapshot_ids) and diff.last_id >= self.snapshot_ids[place]:
                sync.start_audit()
        step = sync.process_diff(diff)
        if step is Step.BUFFERED:
            self._buffered += 1
        elif step is Step.GAP:
            self._buffered = 1
        else:
            self.valid += 1
        if sync.state is State.SYNCED and step is not Step.DROPPED:
            self._stands(diff.last_id)
        if self._ahead:
            pending, self._ahead = self._ahead, []
            for snapshot in pending:
                self._audit(snapshot)

    def snapshot(self, data: bytes) -> None:
        """Take a snapshot: to sync with, or as an audit."""
        snapshot = decode_snapshot(data)
        if self.sync.state is State.SYNCED:
            self._audit(snapshot)
            return
        step = self.sync.process_snapshot(snapshot)
        if step in {Step.BRIDGED, Step.LOADED}:
            self.valid += self._buffered  # replayed onto it, or known to be in it
            self._buffered = 0
        if step is Step.BRIDGED:
            self._stands(self.sync.last_id)

    def ticker(self, data: bytes) -> None:
        """Take a bookTicker; it may precede the diff of its update id or follow it."""
        ticker = decode_book_ticker(data)
        if ticker.update_id in self._bests:
            self._compare(ticker, self._bests[ticker.update_id])
        else:
            self._tickers[ticker.update_id] = ticker
            if len(self._tickers) > _MOST_PENDING:
                self._tickers.popitem(last=False)

    def _stands(self, update_id: int) -> None:
        """The book stands at an id: note its best prices and compare the bookTicker that came before."""
        best = self.sync.book.best()
        if best and best[0] >= best[2]:
            self.crossed += 1
        self._bests[update_id] = best
        if len(self._bests) > _MOST_PENDING:
            self._bests.popitem(last=False)
        if ticker := self._tickers.pop(update_id, None):
            self._compare(ticker, best)

    def _compare(self, ticker: BookTicker, best: Best | None) -> None:
        theirs = (
            to_units(ticker.bid),
            to_units(ticker.bid_quantity),
            to_units(ticker.ask),
            to_units(ticker.ask_quantity),
        )
        self.compared += 1
        if theirs != best:
            self.mismatches += 1
            if len(self.differing) < _MOST_SHOWN:
                ours = " ".join(map(decimal_text, best)) if best else "an empty side"
                self.differing.append(
                    f"{self.symbol} at {ticker.update_id}: {ours}, bookTicker {' '.join(map(decimal_text, theirs))}"
                )

    def _audit(self, snapshot: DepthSnapshot) -> None:
        audit = self.sync.audit(snapshot)
        if audit.outcome is AuditOutcome.AHEAD:
            self._ahead.append(snapshot)
        elif audit.outcome is AuditOutcome.NOT_READY and snapshot.last_id > self.sync.last_id:
            self.sync.start_audit()  # a stream that lags behind REST
            self._ahead.append(snapshot)
        else:
            self.audits.append(audit)


@dataclass(slots=True)
class Replay:
    """All books of a recording.

    Attributes:
        books: By symbol.
    """

    books: dict[str, SymbolReplay] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            symbol: {
                "diffs": book.diffs,
                "valid": book.valid,
                "crossed": book.crossed,
                "best_compared": book.compared,
                "best_differing": book.mismatches,
                "audits": [audit.to_dict() for audit in book.audits],
            }
            for symbol, book in sorted(self.books.items())
        }


def replay(path: Path, found: Scan) -> Replay:
    """Replay every book of a recording that was scanned.

    Raises:
        MalformedDataError: A message holds what is no diff, snapshot or bookTicker, or a number that is none; with its line.
    """
    result = Replay(
        {symbol: SymbolReplay(symbol, snapshot_ids=ids) for symbol, ids in _snapshot_ids(found).items()}
    )
    takers: dict[str, Callable[[bytes], None] | None] = {}
    lines = read_lines(path, tolerant=True)
    for number, line in lines:
        if line.stream not in takers:
            takers[line.stream] = _taker(result, line.stream)
        take = takers[line.stream]
        if take is None:
            continue
        try:
            take(bytes(line.data))
        except (MalformedDataError, ValueError) as error:
            raise MalformedDataError(
                f"line {number}: {error}",
                where=str(path),
                remedy="the message is damaged; leave the book out with --no-book",
            ) from None
    return result


def _snapshot_ids(found: Scan) -> dict[str, list[int]]:
    ids: dict[str, list[int]] = {stream.symbol: [] for stream in found.of_kind(StreamKind.DEPTH)}
    for stream in found.of_kind(StreamKind.SNAPSHOT):
        ids[stream.symbol] = sorted(stream.snapshots)
    return ids


def _taker(result: Replay, stream: str) -> Callable[[bytes], None] | None:
    book = result.books.get(symbol_of(stream))
    if book is None:
        return None
    kinds = {
        StreamKind.DEPTH: book.depth,
        StreamKind.SNAPSHOT: book.snapshot,
        StreamKind.BOOK_TICKER: book.ticker,
    }
    return kinds.get(kind_of(stream))
