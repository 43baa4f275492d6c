"""The book at one time out of any source, and why there is none at times at which it is not known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain

import numpy as np

from capture_pipeline.replay.engine import Replay, State
from capture_pipeline.replay.holes import Discontinuity, Next, next_diff
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
        replay: The replay; its book is that of the time where `absence` is None, and is not to be used otherwise.
        last_id: Update id of the last applied diff or loaded snapshot up to the time; -1 without any.
        capture_ns: Capture time of the last message up to the time; 0 without any.
        state: State of the replay after the last message up to the time.
        goes_on: Whether the source contains a message after the time.
        absence: Why no book is known; None where one is known.
        from_ns: Capture time of the last diff after which the book was valid; None if there was none, or a book is known.
        to_ns: Capture time of the message after which a book is valid again; None if there is none, or a book is known.
        missing: The missing ids; None where none are missing.
    """

    replay: Replay
    last_id: int
    capture_ns: int
    state: State
    goes_on: bool
    absence: Absence | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    missing: Discontinuity | None = None


def book_at(source: Iterable[Messages], at_ns: int, replay: Replay | None = None) -> BookAt:
    """Find the book at a time, or the time without a book around it.

    Args:
        source: Messages of one symbol.
        at_ns: The time, by the recorder's clock.
        replay: A replay that begins before the time, where the source begins with the messages after it.

    Raises:
        MalformedDataError: See the source and `Replay.take`.
    """
    replay, pieces = replay or Replay(), iter(source)
    rest = _replay_until(replay, pieces, at_ns)
    found = BookAt(replay, replay.last_id, replay.capture_ns, replay.state, rest is not None)
    coming: Iterator[Messages] = chain([] if rest is None else [rest], pieces)
    if replay.state is State.SYNCED:
        relation, coming = (
            (Next.CONTINUES, coming) if replay.is_known(at_ns, Next.NONE) else _until_broken(replay, coming)
        )
        if relation is Next.CONTINUES:
            return found
        if relation is Next.NONE:
            return replace(found, absence=Absence.END, from_ns=replay.reached_ns)
    hole = replay.hole
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
        The messages after the time that belong to the last piece taken; None where the source ended before.
    """
    for messages in pieces:
        stop = int(np.searchsorted(np.maximum.accumulate(messages.rows[CAPTURE]), at_ns, side="right"))
        replay.take(slice_view(messages, 0, stop))
        if stop < len(messages):
            return slice_view(messages, stop, len(messages))
    return None


def _until_broken(replay: Replay, pieces: Iterator[Messages]) -> tuple[Next, Iterator[Messages]]:
    """Find the relation of the next diff; one that breaks the book is taken, with the messages before it.

    Returns:
        The relation, and the messages that were not taken.
    """
    for messages in pieces:
        at, relation = next_diff(messages, replay.last_id)
        if relation is Next.BREAKS:
            replay.take(messages, at + 1)
            return relation, chain([slice_view(messages, at + 1, len(messages))], pieces)
        if relation is Next.CONTINUES:
            return relation, pieces
    return Next.NONE, pieces


def _replay_while(replay: Replay, pieces: Iterator[Messages], is_wanted: Callable[[], bool]) -> None:
    while is_wanted():
        messages = next(pieces, None)
        if messages is None:
            return
        replay.take(messages)
