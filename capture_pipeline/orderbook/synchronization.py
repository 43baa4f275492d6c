"""Local order-book synchronisation with snapshots and depth diffs, without I/O.

    WAITING ── a snapshot that a diff bridges ──> SYNCED ── ids are missing ──> INVALID
       (diffs are buffered)                          ^                             │
                                                     └──── a snapshot that bridges ┘

Spot: diffs with `u <= lastUpdateId` are dropped, and the first remaining diff must have
`U <= lastUpdateId + 1`. Futures send the last id of the previous diff as `pu`: a diff continues the book if
`pu` is not above the book's id. The documented condition `U <= lastUpdateId <= u` is a case of this. Diffs
whose ids overlap are applied, because their quantities are absolute.
Source: "How to manage a local order book correctly" in the documentation of the exchange.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Generic

from capture_pipeline.binance.streams.messages import DepthSnapshot
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.audit import Audit, AuditLog, AuditOutcome, B
from capture_pipeline.orderbook.diffs import Diff

MAX_BUFFERED = 1_000
"""Diffs that are kept until a snapshot arrives (100 seconds of a stream); the oldest are dropped first."""
MAX_LOGGED = 1_000
"""Diffs that are kept for an audit; with one more the audit ends without a result."""


class State(StrEnum):
    """State of a book; its levels are valid only if it is `SYNCED`."""

    WAITING = "waiting"
    """No snapshot that the diffs continue was loaded yet."""
    SYNCED = "synced"
    INVALID = "invalid"
    """Diffs are missing since the book was synced."""


class Step(StrEnum):
    """Result of processing one diff or snapshot."""

    APPLIED = "applied"
    BUFFERED = "buffered"
    DROPPED = "dropped"
    """It contains no new update id, or the book does not need the snapshot."""
    GAP = "gap"
    """Ids are missing before the diff."""
    BRIDGED = "bridged"
    """The book became synced."""
    LOADED = "loaded"
    """The snapshot is loaded; the book is synced if the next diff continues it."""
    TOO_OLD = "too old"
    """Ids are missing between the snapshot and the buffered diffs: fetch another snapshot."""


class BookSync(Generic[B]):
    """Synchronisation of the book of one symbol.

    Attributes:
        book: The levels; valid only if `state` is SYNCED.
        state: See `State`.
        last_id: Last update id in the book; -1 before any snapshot.
    """

    __slots__ = ("_buffer", "_is_loaded", "_log", "book", "last_id", "state")

    def __init__(self, book: B) -> None:
        """Start with an empty book."""
        self.book: B = book
        self.state = State.WAITING
        self.last_id = -1
        self._buffer: deque[Diff] = deque(maxlen=MAX_BUFFERED)
        self._is_loaded = False
        self._log: AuditLog[B] | None = None

    @property
    def needs_snapshot(self) -> bool:
        """True if the book can only become synced with another snapshot."""
        return self.state is not State.SYNCED and not self._is_loaded

    @property
    def is_auditing(self) -> bool:
        """True between `start_audit` and the end of the audit."""
        return self._log is not None

    def process_diff(self, diff: Diff) -> Step:
        """Process the next diff of the stream.

        Raises:
            MalformedDataError: A price or a quantity is not a decimal. The book is not synced afterwards.
        """
        if self.state is State.SYNCED or self._is_loaded:
            if diff.last_id <= self.last_id:
                return Step.DROPPED
            if not _is_continuous(diff, self.last_id):
                self._reset(diff)
                return Step.GAP
            self._apply(diff)
            if self.state is State.SYNCED:
                return Step.APPLIED
            self.state, self._is_loaded = State.SYNCED, False
            return Step.BRIDGED
        return self._buffer_diff(diff)

    def process_snapshot(self, snapshot: DepthSnapshot) -> Step:
        """Process a snapshot to synchronise the book. A synced book ignores it (see `audit`).

        Raises:
            MalformedDataError: The snapshot or a buffered diff contains a price or a quantity that is not a
                decimal. The book needs another snapshot.
        """
        if self.state is State.SYNCED or (self._is_loaded and snapshot.last_id <= self.last_id):
            return Step.DROPPED
        kept = [diff for diff in self._buffer if diff.last_id > snapshot.last_id]
        if kept and not _is_continuous(kept[0], snapshot.last_id):
            return Step.TOO_OLD
        self.book.clear()
        self.book.load(snapshot.bids, snapshot.asks)
        self.last_id = snapshot.last_id
        self._buffer.clear()
        for diff in kept:
            self._apply(diff)
        self.state, self._is_loaded = (State.SYNCED, False) if kept else (self.state, True)
        return Step.BRIDGED if kept else Step.LOADED

    def invalidate(self) -> None:
        """Reset the book, so that it needs another snapshot.

        A recording calls this for a gap: diffs that the book applied may be missing in the recording.
        """
        self._reset(None)

    def start_audit(self) -> None:
        """Start an audit: copy the book and keep all further diffs. Call this before requesting the snapshot.

        Raises:
            MalformedDataError: A pending diff contains a price or a quantity that is not a decimal. The book
                is INVALID afterwards.
        """
        if self.state is State.SYNCED and self._log is None:
            try:
                self._log = AuditLog(self.book.copy(), self.last_id)
            except MalformedDataError:
                self._reset(None)
                raise

    def audit(self, snapshot: DepthSnapshot) -> Audit:
        """Compare the book as it was at the snapshot's id with the snapshot, and end the audit.

        After the comparison the book consists of the snapshot and the later diffs. If the outcome is AHEAD,
        the audit continues: call again with the same snapshot after further diffs.

        Raises:
            MalformedDataError: A price or a quantity of the snapshot is not a decimal. The audit ends and the
                book does not change.
        """
        log = self._log
        if log is None or self.state is not State.SYNCED:
            return Audit(AuditOutcome.NOT_READY, snapshot.last_id)
        if snapshot.last_id < log.base_id:
            return Audit(AuditOutcome.TOO_OLD, snapshot.last_id)
        if snapshot.last_id > self.last_id:
            return Audit(AuditOutcome.AHEAD, snapshot.last_id)
        self._log = None
        result = log.compare(snapshot)
        self.book = log.rebase(snapshot)
        return result

    def _apply(self, diff: Diff) -> None:
        try:
            self.book.apply(diff)
        except MalformedDataError:
            self._reset(None)
            raise
        self.last_id = diff.last_id
        if self._log is not None:
            self._log.diffs.append(diff)
            if len(self._log.diffs) > MAX_LOGGED:
                self._log = None

    def _buffer_diff(self, diff: Diff) -> Step:
        if self._buffer:
            if diff.last_id <= self._buffer[-1].last_id:
                return Step.DROPPED
            if not _is_continuous(diff, self._buffer[-1].last_id):
                self._reset(diff)
                return Step.GAP
        self._buffer.append(diff)
        return Step.BUFFERED

    def _reset(self, first: Diff | None) -> None:
        """Discard book and buffer because ids are missing; `first` is the first diff after them."""
        self.state = State.WAITING if self.state is State.WAITING else State.INVALID
        self._is_loaded, self._log = False, None
        self._buffer.clear()
        if first is not None:
            self._buffer.append(first)


def _is_continuous(diff: Diff, last_id: int) -> bool:
    """Return True if no id is missing between `last_id` and the diff."""
    return diff.first_id <= last_id + 1 if diff.previous_id is None else diff.previous_id <= last_id
