"""How far messages continue one another by their ids, where their levels lie, and prices as ticks; compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.replay.compiled._jit import kernel
from capture_pipeline.replay.messages import DIFF, FIRST, KIND, LAST, PREVIOUS, Ints

RAN, STALE, GAP, OTHER = range(4)
"""Why a run ends: no more messages; one that says nothing new; ids are missing; no diff."""


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def chained(rows: Ints, first: int, end: int, last_id: int) -> tuple[int, int]:
    """How far diffs continue from `last_id` on: (message that does not, why)."""
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
    return end, RAN


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def decided(rows: Ints, first: int, end: int, last_id: int) -> tuple[int, int]:
    """The first diff with ids after `last_id`: (message, `RAN` if it continues or `GAP`); (end, `OTHER`) where there is none."""
    for message in range(first, end):
        if rows[KIND, message] == DIFF and rows[LAST, message] > last_id:
            previous = rows[PREVIOUS, message]
            is_gap = (rows[FIRST, message] > last_id + 1) if previous < 0 else (previous > last_id)
            return message, GAP if is_gap else RAN
    return end, OTHER


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def to_ticks(prices: Ints, bounds: Ints, tick: int, ticks: Ints) -> int:
    """Divide the prices of some messages by a tick; returns the place of the first that is no multiple of it, -1 if all are."""
    part = 1.0 / tick
    for message in range(bounds.shape[1]):
        for level in range(bounds[0, message], bounds[2, message]):
            # Exact whatever the float says, for it is multiplied out again; a division takes four times as long.
            found = np.int64(prices[level] * part + 0.5)
            if found * tick != prices[level]:
                found = prices[level] // tick
                if found * tick != prices[level]:
                    return level
            ticks[level] = found
    return -1


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def bounds_of(message_of: Ints, side: NDArray[np.int8], starts: Ints, bounds: Ints) -> int:
    """Where messages begin in rows of levels, bids before asks; a row of side -1 is a message without a level.

    Args:
        message_of: Which message a row belongs to; equal ones stand together.
        side: 0 bid, 1 ask, -1 none.
        starts: Takes the first row of each message.
        bounds: `(3, messages)`, takes first bid, first ask, end.

    Returns:
        How many messages there are.
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
def folded(bests: Ints, first: int, end: int, seed: np.uint64) -> np.uint64:
    """One number for the bests after each of some messages, for comparison: FNV-1a over 64-bit words."""
    found = np.uint64(seed)
    for message in range(first, end):
        for row in range(bests.shape[0]):
            found = (found ^ np.uint64(bests[row, message])) * np.uint64(0x100000001B3)
    return found
