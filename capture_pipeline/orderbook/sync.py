"""The exchange's procedure for a local book, as a core without I/O: diffs and snapshots go in, a state and a wish come out.

    WAITING ── a snapshot that a diff bridges ──> SYNCED ── ids are missing ──> INVALID
       (diffs are buffered)                          ^                             │
                                                     └──── a snapshot that bridges ┘

Spot: diffs with `u <= lastUpdateId` are dropped, and the first one kept has `U <= lastUpdateId + 1`. Futures send the predecessor's last
id as `pu`: a diff continues where `pu` is what was reached, which includes the documented `U <= lastUpdateId <= u`. Overlapping ranges
are applied, for quantities are absolute. Source: "How to manage a local order book correctly" of the exchange's documentation.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Generic

from capture_pipeline.binance.streams.messages import DepthSnapshot
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.audit import Audit, AuditLog, AuditOutcome, B
from capture_pipeline.orderbook.diffs import Diff

MOST_BUFFERED = 1_000
"""Diffs kept while no snapshot comes, a hundred seconds; then the oldest are dropped, and an older snapshot is too old."""
MOST_LOGGED = 1_000
"""Diffs kept while an audit is wanted; beyond them it has to be wanted anew."""


class State(StrEnum):
    """Whether the book can be relied on."""

    WAITING = "waiting"
    SYNCED = "synced"
    INVALID = "invalid"


class Step(StrEnum):
    """What became of one diff or snapshot."""

    APPLIED = "applied"
    BUFFERED = "buffered"
    DROPPED = "dropped"
    """It says nothing new."""
    GAP = "gap"
    """Ids are missing before it."""
    BRIDGED = "bridged"
    """With it the book became synced."""
    HELD = "held"
    """The snapshot is taken; the first diff after it decides."""
    TOO_OLD = "too old"
    """The snapshot precedes what is buffered: fetch again."""


class BookSync(Generic[B]):
    """One symbol's book.

    Attributes:
        book: The levels; to be relied on while `state` is SYNCED.
        state: See `State`.
        last_id: The update id at which the book stands; -1 before any snapshot.
    """

    __slots__ = ("_buffer", "_holds", "_log", "book", "last_id", "state")

    def __init__(self, book: B) -> None:
        """Start with an empty book, of either kind."""
        self.book: B = book
        self.state = State.WAITING
        self.last_id = -1
        self._buffer: deque[Diff] = deque(maxlen=MOST_BUFFERED)
        self._holds = False
        self._log: AuditLog[B] | None = None

    @property
    def snapshot_wanted(self) -> bool:
        """Whether a snapshot has to be fetched before the book can go on."""
        return self.state is not State.SYNCED and not self._holds

    @property
    def audit_wanted(self) -> bool:
        """Whether an audit is under way."""
        return self._log is not None

    def diff(self, diff: Diff) -> Step:
        """Take the next diff of the stream.

        Raises:
            MalformedDataError: It holds what is no decimal; the book is INVALID from then on.
        """
        if self.state is State.SYNCED or self._holds:
            if diff.last_id <= self.last_id:
                return Step.DROPPED
            if not _follows(diff, self.last_id):
                self._lose(diff)
                return Step.GAP
            self._apply(diff)
            if self.state is State.SYNCED:
                return Step.APPLIED
            self.state, self._holds = State.SYNCED, False
            return Step.BRIDGED
        return self._buffered(diff)

    def snapshot(self, snapshot: DepthSnapshot) -> Step:
        """Take a snapshot to sync with; a synced book has no use for one (see `audit`).

        Raises:
            MalformedDataError: It, or a buffered diff, holds what is no decimal; the book waits for another one.
        """
        if self.state is State.SYNCED or (self._holds and snapshot.last_id <= self.last_id):
            return Step.DROPPED
        kept = [diff for diff in self._buffer if diff.last_id > snapshot.last_id]
        if kept and not _follows(kept[0], snapshot.last_id):
            return Step.TOO_OLD
        self.book.clear()
        self.book.load(snapshot.bids, snapshot.asks)
        self.last_id = snapshot.last_id
        self._buffer.clear()
        for diff in kept:
            self._apply(diff)
        self.state, self._holds = (State.SYNCED, False) if kept else (self.state, True)
        return Step.BRIDGED if kept else Step.HELD

    def invalidate(self) -> None:
        """Diffs are missing that this book has seen, in a recording of it for instance: it wants another snapshot."""
        self._lose(None)

    def want_audit(self) -> None:
        """Begin an audit: from now on the book can be told as it was at any id. Call it before the snapshot is asked for.

        Raises:
            MalformedDataError: A diff that was taken holds what is no decimal; the book is INVALID from then on.
        """
        if self.state is State.SYNCED and self._log is None:
            try:
                self._log = AuditLog(self.book.copy(), self.last_id)
            except MalformedDataError:
                self._lose(None)
                raise

    def audit(self, snapshot: DepthSnapshot) -> Audit:
        """Hold the book, as it was at the snapshot's id, against it; then the snapshot becomes the base and the audit ends.

        Where the outcome is AHEAD the audit goes on: call again with the same snapshot after further diffs.

        Raises:
            MalformedDataError: The snapshot holds what is no decimal; the audit ends and the book stays as it is.
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
        self.book = log.adopted(snapshot)
        return result

    def _apply(self, diff: Diff) -> None:
        try:
            self.book.apply(diff)
        except MalformedDataError:
            self._lose(None)
            raise
        self.last_id = diff.last_id
        if self._log is not None:
            self._log.diffs.append(diff)
            if len(self._log.diffs) > MOST_LOGGED:
                self._log = None

    def _buffered(self, diff: Diff) -> Step:
        if self._buffer:
            if diff.last_id <= self._buffer[-1].last_id:
                return Step.DROPPED
            if not _follows(diff, self._buffer[-1].last_id):
                self._lose(diff)
                return Step.GAP
        self._buffer.append(diff)
        return Step.BUFFERED

    def _lose(self, first: Diff | None) -> None:
        """Ids are missing: nothing before them is of use, neither the book nor what was buffered."""
        self.state = State.WAITING if self.state is State.WAITING else State.INVALID
        self._holds, self._log = False, None
        self._buffer.clear()
        if first is not None:
            self._buffer.append(first)


def _follows(diff: Diff, last_id: int) -> bool:
    """Whether no id is missing between `last_id` and the diff."""
    return diff.first_id <= last_id + 1 if diff.previous_id is None else diff.previous_id <= last_id
