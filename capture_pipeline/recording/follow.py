"""The books of a session, followed live by the exchange's procedure, so that what is recorded is known to be usable.

Says which snapshots are wanted and what an audit found; fetches nothing itself.
"""

from __future__ import annotations

from typing import Any

import msgspec

from capture_pipeline.binance.messages import DepthSnapshot, decode_depth, decode_snapshot
from capture_pipeline.binance.streams import symbol_of
from capture_pipeline.book.audit import AuditOutcome
from capture_pipeline.book.sync import BookSync, State, Step
from capture_pipeline.errors import MalformedData


class Follower:
    """One book a symbol."""

    def __init__(self, symbols: list[str]) -> None:
        """Start with no snapshot of any; symbols are in capitals."""
        self._books = {symbol: BookSync() for symbol in symbols}
        self._flowing: set[str] = set()
        self._audits: set[str] = set()
        self._ahead: dict[str, DepthSnapshot] = {}
        self._found: list[dict[str, Any]] = []

    def diff(self, stream: str, data: bytes | memoryview) -> bool:
        """Apply a diff that is being recorded.

        Returns:
            False for one that has ids and holds something that is no diff: it is recorded all the same, and the book waits for a snapshot.
        """
        symbol = symbol_of(stream)
        self._flowing.add(symbol)
        try:
            self._books[symbol].diff(decode_depth(data))
        except (msgspec.DecodeError, MalformedData):
            self._books[symbol].invalidate()
            return False
        if self._ahead:
            self._compare_again(symbol)
        return True

    def invalidate(self, stream: str) -> None:
        """Diffs are missing in the recording: the book is unknown until another snapshot stands in it."""
        book = self._books[symbol_of(stream)]
        if book.state is State.SYNCED:
            book.invalidate()
            self._flowing.discard(symbol_of(stream))

    def wanted(self) -> list[str]:
        """Symbols whose book needs a snapshot, or is to be audited; a snapshot from before the first diff would be of no use."""
        return [
            symbol for symbol, book in self._books.items() if symbol in self._audits or (book.snapshot_wanted and symbol in self._flowing)
        ]

    def begin_audits(self) -> None:
        """Ask for a snapshot of each book that is synced."""
        for symbol, book in self._books.items():
            if book.state is State.SYNCED:
                book.want_audit()
                self._audits.add(symbol)

    def is_audit(self, symbol: str) -> bool:
        """Whether the snapshot that is wanted is for an audit."""
        return symbol in self._audits

    def snapshot(self, symbol: str, body: bytes) -> bool:
        """Take a snapshot; what an audit finds comes with `found`.

        Returns:
            Whether it is of use; one that precedes what is buffered is not, and another one is wanted.

        Raises:
            MalformedData: The answer is no snapshot.
        """
        try:
            snapshot = decode_snapshot(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MalformedData(f"is no depth snapshot: {error}", where=symbol) from None
        book = self._books[symbol]
        if symbol in self._audits and book.audit_wanted:
            return self._audit(symbol, snapshot)
        self._audits.discard(symbol)
        return book.snapshot(snapshot) is not Step.TOO_OLD

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
        except MalformedData:
            self._audits.discard(symbol)
            return False
        if audit.outcome is AuditOutcome.AHEAD:
            # The snapshot is ahead of the diffs; they are on their way.
            self._ahead[symbol] = snapshot
            self._audits.discard(symbol)
        elif audit.outcome is not AuditOutcome.TOO_OLD:
            self._audits.discard(symbol)
            self._found.append({"symbol": symbol, "clean": audit.clean, **audit.to_dict()})
        return audit.outcome is not AuditOutcome.TOO_OLD

    def _compare_again(self, symbol: str) -> None:
        snapshot = self._ahead.get(symbol)
        if snapshot is None or self._books[symbol].last_id < snapshot.last_id:
            return
        del self._ahead[symbol]
        self._audit(symbol, snapshot)
