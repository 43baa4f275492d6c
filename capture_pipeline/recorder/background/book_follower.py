"""Live order books of a session, which show during the recording that the recorded diffs are usable.

The module reports which snapshots are needed and the results of audits. It sends no requests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from capture_pipeline.binance.streams.messages import DepthSnapshot, WireDiff, decode_snapshot
from capture_pipeline.binance.streams.names import symbol_of
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.audit import AuditOutcome
from capture_pipeline.orderbook.book import Book
from capture_pipeline.orderbook.local_book import LocalBook
from capture_pipeline.orderbook.synchronization import State, Step
from capture_pipeline.parsing import guard_parser

MAX_PENDING = 256
"""Diffs that a book applies together: about 25 seconds of one symbol."""


class BookFollower:
    """Live order books, one per symbol."""

    def __init__(self, symbols: list[str], on_malformed: Callable[[str, str], None]) -> None:
        """Start with an empty book per symbol.

        Args:
            symbols: Symbols in capitals.
            on_malformed: Receives the symbol and the error when a diff with ids has a malformed level. The
                diff is recorded anyway, and the book waits for a snapshot. Levels are parsed in groups of
                some hundred diffs, or when an audit begins.
        """
        self._on_malformed = on_malformed
        self._books = {symbol: LocalBook(Book(MAX_PENDING, is_pruned=True)) for symbol in symbols}
        self._symbols_with_diffs: set[str] = set()
        self._symbol_of: dict[str, str] = {}
        self._audits: set[str] = set()
        self._early_snapshots: dict[str, DepthSnapshot] = {}
        self._audit_results: list[dict[str, Any]] = []

    def apply_diff(self, stream: str, diff: WireDiff) -> None:
        """Apply a recorded diff to its book."""
        symbol = self._symbol_of.get(stream)
        if symbol is None:
            symbol = self._symbol_of[stream] = symbol_of(stream)
        self._symbols_with_diffs.add(symbol)
        try:
            self._books[symbol].process_diff(diff)
        except MalformedDataError as error:
            self._on_malformed(symbol, str(error))
        if self._early_snapshots:
            self._compare_again(symbol)

    def invalidate(self, stream: str) -> None:
        """Discard a book after a loss of diffs; it needs a new snapshot."""
        book = self._books[symbol_of(stream)]
        if book.state is State.SYNCED:
            book.invalidate()
            self._symbols_with_diffs.discard(symbol_of(stream))

    def list_wanted_symbols(self) -> list[str]:
        """List the symbols whose book needs a snapshot, for synchronization or for an audit.

        A symbol without diffs is not listed: a snapshot from before the first diff is useless.
        """
        return [
            symbol
            for symbol, book in self._books.items()
            if symbol in self._audits or (book.needs_snapshot and symbol in self._symbols_with_diffs)
        ]

    def begin_audits(self) -> None:
        """Request a snapshot for each synchronized book."""
        for symbol, book in self._books.items():
            if book.state is not State.SYNCED:
                continue
            try:
                book.start_audit()
                self._audits.add(symbol)
            except MalformedDataError as error:
                self._on_malformed(symbol, str(error))

    def is_audit(self, symbol: str) -> bool:
        """Return whether the requested snapshot is for an audit."""
        return symbol in self._audits

    def apply_snapshot(self, symbol: str, body: bytes) -> bool:
        """Apply a snapshot to a book, or compare it with the book for an audit.

        Returns:
            False if the snapshot is older than the buffered diffs; then another one is needed.

        Raises:
            MalformedDataError: The answer is not a depth snapshot.
        """
        with guard_parser(symbol, "is not a depth snapshot"):
            snapshot = decode_snapshot(body)
        book = self._books[symbol]
        if symbol in self._audits and book.is_auditing:
            return self._audit(symbol, snapshot)
        self._audits.discard(symbol)
        return book.process_snapshot(snapshot) is not Step.TOO_OLD

    def take_audit_results(self) -> list[dict[str, Any]]:
        """Return the results of the audits since the last call."""
        found, self._audit_results = self._audit_results, []
        return found

    def states(self) -> dict[str, str]:
        """Return the state of each book by symbol."""
        return {symbol: str(book.state) for symbol, book in self._books.items()}

    def _audit(self, symbol: str, snapshot: DepthSnapshot) -> bool:
        try:
            audit = self._books[symbol].audit(snapshot)
        except MalformedDataError:
            self._audits.discard(symbol)
            return False
        if audit.outcome is AuditOutcome.AHEAD:
            # The diffs up to this snapshot have not arrived yet.
            self._early_snapshots[symbol] = snapshot
            self._audits.discard(symbol)
        elif audit.outcome is not AuditOutcome.TOO_OLD:
            self._audits.discard(symbol)
            self._audit_results.append({"symbol": symbol, "clean": audit.is_clean, **audit.to_dict()})
        return audit.outcome is not AuditOutcome.TOO_OLD

    def _compare_again(self, symbol: str) -> None:
        snapshot = self._early_snapshots.get(symbol)
        if snapshot is None or self._books[symbol].last_id < snapshot.last_id:
            return
        del self._early_snapshots[symbol]
        self._audit(symbol, snapshot)
