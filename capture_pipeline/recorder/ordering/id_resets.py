"""Detects that the exchange restarted the ids of a stream, in contrast to single old messages."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from capture_pipeline.binance.streams.names import event_us
from capture_pipeline.recorder.ordering.stream_buffer import Message

LATER_US: Final = 1_000_000
"""Event times must differ by more than this; smaller differences may be disorder of the exchange."""
WINDOW_US: Final = 600_000_000
"""Period of event time in which the messages that prove a new count must arrive."""
_RUN: Final = 3
_MAX_CANDIDATES: Final = 64


def add(reset_candidates: list[Message], message: Message) -> bool:
    """Add a message with lower ids and a later time to the candidates.

    Returns:
        False if another connection delivered the same message before.
    """
    if any((message.first, message.last) == (one.first, one.last) for one in reset_candidates):
        return False
    insort(reset_candidates, message)
    return True


def is_new_count(reset_candidates: Sequence[Message]) -> bool:
    """Return whether three messages are consecutive; `remove_outdated` keeps them within `WINDOW_US`."""
    run = 1
    for before, after in pairwise(reset_candidates):
        run = run + 1 if after.first == before.last + 1 else 1
        if run >= _RUN:
            return True
    return False


def remove_outdated(reset_candidates: list[Message], now_us: int) -> list[Message]:
    """Remove and return the candidates that are too old, and the oldest one if there are too many.

    Args:
        reset_candidates: Candidates of one stream; the list is changed.
        now_us: Current event time of the stream, known or estimated from the time since their arrival.
    """
    removed = [one for one in reset_candidates if now_us - event_us(one.event_time) > WINDOW_US]
    remaining = [one for one in reset_candidates if one not in removed]
    if len(remaining) > _MAX_CANDIDATES:
        oldest = min(remaining, key=lambda one: one.received_ns)
        removed.append(oldest)
        remaining.remove(oldest)
    reset_candidates[:] = remaining
    return removed


def remove_disproved(reset_candidates: list[Message], event_time: int) -> list[Message]:
    """Remove and return the candidates that are older than a message that continues the old count."""
    removed = [one for one in reset_candidates if event_us(event_time) > event_us(one.event_time) + LATER_US]
    reset_candidates[:] = [one for one in reset_candidates if one not in removed]
    return removed
