"""Replay of the order books of a recording, with comparisons to its bookTickers and snapshots.

The best prices of a bookTicker must equal those of the book at the same update id. A snapshot that arrives
while the book is synced is an audit. The ids of all snapshots are known from the scan, so that each audit
starts just before the book passes the id.
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
from capture_pipeline.golden.scan.scanner import Scan
from capture_pipeline.orderbook.audit import Audit, AuditOutcome
from capture_pipeline.orderbook.levels import BestQuotes, decimal_text, to_units
from capture_pipeline.orderbook.local_book import LocalBook
from capture_pipeline.orderbook.synchronization import State, Step
from capture_pipeline.sessions.recordings.reader import read_lines

_MAX_PENDING = 4096
_MAX_EXAMPLES = 5


@dataclass(slots=True)
class SymbolReplay:
    """Replay of the book of one symbol.

    Attributes:
        symbol: Symbol in capitals.
        sync: The book.
        snapshot_ids: `lastUpdateId` of all snapshots, ascending.
        diffs: Number of depth diffs.
        valid: Number of diffs after which the book was synced, or that it did not need.
        crossed: Number of diffs after which the book was crossed.
        compared: Number of bookTickers compared with the book at the same update id.
        differing: The first bookTickers with another best price or quantity.
        mismatches: Number of bookTickers with another best price or quantity.
        audits: Comparisons with snapshots.
    """

    symbol: str
    sync: LocalBook = field(default_factory=LocalBook)
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
    _bests: OrderedDict[int, BestQuotes[int] | None] = field(default_factory=OrderedDict)
    _tickers: OrderedDict[int, BookTicker] = field(default_factory=OrderedDict)

    def process_depth(self, data: bytes) -> None:
        """Process a diff."""
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
            self._record_best(diff.last_id)
        if self._ahead:
            pending, self._ahead = self._ahead, []
            for snapshot in pending:
                self._audit(snapshot)

    def process_snapshot(self, data: bytes) -> None:
        """Process a snapshot, to synchronise the book or as an audit."""
        snapshot = decode_snapshot(data)
        if self.sync.state is State.SYNCED:
            self._audit(snapshot)
            return
        step = self.sync.process_snapshot(snapshot)
        if step in {Step.BRIDGED, Step.LOADED}:
            self.valid += self._buffered  # the book applied them, or the snapshot contains them
            self._buffered = 0
        if step is Step.BRIDGED:
            self._record_best(self.sync.last_id)

    def process_ticker(self, data: bytes) -> None:
        """Process a bookTicker. It may arrive before or after the diff of its update id."""
        ticker = decode_book_ticker(data)
        if ticker.update_id in self._bests:
            self._compare(ticker, self._bests[ticker.update_id])
        else:
            self._tickers[ticker.update_id] = ticker
            if len(self._tickers) > _MAX_PENDING:
                self._tickers.popitem(last=False)

    def _record_best(self, update_id: int) -> None:
        """Store the best prices at an update id, and compare a bookTicker that arrived earlier."""
        best = self.sync.book.best()
        if best and best.bid >= best.ask:
            self.crossed += 1
        self._bests[update_id] = best
        if len(self._bests) > _MAX_PENDING:
            self._bests.popitem(last=False)
        if ticker := self._tickers.pop(update_id, None):
            self._compare(ticker, best)

    def _compare(self, ticker: BookTicker, best: BestQuotes[int] | None) -> None:
        theirs = BestQuotes(
            to_units(ticker.bid),
            to_units(ticker.bid_quantity),
            to_units(ticker.ask),
            to_units(ticker.ask_quantity),
        )
        self.compared += 1
        if theirs != best:
            self.mismatches += 1
            if len(self.differing) < _MAX_EXAMPLES:
                ours = " ".join(map(decimal_text, best)) if best else "an empty side"
                self.differing.append(
                    f"{self.symbol} at {ticker.update_id}: {ours}, bookTicker "
                    f"{' '.join(map(decimal_text, theirs))}"
                )

    def _audit(self, snapshot: DepthSnapshot) -> None:
        audit = self.sync.audit(snapshot)
        if audit.outcome is AuditOutcome.AHEAD:
            self._ahead.append(snapshot)
        elif audit.outcome is AuditOutcome.NOT_READY and snapshot.last_id > self.sync.last_id:
            self.sync.start_audit()  # the stream is behind REST
            self._ahead.append(snapshot)
        else:
            self.audits.append(audit)


@dataclass(slots=True)
class RecordingReplay:
    """Replays of all books of a recording.

    Attributes:
        books: Replays by symbol.
    """

    books: dict[str, SymbolReplay] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Convert the result to values that JSON can represent."""
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


def replay_books(path: Path, found: Scan) -> RecordingReplay:
    """Replay all books of a recording.

    Raises:
        MalformedDataError: A message is not a valid diff, snapshot or bookTicker. The error names the line.
    """
    result = RecordingReplay(
        {symbol: SymbolReplay(symbol, snapshot_ids=ids) for symbol, ids in _snapshot_ids(found).items()}
    )
    handlers: dict[str, Callable[[bytes], None] | None] = {}
    lines = read_lines(path, tolerant=True)
    for number, line in lines:
        if line.stream not in handlers:
            handlers[line.stream] = _find_handler(result, line.stream)
        handle = handlers[line.stream]
        if handle is None:
            continue
        try:
            handle(bytes(line.data))
        except (MalformedDataError, ValueError) as error:
            raise MalformedDataError(
                f"line {number} is damaged: {error}",
                where=str(path),
                remedy="use --no-book to validate without the order book",
            ) from None
    return result


def _snapshot_ids(found: Scan) -> dict[str, list[int]]:
    ids: dict[str, list[int]] = {stream.symbol: [] for stream in found.of_kind(StreamKind.DEPTH)}
    for stream in found.of_kind(StreamKind.SNAPSHOT):
        ids[stream.symbol] = sorted(stream.snapshots)
    return ids


def _find_handler(result: RecordingReplay, stream: str) -> Callable[[bytes], None] | None:
    book = result.books.get(symbol_of(stream))
    if book is None:
        return None
    kinds = {
        StreamKind.DEPTH: book.process_depth,
        StreamKind.SNAPSHOT: book.process_snapshot,
        StreamKind.BOOK_TICKER: book.process_ticker,
    }
    return kinds.get(kind_of(stream))
