"""Synthetic order book: snapshots and diffs come from the same pure function of time and always agree.

Time is divided into slots of 100 ms. Each level has a base quantity. Temporary orders replace the base
quantity for some slots, and a level changes sides when the smooth price path crosses it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sandbox_exchange.config.symbols import SymbolSpec
from sandbox_exchange.market.book_levels import MAX_ORDER_SLOTS, BookKeys, Levels, generate_orders
from sandbox_exchange.market.prng import Ints, derive_key, extract_bits, random_bits
from sandbox_exchange.market.trades import TradeSeries

SLOT_US = 100_000
IDS_PER_SLOT = 64
"""Average number of update ids per slot."""
_REACH_FACTOR = 1.6
_RUNGS_TO_BASE_PRICE = 240_000
_BEST_REACH_RUNGS = 40


@dataclass(frozen=True)
class Snapshot:
    """Order book after a slot.

    Attributes:
        last_update_id: Last update id in the book.
        time_us: Time of the slot, microseconds UTC.
        bids: Bid prices in ticks, best first, and quantities in lots; shape (n, 2).
        asks: Ask prices and quantities in the same form.
    """

    last_update_id: int
    time_us: int
    bids: Ints
    asks: Ints


@dataclass(frozen=True)
class SideChanges:
    """Changed levels of one side in several diffs; the levels of a diff are in order, best first.

    Attributes:
        price: Ticks.
        quantity: New quantity in lots; 0 deletes the level.
        bounds: Diff i has the levels `bounds[i]:bounds[i + 1]`.
    """

    price: Ints
    quantity: Ints
    bounds: Ints


@dataclass(frozen=True)
class Diffs:
    """Depth diffs, as arrays of equal length.

    Attributes:
        time_us: Microseconds UTC.
        first_id: First update id, one more than the last id of the previous diff.
        last_id: Last update id.
        bids: Changed bid levels.
        asks: Changed ask levels.
    """

    time_us: Ints
    first_id: Ints
    last_id: Ints
    bids: SideChanges
    asks: SideChanges


@dataclass(frozen=True)
class BestPrices:
    """Best prices; `rows` has the columns bid and its quantity, ask and its quantity, in ticks and lots."""

    time_us: Ints
    last_id: Ints
    rows: Ints


class Book:
    """Order book of one symbol.

    Attributes:
        spec: Properties of the symbol.
    """

    def __init__(self, seed: int, market: str, series: TradeSeries) -> None:
        self.spec: SymbolSpec = series.spec
        self._series = series
        name = series.spec.symbol
        self._keys = BookKeys(
            derive_key(seed, market, name, "book"),
            derive_key(seed, market, name, "touches"),
            series.spec.max_trade_lots,
        )
        self._ids = derive_key(seed, market, name, "updates")
        # The width of a rung: 5,000 levels cover some percent of the price for every tick size.
        self._rung = max(1, series.spec.base_ticks // _RUNGS_TO_BASE_PRICE)

    def slot_time(self, slot: int) -> int:
        """Return the time of a slot, microseconds UTC."""
        return self._series.hours.first_us + slot * SLOT_US

    def last_changed_slot(self, now_us: int) -> int:
        """Return the last slot up to a time in which the book changed; -1 before the first.

        Slots are counted from the listing.
        """
        slot = self.previous_open_slot((now_us - self._series.hours.first_us) // SLOT_US + 1)
        if self.spec.book_slots is None:
            return min(slot, 0)
        return self.previous_open_slot(slot + 1 - (slot + 1) % self.spec.book_slots)

    def previous_open_slot(self, slot: int) -> int:
        """Return the last open slot before a slot; -1 before the first."""
        slot -= 1
        while slot >= 0 and (start := self._series.hours.closure_start(self.slot_time(slot))) is not None:
            slot = (start - 1 - self._series.hours.first_us) // SLOT_US
        return max(-1, slot)

    def open_slots(self, first_slot: int, end_slot: int) -> Ints:
        """Return the open slots in `[first_slot, end_slot)`."""
        slots = np.arange(max(0, first_slot), max(0, end_slot), dtype=np.int64)
        return slots[self._series.hours.are_open(self._times(slots), 1)]

    def last_update_ids(self, slots: Ints) -> Ints:
        ids: Ints = (slots + 1) * IDS_PER_SLOT + extract_bits(random_bits(self._ids, slots), 0, 6)
        return ids

    def snapshot(self, slot: int, limit: int) -> Snapshot:
        """Return the best `limit` levels of each side after an open slot."""
        moments = np.array([slot], np.int64)
        levels, mid = self._levels(moments), int(self._mids(moments)[0])
        reach = int(limit * _REACH_FACTOR) + 64
        below = np.arange(mid - 1, max(0, mid - 1 - reach), -1, dtype=np.int64)
        above = np.arange(mid, mid + reach, dtype=np.int64)
        bids, asks = (self._existing_levels(levels, rungs)[:limit] for rungs in (below, above))
        return Snapshot(int(self.last_update_ids(moments)[0]), self.slot_time(slot), bids, asks)

    def diffs(self, first_slot: int, end_slot: int, step: int = 1) -> Diffs:
        """Return the diffs of the open slots in `[first_slot, end_slot)`.

        Args:
            first_slot: First slot; its diff is relative to the last open slot before it.
            end_slot: Slot after the last one.
            step: Number of slots per diff, a divisor of both bounds. A diff contains every level that changed
                in one of its slots.
        """
        moments = self._slots_from_previous(first_slot, end_slot)
        levels, mids, count = self._levels(moments), self._mids(moments), len(moments)
        key = np.union1d(levels.changes, _crossed_level_keys(mids))
        rung, moment = key // count, key % count
        order = np.lexsort((rung, moment))
        rung, moment = rung[order], moment[order]
        before, after = levels.quantities(rung, moment - 1), levels.quantities(rung, moment)
        was_bid, is_bid = rung < mids[moment - 1], rung < mids[moment]
        sides = []
        for was, now in ((was_bid, is_bid), (~was_bid, ~is_bid)):
            old, new = np.where(was, before, 0), np.where(now, after, 0)
            sides.append((rung[old != new], moment[old != new], new[old != new]))
        # `ends` contains the position of the last slot of each diff.
        groups = moments[1:] // step
        ends = 1 + np.flatnonzero(np.append(groups[1:] != groups[:-1], True)[: len(groups)])
        ids = self.last_update_ids(moments)
        first_ids = ids[np.append(0, ends[:-1])[: len(ends)]] + 1
        bids, asks = (
            self._side(*side, ends, falls=falls) for side, falls in zip(sides, (True, False), strict=True)
        )
        return Diffs(self._times(moments[ends]), first_ids, ids[ends], bids, asks)

    def best(self, first_slot: int, end_slot: int) -> BestPrices:
        """Return the best prices after each open slot in which they changed."""
        moments = self._slots_from_previous(first_slot, end_slot)
        levels, mids = self._levels(moments), self._mids(moments)
        near = np.arange(_BEST_REACH_RUNGS, dtype=np.int64)
        number = np.repeat(np.arange(len(moments), dtype=np.int64), _BEST_REACH_RUNGS)
        columns: list[Ints] = []
        for rungs in (np.maximum(mids[:, None] - 1 - near, 1), mids[:, None] + near):
            quantity = levels.quantities(rungs.ravel(), number).reshape(rungs.shape)
            first = np.argmax(quantity > 0, axis=1)
            here = np.arange(len(moments)), first
            columns += [self._prices(rungs[here]), quantity[here]]
        rows = np.stack(columns, axis=1)
        changed = (rows[1:] != rows[:-1]).any(axis=1)
        return BestPrices(
            self._times(moments[1:])[changed], self.last_update_ids(moments[1:])[changed], rows[1:][changed]
        )

    def _slots_from_previous(self, first_slot: int, end_slot: int) -> Ints:
        """Return the open slots, preceded by the slot that the first diff is relative to."""
        return np.concatenate(
            [np.array([self.previous_open_slot(first_slot)], np.int64), self.open_slots(first_slot, end_slot)]
        )

    def _levels(self, moments: Ints) -> Levels:
        # An outage between two slots has no temporary orders.
        slots = self.open_slots(int(moments[0]) - MAX_ORDER_SLOTS, int(moments[-1]) + 1)
        orders = generate_orders(self._keys, slots, self._mids(slots) if len(slots) else slots)
        return Levels(self._keys, orders, moments)

    def _existing_levels(self, levels: Levels, rungs: Ints) -> Ints:
        quantity = levels.quantities(rungs, 0)
        return np.stack([self._prices(rungs), quantity], axis=1)[quantity > 0]

    def _side(self, rung: Ints, moment: Ints, quantity: Ints, ends: Ints, *, falls: bool) -> SideChanges:
        """Group changes into diffs, best level first; the last change of a level in a diff counts."""
        diff = np.searchsorted(ends, moment)
        order = np.lexsort((moment, -rung if falls else rung, diff))
        rung, diff, quantity = rung[order], diff[order], quantity[order]
        last = np.append((rung[1:] != rung[:-1]) | (diff[1:] != diff[:-1]), True)[: len(rung)]
        return SideChanges(
            self._prices(rung[last]), quantity[last], np.searchsorted(diff[last], np.arange(len(ends) + 1))
        )

    def _times(self, slots: Ints) -> Ints:
        return self._series.hours.first_us + slots * SLOT_US

    def _mids(self, slots: Ints) -> Ints:
        """Return the lowest rung on the ask side at each slot."""
        mids: Ints = np.maximum(1, self._series.smooth_price(self._times(slots)) // self._rung)
        return mids

    def _prices(self, rungs: Ints) -> Ints:
        """Return the price of each rung; a higher rung has a higher price."""
        if self._rung == 1:
            return rungs
        return rungs * self._rung + extract_bits(random_bits(self._keys.level, -rungs), 0, 16) % self._rung


def _crossed_level_keys(mids: Ints) -> Ints:
    """Return `rung * count + moment` of the levels that change sides."""
    count, many = len(mids), np.abs(np.diff(mids))
    moment = np.repeat(np.arange(1, count, dtype=np.int64), many)
    within = np.arange(int(many.sum()), dtype=np.int64) - np.repeat(np.cumsum(many) - many, many)
    keys: Ints = (np.repeat(np.minimum(mids[1:], mids[:-1]), many) + within) * count + moment
    return keys
