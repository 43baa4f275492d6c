"""Order book of a source at one time, or the reason why no book is known at that time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from typing import NamedTuple

import numpy as np

from capture_pipeline.orderbook.synchronization import Relation, State
from capture_pipeline.replay.discontinuities import Discontinuity, find_next_diff
from capture_pipeline.replay.engine import Replay
from capture_pipeline.replay.messages import CAPTURE, Messages, slice_view


class Absence(StrEnum):
    """Reason why no book is known at a time."""

    NO_SNAPSHOT = "no snapshot"
    """Before the first snapshot that diffs continue."""
    MISSING_IDS = "missing ids"
    """After the last diff before missing ids and before the next valid book."""
    END = "end"
    """After the last diff of the source."""


@dataclass(frozen=True)
class BookAt:
    """The book at a time.

    Attributes:
        replay: The replay. Its book is the book at the time if `absence` is None; otherwise do not use it.
        last_id: Update id of the last applied diff or loaded snapshot up to the time; -1 if there is none.
        capture_ns: Capture time of the last message up to the time; 0 if there is none.
        state: State of the replay after the last message up to the time.
        has_later_messages: True if the source contains a message after the time.
        absence: Reason why no book is known; None if a book is known.
        from_ns: Capture time of the last diff after which the book was valid; None if there is no such diff,
            or if a book is known.
        to_ns: Capture time of the message after which a book is valid again; None if there is no such
            message, or if a book is known.
        missing: The missing ids; None if none are missing.
    """

    replay: Replay
    last_id: int
    capture_ns: int
    state: State
    has_later_messages: bool
    absence: Absence | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    missing: Discontinuity | None = None


def find_book(source: Iterable[Messages], at_ns: int, replay: Replay | None = None) -> BookAt:
    """Find the book at a time, or the period without a book that contains the time.

    Args:
        source: Messages of one symbol.
        at_ns: The time, by the recorder's clock.
        replay: A replay at an earlier time, if the source begins with the messages after that time.

    Raises:
        MalformedDataError: The source is damaged (see the source), or see `Replay.process`.
    """
    replay, pieces = replay or Replay(), iter(source)
    rest = _replay_until(replay, pieces, at_ns)
    found = BookAt(replay, replay.last_id, replay.capture_ns, replay.state, rest is not None)
    coming: Iterator[Messages] = chain([] if rest is None else [rest], pieces)
    if replay.state is State.SYNCED:
        relation, coming = (
            _NextDiff(Relation.CONTINUES, coming)
            if replay.is_known(at_ns, None)
            else _find_relation(replay, coming)
        )
        if relation is Relation.CONTINUES:
            return found
        if relation is None:
            return replace(found, absence=Absence.END, from_ns=replay.reached_ns)
    hole = replay.discontinuity
    if hole is None:
        _replay_while(replay, coming, lambda: replay.first_valid_ns is None)
        return replace(found, absence=Absence.NO_SNAPSHOT, to_ns=replay.first_valid_ns)
    _replay_while(replay, coming, lambda: hole.valid_again_ns is None)
    return replace(
        found,
        absence=Absence.MISSING_IDS,
        from_ns=hole.valid_until_ns,
        to_ns=hole.valid_again_ns,
        missing=hole,
    )


def _replay_until(replay: Replay, pieces: Iterator[Messages], at_ns: int) -> Messages | None:
    """Replay every message captured up to a time.

    Returns:
        The rest of the current piece, captured after the time; None if the source ended.
    """
    for messages in pieces:
        stop = int(np.searchsorted(np.maximum.accumulate(messages.rows[CAPTURE]), at_ns, side="right"))
        replay.process(slice_view(messages, 0, stop))
        if stop < len(messages):
            return slice_view(messages, stop, len(messages))
    return None


class _NextDiff(NamedTuple):
    """Relation of the next diff to the book, and the messages that are not replayed yet."""

    relation: Relation | None
    pieces: Iterator[Messages]


def _find_relation(replay: Replay, pieces: Iterator[Messages]) -> _NextDiff:
    """Find the relation of the next diff to the book. Replay up to that diff if ids are missing before it."""
    for messages in pieces:
        at, relation = find_next_diff(messages, replay.last_id)
        if relation is Relation.GAP:
            replay.process(messages, at + 1)
            return _NextDiff(relation, chain([slice_view(messages, at + 1, len(messages))], pieces))
        if relation is Relation.CONTINUES:
            return _NextDiff(relation, pieces)
    return _NextDiff(None, pieces)


def _replay_while(replay: Replay, pieces: Iterator[Messages], is_wanted: Callable[[], bool]) -> None:
    while is_wanted():
        messages = next(pieces, None)
        if messages is None:
            return
        replay.process(messages)
