"""Evidence that the exchange began to count the ids of a stream anew, told apart from single messages that came back."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from capture_pipeline.binance.streams.names import event_us
from capture_pipeline.recorder.ordering.stream_buffer import Message

LATER_US: Final = 1_000_000
"""Event times this far apart are told apart; less may be the exchange's own disorder."""
WINDOW_US: Final = 600_000_000
"""The messages that prove a new count come within this time."""
_RUN: Final = 3
_MOST: Final = 64


def add(reset_candidates: list[Message], message: Message) -> bool:
    """Put a message of lower ids and a later time to those that came before.

    Returns:
        False if it is there already, from another connection.
    """
    if any((message.first, message.last) == (one.first, one.last) for one in reset_candidates):
        return False
    insort(reset_candidates, message)
    return True


def is_new_count(reset_candidates: Sequence[Message]) -> bool:
    """Whether three of the messages follow each other by id; `remove_outdated` leaves none that are further apart than `WINDOW_US`."""
    run = 1
    for before, after in pairwise(reset_candidates):
        run = run + 1 if after.first == before.last + 1 else 1
        if run >= _RUN:
            return True
    return False


def remove_outdated(reset_candidates: list[Message], now_us: int) -> list[Message]:
    """Remove and return the messages whose time is over, and the oldest where there are too many of them.

    Args:
        reset_candidates: Messages of one stream; what is left stays in it.
        now_us: Event time of the stream's newest message, or the time since they came counted likewise.
    """
    gone = [one for one in reset_candidates if now_us - event_us(one.event_time) > WINDOW_US]
    left = [one for one in reset_candidates if one not in gone]
    if len(left) > _MOST:
        oldest = min(left, key=lambda one: one.received_ns)
        gone.append(oldest)
        left.remove(oldest)
    reset_candidates[:] = left
    return gone


def remove_disproved(reset_candidates: list[Message], event_time: int) -> list[Message]:
    """Remove and return the messages that are older than one that continues the old count."""
    gone = [one for one in reset_candidates if event_us(event_time) > event_us(one.event_time) + LATER_US]
    reset_candidates[:] = [one for one in reset_candidates if one not in gone]
    return gone
