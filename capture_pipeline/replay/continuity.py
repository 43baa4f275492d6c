"""Compiled kernels: continuity of update ids, bounds of messages, prices in ticks, and a checksum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.replay.compiled._jit import kernel
from capture_pipeline.replay.messages import DIFF, FIRST, KIND, LAST, PREVIOUS, Ints

CONTINUES, STALE, GAP, OTHER = range(4)
"""Results: the diffs continue; a diff without new ids; ids are missing before a diff; not a diff."""


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def find_chain_end(rows: Ints, first: int, end: int, last_id: int) -> tuple[int, int]:
    """Find the first message that does not continue from `last_id`: (its number, reason)."""
    reached = np.int64(last_id)
    for message in range(first, end):
        if rows[KIND, message] != DIFF:
            return message, OTHER
        if rows[LAST, message] <= reached:
            return message, STALE
        previous = rows[PREVIOUS, message]
        if (rows[FIRST, message] > reached + 1) if previous < 0 else (previous > reached):
            return message, GAP
        reached = rows[LAST, message]
    return end, CONTINUES


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def classify_next_diff(rows: Ints, first: int, end: int, last_id: int) -> tuple[int, int]:
    """Find the first diff with ids after `last_id`: (its number, `CONTINUES` or `GAP`), or (end, `OTHER`)."""
    for message in range(first, end):
        if rows[KIND, message] == DIFF and rows[LAST, message] > last_id:
            previous = rows[PREVIOUS, message]
            is_gap = (rows[FIRST, message] > last_id + 1) if previous < 0 else (previous > last_id)
            return message, GAP if is_gap else CONTINUES
    return end, OTHER


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def to_ticks(prices: Ints, bounds: Ints, tick: int, ticks: Ints) -> int:
    """Divide prices by the tick. Returns the index of the first price that is not a multiple of it, or -1."""
    part = 1.0 / tick
    for message in range(bounds.shape[1]):
        for level in range(bounds[0, message], bounds[2, message]):
            # The multiplication below verifies the float result. An integer division takes four times as
            # long.
            found = np.int64(prices[level] * part + 0.5)
            if found * tick != prices[level]:
                found = prices[level] // tick
                if found * tick != prices[level]:
                    return level
            ticks[level] = found
    return -1


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def find_bounds(message_of: Ints, side: NDArray[np.int8], starts: Ints, bounds: Ints) -> int:
    """Find the bounds of messages in rows of levels, with bids before asks.

    Args:
        message_of: Key of the message of each row; rows of one message are adjacent.
        side: 0 for a bid, 1 for an ask, -1 for a message without levels.
        starts: Output: first row of each message.
        bounds: Output, `(3, messages)`: first bid, first ask, end.

    Returns:
        The number of messages.
    """
    count = 0
    for row in range(message_of.size):
        if row == 0 or message_of[row] != message_of[row - 1]:
            if count:
                bounds[2, count - 1] = row
            starts[count] = bounds[0, count] = bounds[1, count] = row
            count += 1
        if side[row] == 0:
            bounds[1, count - 1] = row + 1
    if count:
        bounds[2, count - 1] = message_of.size
    for message in range(count):
        if side[bounds[0, message]] < 0:
            bounds[1, message] = bounds[2, message] = bounds[0, message]
    return count


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def update_checksum(bests: Ints, first: int, end: int, seed: np.uint64) -> np.uint64:
    """Update a checksum (FNV-1a over 64-bit words) with the best prices after each of some messages."""
    found = np.uint64(seed)
    for message in range(first, end):
        for row in range(bests.shape[0]):
            found = (found ^ np.uint64(bests[row, message])) * np.uint64(0x100000001B3)
    return found
