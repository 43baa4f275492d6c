"""Quantities of the price levels of a synthetic book: a base quantity, or that of a temporary order.

A rung is the number of a level; rungs are a fixed number of ticks apart. All values are pure functions of
keys, so that any slot can be computed without the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sandbox_exchange.market.prng import Ints, extract_bits, random_bits

MAX_ORDER_SLOTS = 128
"""Maximum duration of a temporary order in slots; an older order has no effect."""
_EMPTY_OF_16 = 5
_MAX_ORDERS, _MIN_ORDERS = 12, 5
_NEVER = 1 << 62


@dataclass(frozen=True)
class BookKeys:
    """Random keys of one book.

    Attributes:
        level: Key of the base quantities.
        order: Key of the temporary orders.
        max_trade_lots: Maximum quantity of one trade; a level has at most sixteen times as much.
    """

    level: np.uint64
    order: np.uint64
    max_trade_lots: int

    def base_quantities(self, rungs: Ints) -> Ints:
        """Return the base quantities of levels in lots; some are 0."""
        random = random_bits(self.level, rungs)
        quantity = self.scale_quantity(extract_bits(random, 4, 12))
        quantity[extract_bits(random, 0, 4) < _EMPTY_OF_16] = 0
        return quantity

    def scale_quantity(self, size: Ints) -> Ints:
        """Convert twelve random bits to a quantity in lots."""
        quantity: Ints = 1 + (size * size * self.max_trade_lots >> 20)
        return quantity


@dataclass(frozen=True)
class TemporaryOrders:
    """Orders that replace a quantity for some slots; arrays of equal length, in order of time.

    Attributes:
        rung: Level.
        slot: First slot with the order.
        end: First slot without the order.
        quantity: Lots; 0 empties the level.
    """

    rung: Ints
    slot: Ints
    end: Ints
    quantity: Ints


def generate_orders(keys: BookKeys, slots: Ints, mids: Ints) -> TemporaryOrders:
    """Generate the temporary orders that start in some slots.

    Args:
        keys: Random keys.
        slots: Slots in ascending order.
        mids: Lowest rung on the ask side in each slot.
    """
    number = np.arange(_MAX_ORDERS, dtype=np.int64)
    counter = slots[:, None] * 16 + number
    random = random_bits(keys.order, counter.ravel())
    order_count = _MIN_ORDERS + extract_bits(random_bits(keys.order, slots * 16 + 15), 0, 3)
    near = extract_bits(random, 1, 10)
    # The fourth power places most orders near the best price; the maximum distance is 2,048 rungs.
    distance = near * near * near * near >> 29
    mid = np.repeat(mids, _MAX_ORDERS)
    rung = np.where(extract_bits(random, 0, 1) == 1, mid - 1 - distance, mid + distance)
    slot = np.repeat(slots, _MAX_ORDERS)
    quantity = np.where(
        extract_bits(random, 11, 2) == 0, 0, keys.scale_quantity(extract_bits(random, 13, 12))
    )
    exists = (number[None, :] < order_count[:, None]).ravel() & (rung >= 1)
    end = slot + 1 + extract_bits(random, 25, 7)
    return TemporaryOrders(rung[exists], slot[exists], end[exists], quantity[exists])


class Levels:
    """Quantities of levels at given slots, called moments.

    Attributes:
        count: Number of moments.
        changes: `rung * count + moment` of each change of a level after the first moment, in order.
    """

    def __init__(self, keys: BookKeys, orders: TemporaryOrders, moments: Ints) -> None:
        """Determine the quantity of each level from the temporary orders.

        Args:
            keys: Random keys.
            orders: All temporary orders since `MAX_ORDER_SLOTS` before the first moment.
            moments: Slots in ascending order. A change between two moments belongs to the later one.
        """
        self._keys = keys
        self.count = len(moments)
        by_rung = np.argsort(orders.rung, kind="stable")
        rung, slot, end, quantity = (
            column[by_rung] for column in (orders.rung, orders.slot, orders.end, orders.quantity)
        )
        follows = np.append(rung[1:] == rung[:-1], False) if len(rung) else np.empty(0, np.bool_)
        until = np.where(follows, np.roll(slot, -1), _NEVER)
        # The last order of a slot counts; after an order that ends before the next one, the level has its
        # base quantity.
        begins, reverts = slot < until, end < until
        all_rungs = np.concatenate([rung[begins], rung[reverts]])
        all_slots = np.concatenate([slot[begins], end[reverts]])
        values = np.concatenate([quantity[begins], keys.base_quantities(rung[reverts])])
        moment = np.searchsorted(moments, all_slots)
        inside = moment < self.count
        key = all_rungs[inside] * self.count + moment[inside]
        order = np.lexsort((all_slots[inside], key))
        key, values = key[order], values[inside][order]
        last = np.append(key[1:] != key[:-1], True) if len(key) else np.empty(0, np.bool_)
        self._key, self._value = key[last], values[last]
        self.changes = self._key[self._key % self.count > 0]

    def quantities(self, rungs: Ints, moments: Ints | int) -> Ints:
        """Return the quantities of levels in lots, each at the moment of the given index."""
        base = self._keys.base_quantities(rungs)
        if not len(self._key):
            return base
        wanted = rungs * self.count + moments
        place = np.maximum(np.searchsorted(self._key, wanted, side="right") - 1, 0)
        is_changed = (self._key[place] <= wanted) & (self._key[place] // self.count == rungs)
        return np.where(is_changed, self._value[place], base)
