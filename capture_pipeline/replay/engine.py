"""One symbol's book, replayed from whatever a source hands over: seeded by a snapshot, kept while ids continue, invalid from a gap on.

    WAITING ── snapshot, bridged ──> SYNCED ── ids are missing ──> INVALID ── the next snapshot, bridged ──> SYNCED

Nothing is interpolated: after a gap there is no book until a snapshot that the diffs continue.

A book is known at a time when it was valid after the last message up to that time (`State.SYNCED`) and either that time is the capture
time of the last applied diff (`reached_ns`), or the next diff continues the book (`holes.next_diff`). Between the last diff before missing
ids and the first diff after them the state is still SYNCED, but the book is not known: its changes are among the missing messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

import numpy as np

from capture_pipeline.replay.compiled.book import TickBook
from capture_pipeline.replay.continuity import GAP, STALE, chained, folded
from capture_pipeline.replay.holes import Discontinuity, Next
from capture_pipeline.replay.messages import (
    CAPTURE,
    FIRST,
    KIND,
    LAST,
    PLACE,
    PREVIOUS,
    SNAPSHOT,
    Ints,
    Messages,
    Scale,
    common_scale,
    copy_slice,
    to_scale,
)

_MOST_WAITING = 5_000
"""Messages kept while no snapshot comes."""
_MOST_LISTED = 1_000
SEED = np.uint64(0xCBF29CE484222325)


class State(StrEnum):
    """Whether the book can be relied on."""

    WAITING = "waiting"
    SYNCED = "synced"
    INVALID = "invalid"


@dataclass
class Counts:
    """What was replayed.

    Attributes:
        messages: Diffs and snapshots taken.
        events: Level updates applied.
        stale: Diffs that said nothing new.
        unsynced: Diffs for which there was no valid book.
        snapshots: Snapshots taken to sync with.
        spare: Snapshots that came while the book was synced.
        too_old: Snapshots that no diff continued.
        discontinuities: Where ids are missing, the first thousand.
        gaps: How many such places there are.
        fold: One number for all bests, for comparison.
    """

    messages: int = 0
    events: int = 0
    stale: int = 0
    unsynced: int = 0
    snapshots: int = 0
    spare: int = 0
    too_old: int = 0
    discontinuities: list[Discontinuity] = field(default_factory=list)
    gaps: int = 0
    fold: int = int(SEED)


OnRun = Callable[[Messages, int, int, Ints], None]
"""Takes messages that were applied, `first..end`, and the bests after each of them (see `TickBook.apply`)."""


class Replay:
    """The book of one symbol as it was after each message.

    Attributes:
        book: To be relied on while `state` is SYNCED.
        scale: What its ticks and lots are worth; None before the first message.
        state: See `State`.
        last_id: Where it stands; -1 before any snapshot.
        capture_ns: Capture time of the last message; it does not go back.
        reached_ns: Capture time of the last applied diff; None before any.
        first_valid_ns: Capture time of the message after which a book was valid for the first time; None before that.
        hole: The first missing ids of the last time without a book; None before any.
        place: Place of the last message in the source.
        counts: What was replayed.
    """

    def __init__(self, on_runs: Sequence[OnRun] = ()) -> None:
        """Start without a book.

        Args:
            on_runs: Told of every run of messages that was applied.
        """
        self.book = TickBook()
        self.scale: Scale | None = None
        self.state, self.last_id, self.capture_ns, self.place = State.WAITING, -1, 0, -1
        self.reached_ns: int | None = None
        self.first_valid_ns: int | None = None
        self.hole: Discontinuity | None = None
        self.counts = Counts()
        self._on_runs = on_runs
        self._holds, self._loaded_ns = False, 0
        self._open: list[Discontinuity] = []
        self._waiting: list[Messages] = []

    def take(self, messages: Messages, end: int | None = None) -> None:
        """Take messages, up to `end` of them.

        Raises:
            MalformedDataError: A price has no rank, or the book more levels than any market.
        """
        if messages.levels:
            self.scale = self.scale or messages.scale
            if messages.scale != self.scale:
                messages = self._in_common_scale(messages)
        at, end = 0, len(messages) if end is None else end
        while at < end:
            if messages.rows[KIND, at] == SNAPSHOT:
                self._snapshot(messages, at)
                at += 1
            elif self.state is State.SYNCED or self._holds:
                at = self._diffs(messages, at, end)
            else:
                at = self._wait(messages, at, end)
        if end:
            self.capture_ns = max(self.capture_ns, int(messages.rows[CAPTURE, end - 1]))
            self.place = int(messages.rows[PLACE, end - 1])
            self.counts.messages += end

    def seed(
        self,
        bids: tuple[Ints, Ints],
        asks: tuple[Ints, Ints],
        last_id: int,
        scale: Scale,
        reached_ns: int | None = None,
    ) -> None:
        """Begin with a book that is known, of a checkpoint for instance.

        Args:
            bids: Ticks and lots.
            asks: Ticks and lots.
            last_id: Update id of the book.
            scale: What ticks and lots are worth.
            reached_ns: Capture time of the diff that ended with `last_id`; None if unknown, then only the next diff makes the book known.
        """
        self.book.load(bids, asks)
        self.scale, self.last_id, self.state, self._holds = scale, last_id, State.SYNCED, False
        self.reached_ns = self.first_valid_ns = reached_ns

    def is_known(self, at_ns: int, relation: Next) -> bool:
        """Whether the book is known at a time up to which every message was taken, given the relation of the next diff to it."""
        if self.state is not State.SYNCED:
            return False
        return relation is Next.CONTINUES or (self.reached_ns is not None and at_ns <= self.reached_ns)

    def best(self) -> tuple[Decimal, Decimal, Decimal, Decimal] | None:
        """Bid, its quantity, ask, its quantity; None where the book is not valid or a side is empty."""
        best = self.book.best()
        if self.state is not State.SYNCED or best is None or self.scale is None:
            return None
        price, quantity = self.scale.price, self.scale.quantity
        return price(best[0]), quantity(best[1]), price(best[2]), quantity(best[3])

    def _diffs(self, messages: Messages, at: int, end: int) -> int:
        """Apply as many as continue; returns the message that has to be looked at next."""
        stop, why = chained(messages.rows, at, end, self.last_id)
        if stop > at:
            self._apply(messages, at, stop)
        if why == STALE:
            self.counts.stale += 1
            return int(stop) + 1
        if why == GAP:
            self._lose(messages, stop)
        return int(stop)

    def _apply(self, messages: Messages, first: int, end: int) -> None:
        bests = self.book.apply(messages.run, first, end)
        bounds = messages.run.bounds
        self.counts.events += int((bounds[2, first:end] - bounds[0, first:end]).sum())
        self.counts.fold = int(folded(bests, first, end, np.uint64(self.counts.fold)))
        self.last_id = int(messages.rows[LAST, end - 1])
        if self.state is not State.SYNCED:
            self._validate(max(self._loaded_ns, int(messages.rows[CAPTURE, first])))
        self.state, self._holds = State.SYNCED, False
        self.reached_ns = max(self.reached_ns or 0, int(messages.rows[CAPTURE, end - 1]))
        for told in self._on_runs:
            told(messages, first, end, bests)

    def _validate(self, capture_ns: int) -> None:
        """Note when the book became valid, for the first time or after missing ids."""
        self.first_valid_ns = capture_ns if self.first_valid_ns is None else self.first_valid_ns
        for discontinuity in self._open:
            discontinuity.valid_again_ns = capture_ns
        self._open.clear()

    def _lose(self, messages: Messages, at: int) -> None:
        rows = messages.rows[:, at]
        first_good = int(rows[FIRST] if rows[PREVIOUS] < 0 else rows[PREVIOUS] + 1)
        self.counts.gaps += 1
        lost = Discontinuity(self.last_id, first_good, int(rows[CAPTURE]), self.reached_ns)
        self.hole = self.hole if self._open else lost
        self._open.append(lost)
        if len(self.counts.discontinuities) < _MOST_LISTED:
            self.counts.discontinuities.append(lost)
        self.state, self._holds = State.WAITING if self.state is State.WAITING else State.INVALID, False
        self._waiting.clear()

    def _wait(self, messages: Messages, at: int, end: int) -> int:
        """Keep diffs for a snapshot that is still to come; what precedes a gap among them is of no use."""
        last = int(self._waiting[-1].rows[LAST, -1]) if self._waiting else int(messages.rows[FIRST, at]) - 1
        last = last if self._waiting or messages.rows[PREVIOUS, at] < 0 else int(messages.rows[PREVIOUS, at])
        stop, why = chained(messages.rows, at, end, last)
        if stop > at:
            self._waiting.append(copy_slice(messages, at, stop))
            self.counts.unsynced += int(stop) - at
        while sum(map(len, self._waiting)) > _MOST_WAITING and len(self._waiting) > 1:
            del self._waiting[0]
        if why == STALE:
            self.counts.stale += 1
            return int(stop) + 1
        if why == GAP:
            self._waiting.clear()
        return int(stop)

    def _snapshot(self, messages: Messages, at: int) -> None:
        snapshot_id = int(messages.rows[LAST, at])
        if self.state is State.SYNCED or (self._holds and snapshot_id <= self.last_id):
            self.counts.spare += 1
            return
        waiting = [part for part in self._waiting if int(part.rows[LAST, -1]) > snapshot_id]
        if waiting and not _bridges(waiting[0], snapshot_id):
            self.counts.too_old += 1
            return
        start, middle, end = (int(bound) for bound in messages.run.bounds[:, at])
        prices, lots = messages.run.prices, messages.run.lots
        self.book.load((prices[start:middle], lots[start:middle]), (prices[middle:end], lots[middle:end]))
        self.last_id, self._holds, self._waiting = snapshot_id, True, []
        self._loaded_ns = int(messages.rows[CAPTURE, at])
        self.counts.snapshots += 1
        for part in waiting:
            at = 0
            while at < len(part):
                at = self._diffs(part, at, len(part))
        self.counts.unsynced -= sum(map(len, waiting))

    def _in_common_scale(self, messages: Messages) -> Messages:
        """Book, waiting messages and these in the ticks and lots that all of them are multiples of."""
        if self.scale is None:
            return messages
        scale = common_scale(self.scale, messages.scale)
        if scale != self.scale:
            by_tick, by_lot = int(self.scale.tick / scale.tick), int(self.scale.lot / scale.lot)
            bids, asks = ((prices * by_tick, lots * by_lot) for prices, lots in self.book.top())
            self.book.load(bids, asks)
            self._waiting = [to_scale(waiting, scale) for waiting in self._waiting]
            self.scale = scale
        return to_scale(messages, scale)


def _bridges(part: Messages, snapshot_id: int) -> bool:
    """Whether diffs that came before a snapshot continue it."""
    rows = part.rows[:, int(np.argmax(part.rows[LAST] > snapshot_id))]
    return bool(rows[FIRST] <= snapshot_id + 1) if rows[PREVIOUS] < 0 else bool(rows[PREVIOUS] <= snapshot_id)
