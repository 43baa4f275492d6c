"""Replay of the order book of one symbol from the messages of a source.

`orderbook.synchronization` decides which diffs are applied. The replay passes it runs of diffs instead of
single ones: a kernel finds diffs that continue one another, and the whole run is applied by compiled code.
Nothing is interpolated: after a gap there is no book until a snapshot that the diffs continue.

The book is known at a time if it was valid after the last message up to that time (`State.SYNCED`), and
either that time is the capture time of the last applied diff (`reached_ns`) or the next diff continues the
book (`discontinuities.find_next_diff`). Between the last diff before missing ids and the first diff after
them the state is still SYNCED, but the book is not known: its changes are among the missing messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from capture_pipeline.orderbook.compiled.book import LevelArrays, TickBook
from capture_pipeline.orderbook.levels import BestQuotes
from capture_pipeline.orderbook.synchronization import (
    Relation,
    State,
    Step,
    Synchronization,
    first_covered_id,
)
from capture_pipeline.replay.continuity import find_new_diff, find_run_end, update_checksum
from capture_pipeline.replay.discontinuities import Discontinuity
from capture_pipeline.replay.messages import (
    CAPTURE,
    FIRST,
    KIND,
    LAST,
    POSITION,
    PREVIOUS,
    SNAPSHOT,
    Ints,
    Messages,
    Scale,
    common_scale,
    copy_slice,
    to_scale,
)

_MAX_BUFFERED = 5_000
"""Diffs that are kept until a snapshot arrives."""
_MAX_DISCONTINUITIES = 1_000
SEED = np.uint64(0xCBF29CE484222325)


@dataclass
class Run:
    """Diffs of a piece without missing ids between them, or diffs without new ids.

    Attributes:
        messages: The piece.
        first: Number of the first diff.
        end: Number of the message after the last diff.
    """

    messages: Messages
    first: int
    end: int

    @property
    def first_id(self) -> int:
        """First update id of the first diff."""
        return int(self.messages.rows[FIRST, self.first])

    @property
    def last_id(self) -> int:
        """Last update id of the last diff."""
        return int(self.messages.rows[LAST, self.end - 1])

    @property
    def previous_id(self) -> int | None:
        """Last update id before the first diff; -1 if it is not sent."""
        return int(self.messages.rows[PREVIOUS, self.first])

    def __len__(self) -> int:
        """Return the number of diffs."""
        return self.end - self.first

    def keep(self) -> None:
        """Copy the diffs, so that they stay valid when the source continues."""
        self.messages = copy_slice(self.messages, self.first, self.end)
        self.first, self.end = 0, len(self)


@dataclass
class Counts:
    """Counts of a replay.

    Attributes:
        messages: Diffs and snapshots processed.
        events: Level updates applied.
        stale_diffs: Diffs without new update ids.
        unsynced_diffs: Diffs that were not applied because there was no valid book.
        snapshots: Snapshots loaded to synchronise the book.
        unused_snapshots: Snapshots that arrived while the book was synced.
        too_old: Snapshots that the kept diffs do not continue.
        discontinuities: The first thousand places where ids are missing.
        gaps: Number of places where ids are missing.
        checksum: Checksum of the best prices after every message, to compare replays.
    """

    messages: int = 0
    events: int = 0
    stale_diffs: int = 0
    unsynced_diffs: int = 0
    snapshots: int = 0
    unused_snapshots: int = 0
    too_old: int = 0
    discontinuities: list[Discontinuity] = field(default_factory=list)
    gaps: int = 0
    checksum: int = int(SEED)


OnApplied = Callable[[Messages, int, int, Ints], None]
"""Receives applied messages `first..end`, and the best prices after each of them (see `TickBook.apply`)."""


class Replay:
    """Replay of the book of one symbol.

    Attributes:
        book: The levels; valid only if `state` is SYNCED.
        scale: Value of a tick and a lot of the book; None before the first levels.
        capture_ns: Highest capture time of the processed messages.
        reached_ns: Capture time of the last applied diff; None before the first one.
        first_valid_ns: Capture time of the message after which a book was valid for the first time; None
            before.
        discontinuity: First missing ids of the latest period without a book; None if no ids were missing.
        position: Position of the last message in the source.
        counts: Counts so far.
    """

    def __init__(self, on_applied: Sequence[OnApplied] = ()) -> None:
        """Start without a book.

        Args:
            on_applied: Called with each batch of messages that was applied.
        """
        self.book = TickBook()
        self.scale: Scale | None = None
        self.capture_ns, self.position = 0, -1
        self.reached_ns: int | None = None
        self.first_valid_ns: int | None = None
        self.discontinuity: Discontinuity | None = None
        self.counts = Counts()
        self._on_applied = on_applied
        self._sync = Synchronization[Run](_MAX_BUFFERED, count_diffs=len)
        self._loaded_ns = 0
        self._unresolved: list[Discontinuity] = []

    @property
    def state(self) -> State:
        """See `State`."""
        return self._sync.state

    @property
    def last_id(self) -> int:
        """Last update id in the book; -1 before the first snapshot."""
        return self._sync.last_id

    def process(self, messages: Messages, end: int | None = None) -> None:
        """Process the first `end` messages, or all of them.

        Raises:
            MalformedDataError: A price exceeds 2**61 ticks, or a side exceeds 4 million levels.
        """
        if messages.level_count:
            self.scale = self.scale or messages.scale
            if messages.scale != self.scale:
                messages = self._in_common_scale(messages)
        at, end = 0, len(messages) if end is None else end
        while at < end:
            if messages.rows[KIND, at] == SNAPSHOT:
                self._process_snapshot(messages, at)
                at += 1
            else:
                at = self._process_diffs(messages, at, end)
        if end:
            self.capture_ns = max(self.capture_ns, int(messages.rows[CAPTURE, end - 1]))
            self.position = int(messages.rows[POSITION, end - 1])
            self.counts.messages += end

    def seed(
        self,
        bids: LevelArrays,
        asks: LevelArrays,
        last_id: int,
        scale: Scale,
        reached_ns: int | None = None,
    ) -> None:
        """Start with a known book, for example from a checkpoint.

        Args:
            bids: All bids.
            asks: All asks.
            last_id: Update id of the book.
            scale: Value of a tick and a lot.
            reached_ns: Capture time of the diff that ended with `last_id`. With None the book counts as known
                only once the next diff continues it.
        """
        self.book.load(bids, asks)
        self._sync.resume(last_id)
        self.scale = scale
        self.reached_ns = self.first_valid_ns = reached_ns

    def is_known(self, at_ns: int, relation: Relation | None) -> bool:
        """Return True if the book is known at a time. All messages up to that time must be processed.

        Args:
            at_ns: The time, by the recorder's clock.
            relation: Relation of the next diff to the book; None if there is no further diff.
        """
        if self.state is not State.SYNCED:
            return False
        return relation is Relation.CONTINUES or (self.reached_ns is not None and at_ns <= self.reached_ns)

    def best(self) -> BestQuotes[Decimal] | None:
        """Return the best prices and quantities; None without a valid book or side."""
        best = self.book.best()
        if self.state is not State.SYNCED or best is None or self.scale is None:
            return None
        price, quantity = self.scale.price, self.scale.quantity
        return BestQuotes(
            price(best.bid), quantity(best.bid_quantity), price(best.ask), quantity(best.ask_quantity)
        )

    def _process_diffs(self, messages: Messages, at: int, end: int) -> int:
        """Process the run of diffs that begins at `at`. Returns the number of the next message."""
        sync = self._sync
        run = Run(messages, at, int(find_run_end(messages.rows, at, end, sync.reached_id)))
        was_buffering, stop = sync.needs_snapshot, run.end
        step = sync.accept_diff(run)
        if step is Step.DROPPED:
            self.counts.stale_diffs += len(run)
        elif step is Step.APPLIED or step is Step.BRIDGED:
            if step is Step.BRIDGED:
                self._mark_valid(max(self._loaded_ns, int(messages.rows[CAPTURE, at])))
            self._apply(run)
        else:
            if not was_buffering:
                self._record_gap(messages, at)
            run.keep()
            self.counts.unsynced_diffs += len(run)
        return stop

    def _apply(self, run: Run) -> None:
        messages, first, end = run.messages, run.first, run.end
        bests = self.book.apply(messages.batch, first, end)
        bounds = messages.batch.bounds
        self.counts.events += int((bounds[2, first:end] - bounds[0, first:end]).sum())
        self.counts.checksum = int(update_checksum(bests, first, end, np.uint64(self.counts.checksum)))
        self.reached_ns = max(self.reached_ns or 0, int(messages.rows[CAPTURE, end - 1]))
        for on_applied in self._on_applied:
            on_applied(messages, first, end, bests)

    def _mark_valid(self, capture_ns: int) -> None:
        """Store the time at which the book became valid, for the first time or after missing ids."""
        self.first_valid_ns = capture_ns if self.first_valid_ns is None else self.first_valid_ns
        for discontinuity in self._unresolved:
            discontinuity.valid_again_ns = capture_ns
        self._unresolved.clear()

    def _record_gap(self, messages: Messages, at: int) -> None:
        first_id, previous_id, capture_ns = (
            int(messages.rows[row, at]) for row in (FIRST, PREVIOUS, CAPTURE)
        )
        self.counts.gaps += 1
        lost = Discontinuity(
            self.last_id, first_covered_id(first_id, previous_id), capture_ns, self.reached_ns
        )
        self.discontinuity = self.discontinuity if self._unresolved else lost
        self._unresolved.append(lost)
        if len(self.counts.discontinuities) < _MAX_DISCONTINUITIES:
            self.counts.discontinuities.append(lost)

    def _process_snapshot(self, messages: Messages, at: int) -> None:
        snapshot_id = int(messages.rows[LAST, at])
        step, kept = self._sync.judge_snapshot(snapshot_id)
        if step is Step.DROPPED:
            self.counts.unused_snapshots += 1
            return
        if step is Step.TOO_OLD:
            self.counts.too_old += 1
            return
        start, middle, end = (int(bound) for bound in messages.batch.bounds[:, at])
        prices, lots = messages.batch.prices, messages.batch.lots
        self.book.load(
            LevelArrays(prices[start:middle], lots[start:middle]),
            LevelArrays(prices[middle:end], lots[middle:end]),
        )
        self._loaded_ns = int(messages.rows[CAPTURE, at])
        self.counts.snapshots += 1
        if kept:
            self._mark_valid(self._loaded_ns)
        for run in kept:
            self._apply_after(run, snapshot_id)
        self._sync.start_from(snapshot_id, kept)

    def _apply_after(self, run: Run, snapshot_id: int) -> None:
        """Apply the diffs of a buffered run that have ids after those of a snapshot."""
        messages = run.messages if self.scale is None else to_scale(run.messages, self.scale)
        new = Run(messages, int(find_new_diff(messages.rows, run.first, run.end, snapshot_id)), run.end)
        self.counts.stale_diffs += len(run) - len(new)
        self.counts.unsynced_diffs -= len(run)
        self._apply(new)

    def _in_common_scale(self, messages: Messages) -> Messages:
        """Convert the book and the messages to one scale that fits both."""
        if self.scale is None:
            return messages
        scale = common_scale(self.scale, messages.scale)
        if scale != self.scale:
            by_tick, by_lot = int(self.scale.tick / scale.tick), int(self.scale.lot / scale.lot)
            bids, asks = (LevelArrays(prices * by_tick, lots * by_lot) for prices, lots in self.book.top())
            self.book.load(bids, asks)
            self.scale = scale
        return to_scale(messages, scale)
