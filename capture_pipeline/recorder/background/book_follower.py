"""The books of a session, followed live by the exchange's procedure, so that what is recorded is known to be usable.

Says which snapshots are wanted and what an audit found; fetches nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from capture_pipeline.binance.streams.messages import DepthSnapshot, WireDiff, decode_snapshot
from capture_pipeline.binance.streams.names import symbol_of
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.audit import AuditOutcome
from capture_pipeline.orderbook.sync import BookSync, State, Step
from capture_pipeline.orderbook.texts import TextBook
from capture_pipeline.parsing import guard_parser


class Follower:
    """One book a symbol."""

    def __init__(self, symbols: list[str], on_malformed: Callable[[str, str], None]) -> None:
        """Start with no snapshot of any.

        Args:
            symbols: In capitals.
            on_malformed: Told the symbol and what is wrong where a diff that has ids holds what is no level. It is recorded all the same;
                the book waits for a snapshot. Levels are looked at some hundred diffs together, or when an audit begins.
        """
        self._on_malformed = on_malformed
        self._books = {symbol: BookSync(TextBook()) for symbol in symbols}
        self._flowing: set[str] = set()
        self._symbol_of: dict[str, str] = {}
        self._audits: set[str] = set()
        self._ahead: dict[str, DepthSnapshot] = {}
        self._found: list[dict[str, Any]] = []

    def diff(self, stream: str, diff: WireDiff) -> None:
        """Apply a diff that is being recorded."""
        symbol = self._symbol_of.get(stream)
        if symbol is None:
            symbol = self._symbol_of[stream] = symbol_of(stream)
        self._flowing.add(symbol)
        try:
            self._books[symbol].process_diff(diff)
        except MalformedDataError as error:
            self._on_malformed(symbol, str(error))
        if self._ahead:
            self._compare_again(symbol)

    def invalidate(self, stream: str) -> None:
        """Diffs are missing in the recording: the book is unknown until another snapshot stands in it."""
        book = self._books[symbol_of(stream)]
        if book.state is State.SYNCED:
            book.invalidate()
            self._flowing.discard(symbol_of(stream))

    def wanted(self) -> list[str]:
        """Symbols whose book needs a snapshot, or is to be audited; a snapshot from before the first diff would be of no use."""
        return [
            symbol
            for symbol, book in self._books.items()
            if symbol in self._audits or (book.needs_snapshot and symbol in self._flowing)
        ]

    def begin_audits(self) -> None:
        """Ask for a snapshot of each book that is synced."""
        for symbol, book in self._books.items():
            if book.state is not State.SYNCED:
                continue
            try:
                book.start_audit()
                self._audits.add(symbol)
            except MalformedDataError as error:
                self._on_malformed(symbol, str(error))

    def is_audit(self, symbol: str) -> bool:
        """Whether the snapshot that is wanted is for an audit."""
        return symbol in self._audits

    def snapshot(self, symbol: str, body: bytes) -> bool:
        """Take a snapshot; what an audit finds comes with `found`.

        Returns:
            Whether it is of use; one that precedes what is buffered is not, and another one is wanted.

        Raises:
            MalformedDataError: The answer is no snapshot.
        """
        with guard_parser(symbol, "is no depth snapshot"):
            snapshot = decode_snapshot(body)
        book = self._books[symbol]
        if symbol in self._audits and book.is_auditing:
            return self._audit(symbol, snapshot)
        self._audits.discard(symbol)
        return book.process_snapshot(snapshot) is not Step.TOO_OLD

    def found(self) -> list[dict[str, Any]]:
        """What audits found since this was last asked."""
        found, self._found = self._found, []
        return found

    def states(self) -> dict[str, str]:
        """State of each book."""
        return {symbol: str(book.state) for symbol, book in self._books.items()}

    def _audit(self, symbol: str, snapshot: DepthSnapshot) -> bool:
        try:
            audit = self._books[symbol].audit(snapshot)
        except MalformedDataError:
            self._audits.discard(symbol)
            return False
        if audit.outcome is AuditOutcome.AHEAD:
            # The snapshot is ahead of the diffs; they are on their way.
            self._ahead[symbol] = snapshot
            self._audits.discard(symbol)
        elif audit.outcome is not AuditOutcome.TOO_OLD:
            self._audits.discard(symbol)
            self._found.append({"symbol": symbol, "clean": audit.is_clean, **audit.to_dict()})
        return audit.outcome is not AuditOutcome.TOO_OLD

    def _compare_again(self, symbol: str) -> None:
        snapshot = self._ahead.get(symbol)
        if snapshot is None or self._books[symbol].last_id < snapshot.last_id:
            return
        del self._ahead[symbol]
        self._audit(symbol, snapshot)
