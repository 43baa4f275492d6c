"""Replay of the order book of one symbol from the messages of a source.

    WAITING ── snapshot, bridged ──> SYNCED ── ids are missing ──> INVALID ── the next snapshot, bridged ──>
    SYNCED

Nothing is interpolated: after a gap there is no book until a snapshot that the diffs continue.

The book is known at a time if it was valid after the last message up to that time (`State.SYNCED`), and
either that time is the capture time of the last applied diff (`reached_ns`) or the next diff continues the
book (`holes.find_next_diff`). Between the last diff before missing ids and the first diff after them the
state is still SYNCED, but the book is not known: its changes are among the missing messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

import numpy as np

from capture_pipeline.replay.compiled.book import TickBook
from capture_pipeline.replay.continuity import GAP, STALE, find_chain_end, update_checksum
from capture_pipeline.replay.discontinuities import Discontinuity, Relation
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

_MAX_PENDING = 5_000
"""Diffs that are kept until a snapshot arrives."""
_MAX_DISCONTINUITIES = 1_000
SEED = np.uint64(0xCBF29CE484222325)


class State(StrEnum):
    """State of the book; its levels are valid only if it is `SYNCED`."""

    WAITING = "waiting"
    SYNCED = "synced"
    INVALID = "invalid"


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
        state: See `State`.
        last_id: Last update id in the book; -1 before any snapshot.
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
        self.state, self.last_id, self.capture_ns, self.position = State.WAITING, -1, 0, -1
        self.reached_ns: int | None = None
        self.first_valid_ns: int | None = None
        self.discontinuity: Discontinuity | None = None
        self.counts = Counts()
        self._on_applied = on_applied
        self._is_loaded, self._loaded_ns = False, 0
        self._unresolved: list[Discontinuity] = []
        self._pending: list[Messages] = []

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
            elif self.state is State.SYNCED or self._is_loaded:
                at = self._process_diffs(messages, at, end)
            else:
                at = self._keep_diffs(messages, at, end)
        if end:
            self.capture_ns = max(self.capture_ns, int(messages.rows[CAPTURE, end - 1]))
            self.position = int(messages.rows[POSITION, end - 1])
            self.counts.messages += end

    def seed(
        self,
        bids: tuple[Ints, Ints],
        asks: tuple[Ints, Ints],
        last_id: int,
        scale: Scale,
        reached_ns: int | None = None,
    ) -> None:
        """Start with a known book, for example from a checkpoint.

        Args:
            bids: Ticks and lots.
            asks: Ticks and lots.
            last_id: Update id of the book.
            scale: Value of a tick and a lot.
            reached_ns: Capture time of the diff that ended with `last_id`. With None the book counts as known
                only once the next diff continues it.
        """
        self.book.load(bids, asks)
        self.scale, self.last_id, self.state, self._is_loaded = scale, last_id, State.SYNCED, False
        self.reached_ns = self.first_valid_ns = reached_ns

    def is_known(self, at_ns: int, relation: Relation) -> bool:
        """Return True if the book is known at a time. All messages up to that time must be processed.

        Args:
            at_ns: The time, by the recorder's clock.
            relation: Relation of the next diff to the book.
        """
        if self.state is not State.SYNCED:
            return False
        return relation is Relation.CONTINUES or (self.reached_ns is not None and at_ns <= self.reached_ns)

    def best(self) -> tuple[Decimal, Decimal, Decimal, Decimal] | None:
        """Return best bid, its quantity, best ask, its quantity; None without a valid book or side."""
        best = self.book.best()
        if self.state is not State.SYNCED or best is None or self.scale is None:
            return None
        price, quantity = self.scale.price, self.scale.quantity
        return price(best[0]), quantity(best[1]), price(best[2]), quantity(best[3])

    def _process_diffs(self, messages: Messages, at: int, end: int) -> int:
        """Apply the diffs that continue the book. Returns the number of the next message to process."""
        stop, why = find_chain_end(messages.rows, at, end, self.last_id)
        if stop > at:
            self._apply(messages, at, stop)
        if why == STALE:
            self.counts.stale_diffs += 1
            return int(stop) + 1
        if why == GAP:
            self._record_gap(messages, stop)
        return int(stop)

    def _apply(self, messages: Messages, first: int, end: int) -> None:
        bests = self.book.apply(messages.batch, first, end)
        bounds = messages.batch.bounds
        self.counts.events += int((bounds[2, first:end] - bounds[0, first:end]).sum())
        self.counts.checksum = int(update_checksum(bests, first, end, np.uint64(self.counts.checksum)))
        self.last_id = int(messages.rows[LAST, end - 1])
        if self.state is not State.SYNCED:
            self._mark_valid(max(self._loaded_ns, int(messages.rows[CAPTURE, first])))
        self.state, self._is_loaded = State.SYNCED, False
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
        rows = messages.rows[:, at]
        first_good = int(rows[FIRST] if rows[PREVIOUS] < 0 else rows[PREVIOUS] + 1)
        self.counts.gaps += 1
        lost = Discontinuity(self.last_id, first_good, int(rows[CAPTURE]), self.reached_ns)
        self.discontinuity = self.discontinuity if self._unresolved else lost
        self._unresolved.append(lost)
        if len(self.counts.discontinuities) < _MAX_DISCONTINUITIES:
            self.counts.discontinuities.append(lost)
        self.state, self._is_loaded = State.WAITING if self.state is State.WAITING else State.INVALID, False
        self._pending.clear()

    def _keep_diffs(self, messages: Messages, at: int, end: int) -> int:
        """Keep diffs for a later snapshot. A gap among them discards the diffs before it."""
        last = int(self._pending[-1].rows[LAST, -1]) if self._pending else int(messages.rows[FIRST, at]) - 1
        last = last if self._pending or messages.rows[PREVIOUS, at] < 0 else int(messages.rows[PREVIOUS, at])
        stop, why = find_chain_end(messages.rows, at, end, last)
        if stop > at:
            self._pending.append(copy_slice(messages, at, stop))
            self.counts.unsynced_diffs += int(stop) - at
        while sum(map(len, self._pending)) > _MAX_PENDING and len(self._pending) > 1:
            del self._pending[0]
        if why == STALE:
            self.counts.stale_diffs += 1
            return int(stop) + 1
        if why == GAP:
            self._pending.clear()
        return int(stop)

    def _process_snapshot(self, messages: Messages, at: int) -> None:
        snapshot_id = int(messages.rows[LAST, at])
        if self.state is State.SYNCED or (self._is_loaded and snapshot_id <= self.last_id):
            self.counts.unused_snapshots += 1
            return
        waiting = [part for part in self._pending if int(part.rows[LAST, -1]) > snapshot_id]
        if waiting and not _bridges(waiting[0], snapshot_id):
            self.counts.too_old += 1
            return
        start, middle, end = (int(bound) for bound in messages.batch.bounds[:, at])
        prices, lots = messages.batch.prices, messages.batch.lots
        self.book.load((prices[start:middle], lots[start:middle]), (prices[middle:end], lots[middle:end]))
        self.last_id, self._is_loaded, self._pending = snapshot_id, True, []
        self._loaded_ns = int(messages.rows[CAPTURE, at])
        self.counts.snapshots += 1
        for part in waiting:
            at = 0
            while at < len(part):
                at = self._process_diffs(part, at, len(part))
        self.counts.unsynced_diffs -= sum(map(len, waiting))

    def _in_common_scale(self, messages: Messages) -> Messages:
        """Convert the book, the kept diffs and the messages to one scale that fits all of them."""
        if self.scale is None:
            return messages
        scale = common_scale(self.scale, messages.scale)
        if scale != self.scale:
            by_tick, by_lot = int(self.scale.tick / scale.tick), int(self.scale.lot / scale.lot)
            bids, asks = ((prices * by_tick, lots * by_lot) for prices, lots in self.book.top())
            self.book.load(bids, asks)
            self._pending = [to_scale(waiting, scale) for waiting in self._pending]
            self.scale = scale
        return to_scale(messages, scale)


def _bridges(part: Messages, snapshot_id: int) -> bool:
    """Return True if diffs that arrived before a snapshot continue it."""
    rows = part.rows[:, int(np.argmax(part.rows[LAST] > snapshot_id))]
    return bool(rows[FIRST] <= snapshot_id + 1) if rows[PREVIOUS] < 0 else bool(rows[PREVIOUS] <= snapshot_id)
