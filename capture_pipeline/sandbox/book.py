"""A synthetic order book around the last trade: a pure function of time, so that snapshots and diffs always agree.

Time is cut into slots of 100 ms, each of which uses up a constant range of update ids. A level keeps its quantity for some slots and
then takes another; some levels are empty. Knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capture_pipeline.sandbox.noise import Ints, bits, field, key_of
from capture_pipeline.sandbox.tape import Tape

SLOT_US = 100_000
IDS_PER_SLOT = 16
_EMPTY_OF_16 = 5
_WINDOW = 1.6


@dataclass(frozen=True)
class Snapshot:
    """The book at the end of a slot.

    Attributes:
        last_update_id: Last update id it contains.
        time_us: End of its slot, microseconds UTC.
        bids: Prices in ticks, best first, and quantities in lots; shape (n, 2).
        asks: The same for the other side.
    """

    last_update_id: int
    time_us: int
    bids: Ints
    asks: Ints


class Book:
    """The book of one symbol."""

    def __init__(self, seed: int, market: str, tape: Tape) -> None:
        """Derive the key."""
        self._tape = tape
        self._key = key_of(seed, market, tape.spec.symbol, "book")

    def slot_of(self, now_us: int) -> int:
        """The last slot that is over by `now_us`, counted from the listing; at least 0."""
        return max(0, (now_us - self._tape.hours.first_us) // SLOT_US)

    def last_id(self, slot: int) -> int:
        """Last update id of a slot."""
        return (slot + 1) * IDS_PER_SLOT

    def snapshot(self, slot: int, limit: int) -> Snapshot:
        """The best `limit` levels of either side after a slot; nothing before the first trade."""
        time_us = self._tape.hours.first_us + slot * SLOT_US
        last = self._tape.last_before(time_us + 1)
        if not len(last):
            nothing = np.empty((0, 2), np.int64)
            return Snapshot(self.last_id(slot), time_us, nothing, nothing)
        best = int(last.price[0])
        reach = int(limit * _WINDOW) + 64
        bids = self._levels(np.arange(best - 1, max(0, best - 1 - reach), -1, dtype=np.int64), slot)
        asks = self._levels(np.arange(best, best + reach, dtype=np.int64), slot)
        return Snapshot(self.last_id(slot), time_us, bids[:limit], asks[:limit])

    def _levels(self, prices: Ints, slot: int) -> Ints:
        own = bits(self._key, prices)
        # Each level changes every 1 to 128 slots, in its own rhythm.
        epoch = (slot + field(own, 8, 10)) // (1 + field(own, 0, 7))
        random = bits(self._key, prices * 1_000_003 + epoch)
        size = field(random, 4, 12)
        quantity = 1 + (size * size * self._tape.spec.largest_lots >> 20)
        quantity[field(random, 0, 4) < _EMPTY_OF_16] = 0
        quantity[:1] = np.maximum(quantity[:1], 1)
        levels = np.stack([prices, quantity], axis=1)
        return levels[levels[:, 1] > 0]
