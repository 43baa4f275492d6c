"""A synthetic order book: a pure function of time, of which snapshots and diffs are two views that always agree.

Time is cut into slots of 100 ms. A level holds a quantity of its own; passing orders replace it for a while, and where the smooth price
path crosses a level, the level changes sides. Knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sandbox_exchange.market.book_levels import LASTING, Keys, Levels, touches
from sandbox_exchange.market.prng import Ints, bits, field, key_of
from sandbox_exchange.market.symbols import SymbolSpec
from sandbox_exchange.market.trades import TradeSeries

SLOT_US = 100_000
IDS_PER_SLOT = 64
"""Update ids a slot on average; how many it uses varies."""
_WINDOW = 1.6
_RUNGS_TO_BASE = 240_000
_BEST_WITHIN = 40


@dataclass(frozen=True)
class Snapshot:
    """The book after a slot.

    Attributes:
        last_update_id: Last update id it contains.
        time_us: Time of its slot, microseconds UTC.
        bids: Prices in ticks, best first, and quantities in lots; shape (n, 2).
        asks: The same for the other side.
    """

    last_update_id: int
    time_us: int
    bids: Ints
    asks: Ints


@dataclass(frozen=True)
class Side:
    """Changed levels of one side of several diffs, best first within each.

    Attributes:
        price: Ticks.
        quantity: Lots, absolute; 0 deletes.
        bounds: The levels of diff i are those in `bounds[i]:bounds[i + 1]`.
    """

    price: Ints
    quantity: Ints
    bounds: Ints


@dataclass(frozen=True)
class Diffs:
    """One diff a moment; arrays of one length.

    Attributes:
        time_us: Microseconds UTC.
        first_id: First update id, the one after the previous diff's last.
        last_id: Last update id.
        bids: What changed.
        asks: What changed.
    """

    time_us: Ints
    first_id: Ints
    last_id: Ints
    bids: Side
    asks: Side


@dataclass(frozen=True)
class Best:
    """Best prices in ticks and their quantities in lots, one row a moment: bid, its quantity, ask, its quantity."""

    time_us: Ints
    last_id: Ints
    rows: Ints


class Book:
    """The book of one symbol.

    Attributes:
        spec: The symbol.
    """

    def __init__(self, seed: int, market: str, tape: TradeSeries) -> None:
        """Derive the keys."""
        self.spec: SymbolSpec = tape.spec
        self._tape = tape
        name = tape.spec.symbol
        self._keys = Keys(
            key_of(seed, market, name, "book"), key_of(seed, market, name, "touches"), tape.spec.largest_lots
        )
        self._ids = key_of(seed, market, name, "updates")
        # So wide that five thousand levels reach some percent of the price, whatever the tick.
        self._rung = max(1, tape.spec.base_ticks // _RUNGS_TO_BASE)

    def time_of(self, slot: int) -> int:
        """Time of a slot, microseconds UTC."""
        return self._tape.hours.first_us + slot * SLOT_US

    def slot_of(self, now_us: int) -> int:
        """The last open slot up to a time in which the book changed, counted from the listing; -1 before the first."""
        slot = self.before((now_us - self._tape.hours.first_us) // SLOT_US + 1)
        if self.spec.book_slots is None:
            return min(slot, 0)
        return self.before(slot + 1 - (slot + 1) % self.spec.book_slots)

    def before(self, slot: int) -> int:
        """The last open slot before another; -1 before the first."""
        slot -= 1
        while slot >= 0 and (start := self._tape.hours.closed_since(self.time_of(slot))) is not None:
            slot = (start - 1 - self._tape.hours.first_us) // SLOT_US
        return max(-1, slot)

    def open_slots(self, first_slot: int, end_slot: int) -> Ints:
        """The open ones of the slots in `[first_slot, end_slot)`."""
        slots = np.arange(max(0, first_slot), max(0, end_slot), dtype=np.int64)
        return slots[self._tape.hours.exist(self._times(slots), 1)]

    def last_ids(self, slots: Ints) -> Ints:
        """Last update ids of slots."""
        ids: Ints = (slots + 1) * IDS_PER_SLOT + field(bits(self._ids, slots), 0, 6)
        return ids

    def snapshot(self, slot: int, limit: int) -> Snapshot:
        """The best `limit` levels of either side after an open slot."""
        moments = np.array([slot], np.int64)
        levels, mid = self._levels(moments), int(self._mids(moments)[0])
        reach = int(limit * _WINDOW) + 64
        below = np.arange(mid - 1, max(0, mid - 1 - reach), -1, dtype=np.int64)
        above = np.arange(mid, mid + reach, dtype=np.int64)
        bids, asks = (self._filled(levels, rungs)[:limit] for rungs in (below, above))
        return Snapshot(int(self.last_ids(moments)[0]), self.time_of(slot), bids, asks)

    def diffs(self, first_slot: int, end_slot: int, step: int = 1) -> Diffs:
        """The diffs of the open slots in `[first_slot, end_slot)`.

        Args:
            first_slot: The first diff is against the last open slot before it.
            end_slot: End.
            step: So many slots are merged to one diff, which holds every level that changed in one of them; divides the bounds.
        """
        moments = self._moments(first_slot, end_slot)
        levels, mids, count = self._levels(moments), self._mids(moments), len(moments)
        key = np.union1d(levels.changes, _crossed(mids))
        rung, moment = key // count, key % count
        order = np.lexsort((rung, moment))
        rung, moment = rung[order], moment[order]
        before, after = levels.at(rung, moment - 1), levels.at(rung, moment)
        was_bid, is_bid = rung < mids[moment - 1], rung < mids[moment]
        sides = []
        for was, now in ((was_bid, is_bid), (~was_bid, ~is_bid)):
            old, new = np.where(was, before, 0), np.where(now, after, 0)
            sides.append((rung[old != new], moment[old != new], new[old != new]))
        # The position of the last slot of each diff, and for each slot which diff it belongs to.
        groups = moments[1:] // step
        ends = 1 + np.flatnonzero(np.append(groups[1:] != groups[:-1], True)[: len(groups)])
        ids = self.last_ids(moments)
        first_ids = ids[np.append(0, ends[:-1])[: len(ends)]] + 1
        bids, asks = (
            self._side(*side, ends, falls=falls) for side, falls in zip(sides, (True, False), strict=True)
        )
        return Diffs(self._times(moments[ends]), first_ids, ids[ends], bids, asks)

    def best(self, first_slot: int, end_slot: int) -> Best:
        """The best of either side after each open slot in which it changed."""
        moments = self._moments(first_slot, end_slot)
        levels, mids = self._levels(moments), self._mids(moments)
        near = np.arange(_BEST_WITHIN, dtype=np.int64)
        number = np.repeat(np.arange(len(moments), dtype=np.int64), _BEST_WITHIN)
        columns: list[Ints] = []
        for rungs in (np.maximum(mids[:, None] - 1 - near, 1), mids[:, None] + near):
            quantity = levels.at(rungs.ravel(), number).reshape(rungs.shape)
            first = np.argmax(quantity > 0, axis=1)
            here = np.arange(len(moments)), first
            columns += [self._prices(rungs[here]), quantity[here]]
        rows = np.stack(columns, axis=1)
        changed = (rows[1:] != rows[:-1]).any(axis=1)
        return Best(self._times(moments[1:])[changed], self.last_ids(moments[1:])[changed], rows[1:][changed])

    def _moments(self, first_slot: int, end_slot: int) -> Ints:
        """The open slots, and before them the one that the first diff starts from."""
        return np.concatenate(
            [np.array([self.before(first_slot)], np.int64), self.open_slots(first_slot, end_slot)]
        )

    def _levels(self, moments: Ints) -> Levels:
        # An outage between two moments needs no slots of its own: nothing passes in it.
        slots = self.open_slots(int(moments[0]) - LASTING, int(moments[-1]) + 1)
        passing = touches(self._keys, slots, self._mids(slots) if len(slots) else slots)
        return Levels(self._keys, passing, moments)

    def _filled(self, levels: Levels, rungs: Ints) -> Ints:
        quantity = levels.at(rungs, 0)
        return np.stack([self._prices(rungs), quantity], axis=1)[quantity > 0]

    def _side(self, rung: Ints, moment: Ints, quantity: Ints, ends: Ints, *, falls: bool) -> Side:
        """Changes in order of time as the levels of diffs, best first; of several changes of a level in one diff the last."""
        diff = np.searchsorted(ends, moment)
        order = np.lexsort((moment, -rung if falls else rung, diff))
        rung, diff, quantity = rung[order], diff[order], quantity[order]
        last = np.append((rung[1:] != rung[:-1]) | (diff[1:] != diff[:-1]), True)[: len(rung)]
        return Side(
            self._prices(rung[last]), quantity[last], np.searchsorted(diff[last], np.arange(len(ends) + 1))
        )

    def _times(self, slots: Ints) -> Ints:
        return self._tape.hours.first_us + slots * SLOT_US

    def _mids(self, slots: Ints) -> Ints:
        """The lowest rung on the ask side."""
        mids: Ints = np.maximum(1, self._tape.middle(self._times(slots)) // self._rung)
        return mids

    def _prices(self, rungs: Ints) -> Ints:
        """Each rung has one price of its own; they rise with it."""
        if self._rung == 1:
            return rungs
        return rungs * self._rung + field(bits(self._keys.level, -rungs), 0, 16) % self._rung


def _crossed(mids: Ints) -> Ints:
    """`rung * count + moment` of the levels that change sides."""
    count, many = len(mids), np.abs(np.diff(mids))
    moment = np.repeat(np.arange(1, count, dtype=np.int64), many)
    within = np.arange(int(many.sum()), dtype=np.int64) - np.repeat(np.cumsum(many) - many, many)
    keys: Ints = (np.repeat(np.minimum(mids[1:], mids[:-1]), many) + within) * count + moment
    return keys
