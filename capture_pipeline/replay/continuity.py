"""Compiled kernels: runs of update ids, bounds of messages, prices in ticks, and a checksum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.orderbook.compiled._jit import kernel
from capture_pipeline.orderbook.synchronization import Relation, first_covered_id, relate_diff
from capture_pipeline.replay.messages import DIFF, FIRST, KIND, LAST, PREVIOUS, Ints

_first_covered_id, _relate_diff = kernel(first_covered_id), kernel(relate_diff)
_CONTINUES, _STALE = Relation.CONTINUES, Relation.STALE


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def find_run_end(rows: Ints, first: int, end: int, reached_id: int) -> int:
    """Find the end of a run of diffs: all stale, or each the continuation of the one before.

    Args:
        rows: See `Messages.rows`.
        first: First diff of the run.
        end: First message that does not belong to the run.
        reached_id: Last id before the run.
    """
    reached = np.int64(reached_id)
    stale = rows[LAST, first] <= reached
    for message in range(first, end):
        if rows[KIND, message] != DIFF:
            return message
        covered = _first_covered_id(rows[FIRST, message], rows[PREVIOUS, message])
        relation = _relate_diff(covered, rows[LAST, message], reached)
        if stale:
            if relation != _STALE:
                return message
        elif message > first and relation != _CONTINUES:
            return message
        else:
            reached = rows[LAST, message]
    return end


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def find_new_diff(rows: Ints, first: int, end: int, last_id: int) -> int:
    """Find the first diff with ids after `last_id`; `end` if there is none. Snapshots are ignored."""
    for message in range(first, end):
        if rows[KIND, message] == DIFF and rows[LAST, message] > last_id:
            return message
    return end


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
