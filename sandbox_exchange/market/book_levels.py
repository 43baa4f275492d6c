"""What lies on each price level at some moments: a quantity of its own, unless a passing order replaces it for a while.

Levels are counted in rungs, a fixed number of ticks apart. Everything is a pure function of keys, so that any moment can be computed
alone, and many moments side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sandbox_exchange.market.prng import Ints, bits, field

LASTING = 128
"""Most slots that a touch lasts: what is older has no effect."""
_EMPTY_OF_16 = 5
_MOST_TOUCHES, _LEAST_TOUCHES = 12, 5
_NEVER = 1 << 62


@dataclass(frozen=True)
class Keys:
    """The randomness of one book.

    Attributes:
        level: Of what a level holds by itself.
        touch: Of what passes.
        largest: Largest quantity of one trade in lots; levels hold up to sixteen times of it.
    """

    level: np.uint64
    touch: np.uint64
    largest: int

    def own(self, rungs: Ints) -> Ints:
        """What levels hold by themselves, lots; some hold nothing."""
        random = bits(self.level, rungs)
        quantity = self.sized(field(random, 4, 12))
        quantity[field(random, 0, 4) < _EMPTY_OF_16] = 0
        return quantity

    def sized(self, size: Ints) -> Ints:
        """Twelve random bits as a quantity."""
        quantity: Ints = 1 + (size * size * self.largest >> 20)
        return quantity


@dataclass(frozen=True)
class Touches:
    """Orders that pass, in order of time; arrays of one length.

    Attributes:
        rung: Which level.
        slot: From when on.
        end: The first slot without it.
        quantity: Lots; 0 empties the level.
    """

    rung: Ints
    slot: Ints
    end: Ints
    quantity: Ints


def touches(keys: Keys, slots: Ints, mids: Ints) -> Touches:
    """The touches of some slots.

    Args:
        keys: Randomness.
        slots: In order.
        mids: The lowest rung on the ask side in each.
    """
    number = np.arange(_MOST_TOUCHES, dtype=np.int64)
    counter = slots[:, None] * 16 + number
    random = bits(keys.touch, counter.ravel())
    many = _LEAST_TOUCHES + field(bits(keys.touch, slots * 16 + 15), 0, 3)
    near = field(random, 1, 10)
    # The fourth power keeps most of them near the touch; the farthest are 2,048 rungs away.
    distance = near * near * near * near >> 29
    mid = np.repeat(mids, _MOST_TOUCHES)
    rung = np.where(field(random, 0, 1) == 1, mid - 1 - distance, mid + distance)
    slot = np.repeat(slots, _MOST_TOUCHES)
    quantity = np.where(field(random, 11, 2) == 0, 0, keys.sized(field(random, 13, 12)))
    is_there = (number[None, :] < many[:, None]).ravel() & (rung >= 1)
    end = slot + 1 + field(random, 25, 7)
    return Touches(rung[is_there], slot[is_there], end[is_there], quantity[is_there])


class Levels:
    """Quantities of levels at some moments.

    Attributes:
        count: How many moments.
        changes: For each change of a level after the first moment `rung * count + moment`, in order.
    """

    def __init__(self, keys: Keys, passing: Touches, moments: Ints) -> None:
        """Sort out which touch holds where and when.

        Args:
            keys: Randomness.
            passing: All touches since `LASTING` slots before the first moment.
            moments: Slots, in order; changes between two of them count for the later one.
        """
        self._keys = keys
        self.count = len(moments)
        by_rung = np.argsort(passing.rung, kind="stable")
        rung, slot, end, quantity = (
            column[by_rung] for column in (passing.rung, passing.slot, passing.end, passing.quantity)
        )
        follows = np.append(rung[1:] == rung[:-1], False) if len(rung) else np.empty(0, np.bool_)
        until = np.where(follows, np.roll(slot, -1), _NEVER)
        # Of several touches in one slot the last counts; one that ends before the next leaves the level to itself.
        begins, reverts = slot < until, end < until
        all_rungs = np.concatenate([rung[begins], rung[reverts]])
        all_slots = np.concatenate([slot[begins], end[reverts]])
        values = np.concatenate([quantity[begins], keys.own(rung[reverts])])
        moment = np.searchsorted(moments, all_slots)
        inside = moment < self.count
        key = all_rungs[inside] * self.count + moment[inside]
        order = np.lexsort((all_slots[inside], key))
        key, values = key[order], values[inside][order]
        last = np.append(key[1:] != key[:-1], True) if len(key) else np.empty(0, np.bool_)
        self._key, self._value = key[last], values[last]
        self.changes = self._key[self._key % self.count > 0]

    def at(self, rungs: Ints, moments: Ints | int) -> Ints:
        """Quantities in lots of some levels, each at its own moment (its position)."""
        own = self._keys.own(rungs)
        if not len(self._key):
            return own
        wanted = rungs * self.count + moments
        place = np.maximum(np.searchsorted(self._key, wanted, side="right") - 1, 0)
        known = (self._key[place] <= wanted) & (self._key[place] // self.count == rungs)
        return np.where(known, self._value[place], own)
