"""State machine that synchronises a book with snapshots and depth diffs. It processes update ids, no levels.

    WAITING ── a snapshot that a diff bridges ──> SYNCED ── ids are missing ──> INVALID
       (diffs are buffered)                          ^                             │
                                                     └──── a snapshot that bridges ┘

Recorder, validation and replay use this module. Events are a diff, a snapshot and a loss of diffs. The answer
is a `Step`, with the diffs that the caller has to apply to its levels.

A diff of spot covers the ids `U..u`. A diff of futures continues the diff with `u = pu` and covers
`pu + 1 .. u`, because its `U` may be greater than `pu + 1`. A diff continues a book with the id `last` if it
covers `last + 1`, or earlier ids as well: quantities are absolute, so that overlaps do no harm. The
documented conditions for the first diff after a snapshot are cases of this rule: `U <= lastUpdateId + 1 <= u`
of spot, and `U <= lastUpdateId <= u` of futures.
Source: "How to manage a local order book correctly" in the documentation of the exchange.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum, StrEnum
from typing import Generic, NamedTuple, Protocol, TypeVar


class DiffIds(Protocol):
    """Update ids of a diff, or of several diffs without missing ids between them."""

    @property
    def first_id(self) -> int:
        """First update id."""

    @property
    def last_id(self) -> int:
        """Last update id."""

    @property
    def previous_id(self) -> int | None:
        """Last update id of the previous diff; None for spot, which does not send it."""


D = TypeVar("D", bound=DiffIds)


class Relation(IntEnum):
    """Relation of a diff to the last id of a book."""

    CONTINUES = 0
    STALE = 1
    """The diff covers no new id."""
    GAP = 2
    """Ids are missing before the diff."""


class State(StrEnum):
    """State of a book; its levels are valid only if it is `SYNCED`."""

    WAITING = "waiting"
    """No snapshot that the diffs continue was loaded yet."""
    SYNCED = "synced"
    INVALID = "invalid"
    """Diffs are missing or malformed since the book was synced."""


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


class SnapshotDecision(NamedTuple, Generic[D]):
    """Use of a snapshot.

    Attributes:
        step: DROPPED, TOO_OLD, LOADED or BRIDGED.
        kept: Buffered diffs to apply after the snapshot. The first may begin before the id of the snapshot.
    """

    step: Step
    kept: list[D]


def first_covered_id(first_id: int, previous_id: int | None) -> int:
    """Return the first update id that a diff covers; `previous_id` is None or -1 for spot."""
    return first_id if previous_id is None or previous_id < 0 else previous_id + 1


def relate_diff(covered_id: int, last_id: int, book_id: int) -> Relation:
    """Return the relation of a diff to a book with the last id `book_id`.

    `replay.continuity` compiles this function and `first_covered_id` with numba.

    Args:
        covered_id: First update id that the diff covers.
        last_id: Last update id of the diff.
        book_id: Last update id of the book.
    """
    if last_id <= book_id:
        return Relation.STALE
    return Relation.GAP if covered_id > book_id + 1 else Relation.CONTINUES


class Synchronization(Generic[D]):
    """Synchronisation of one book.

    Attributes:
        state: See `State`.
        last_id: Last update id in the book; -1 before the first snapshot.
        is_loaded: True between a loaded snapshot and the next diff, which decides whether the book is synced.
    """

    __slots__ = (
        "_buffer",
        "_buffered_count",
        "_count_diffs",
        "_max_buffered",
        "is_loaded",
        "last_id",
        "state",
    )

    def __init__(self, max_buffered: int, count_diffs: Callable[[D], int] = lambda _: 1) -> None:
        """Wait for a snapshot.

        Args:
            max_buffered: Diffs that are kept until a snapshot arrives; the oldest are dropped first.
            count_diffs: Number of diffs in one `D`.
        """
        self.state = State.WAITING
        self.last_id = -1
        self.is_loaded = False
        self._max_buffered, self._count_diffs = max_buffered, count_diffs
        self._buffer: deque[D] = deque()
        self._buffered_count = 0

    @property
    def needs_snapshot(self) -> bool:
        """True if the book can only become synced with another snapshot; diffs are buffered."""
        return self.state is not State.SYNCED and not self.is_loaded

    @property
    def reached_id(self) -> int:
        """Last id of the book, or of the buffered diffs if it needs a snapshot; -1 if there is none."""
        if not self.needs_snapshot:
            return self.last_id
        return self._buffer[-1].last_id if self._buffer else -1

    def accept_diff(self, diff: D) -> Step:
        """Process the next diff of the stream. The caller applies it if the step is APPLIED or BRIDGED."""
        if self.state is not State.SYNCED and not self.is_loaded:
            return self._buffer_diff(diff)
        relation = _relate(diff, self.last_id)
        if relation is Relation.STALE:
            return Step.DROPPED
        if relation is Relation.GAP:
            self.invalidate()
            self._append(diff)
            return Step.GAP
        self.last_id = diff.last_id
        if self.state is State.SYNCED:
            return Step.APPLIED
        self.state, self.is_loaded = State.SYNCED, False
        return Step.BRIDGED

    def judge_snapshot(self, snapshot_id: int) -> SnapshotDecision[D]:
        """Decide the use of a snapshot.

        If the step is LOADED or BRIDGED, the caller loads the snapshot and calls `start_from`.
        """
        if self.state is State.SYNCED or (self.is_loaded and snapshot_id <= self.last_id):
            return SnapshotDecision(Step.DROPPED, [])
        kept = [diff for diff in self._buffer if diff.last_id > snapshot_id]
        if kept and _relate(kept[0], snapshot_id) is Relation.GAP:
            return SnapshotDecision(Step.TOO_OLD, [])
        return SnapshotDecision(Step.BRIDGED if kept else Step.LOADED, kept)

    def start_from(self, snapshot_id: int, kept: Sequence[D]) -> None:
        """Continue from a loaded snapshot and the diffs that were applied after it (see `judge_snapshot`)."""
        self._clear_buffer()
        self.last_id, self.is_loaded = kept[-1].last_id if kept else snapshot_id, not kept
        self.state = State.SYNCED if kept else self.state

    def resume(self, last_id: int) -> None:
        """Continue from a synced book with the last id `last_id`."""
        self._clear_buffer()
        self.state, self.last_id, self.is_loaded = State.SYNCED, last_id, False

    def invalidate(self) -> None:
        """Discard the book and the buffered diffs, because diffs are missing; another snapshot is needed."""
        self.state = State.WAITING if self.state is State.WAITING else State.INVALID
        self.is_loaded = False
        self._clear_buffer()

    def _buffer_diff(self, diff: D) -> Step:
        step = Step.BUFFERED
        if self._buffer:
            relation = _relate(diff, self._buffer[-1].last_id)
            if relation is Relation.STALE:
                return Step.DROPPED
            if relation is Relation.GAP:
                self.invalidate()
                step = Step.GAP
        self._append(diff)
        return step

    def _append(self, diff: D) -> None:
        self._buffer.append(diff)
        self._buffered_count += self._count_diffs(diff)
        while self._buffered_count > self._max_buffered and len(self._buffer) > 1:
            self._buffered_count -= self._count_diffs(self._buffer.popleft())

    def _clear_buffer(self) -> None:
        self._buffer.clear()
        self._buffered_count = 0


def _relate(diff: DiffIds, book_id: int) -> Relation:
    return relate_diff(first_covered_id(diff.first_id, diff.previous_id), diff.last_id, book_id)
