"""Local order book of one symbol: its levels, their synchronisation, and audits. No input or output."""

from __future__ import annotations

from capture_pipeline.binance.streams.messages import DepthSnapshot
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.audit import Audit, AuditLog, AuditOutcome
from capture_pipeline.orderbook.book import Book
from capture_pipeline.orderbook.diffs import Diff
from capture_pipeline.orderbook.synchronization import State, Step, Synchronization

MAX_BUFFERED = 1_000
"""Diffs that are kept until a snapshot arrives: 100 seconds of a stream."""
MAX_LOGGED = 1_000
"""Diffs that are kept for an audit; with one more the audit ends without a result."""


class LocalBook(Synchronization[Diff]):
    """Synchronised book of one symbol.

    Attributes:
        book: The levels; valid only if `state` is SYNCED.
    """

    __slots__ = ("_log", "book")

    def __init__(self, book: Book | None = None) -> None:
        """Start with an empty book; the default applies each diff at once."""
        super().__init__(MAX_BUFFERED)
        self.book = book or Book()
        self._log: AuditLog | None = None

    @property
    def is_auditing(self) -> bool:
        """True between `start_audit` and the end of the audit."""
        return self._log is not None

    def process_diff(self, diff: Diff) -> Step:
        """Process the next diff of the stream.

        Raises:
            MalformedDataError: A price or a quantity is not a decimal. The book is not synced afterwards.
        """
        step = self.accept_diff(diff)
        if step is Step.APPLIED or step is Step.BRIDGED:
            self._apply(diff)
        return step

    def process_snapshot(self, snapshot: DepthSnapshot) -> Step:
        """Process a snapshot to synchronise the book. A synced book ignores it (see `audit`).

        Raises:
            MalformedDataError: The snapshot or a buffered diff contains a price or a quantity that is not a
                decimal. The book needs another snapshot.
        """
        step, kept = self.judge_snapshot(snapshot.last_id)
        if step is Step.LOADED or step is Step.BRIDGED:
            self.book.load(snapshot.bids, snapshot.asks)
            for diff in kept:
                self._apply(diff)
            self.start_from(snapshot.last_id, kept)
        return step

    def invalidate(self) -> None:
        """Discard the book, so that it needs another snapshot.

        A recording calls this for a gap: diffs that the book applied may be missing in the recording.
        """
        super().invalidate()
        self._log = None

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
                self.invalidate()
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
            self.invalidate()
            raise
        if self._log is not None:
            self._log.diffs.append(diff)
            if len(self._log.diffs) > MAX_LOGGED:
                self._log = None
