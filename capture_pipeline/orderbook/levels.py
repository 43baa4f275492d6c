"""Price levels of one side of a book, in exact integers: the price and its quantity, both in units of 1e-8.

Sources are the strings of the exchange. Those it sends today have eight decimals and take a short way; any other decimal of up to
eight decimals takes a longer one; anything else is `MalformedDataError`.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Sequence

from capture_pipeline.binance.decimals import EIGHT_DECIMALS, PLACES, UNIT
from capture_pipeline.binance.streams.messages import Level
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.diffs import Diff

_DECIMAL = re.compile(rf"[0-9]{{1,30}}(?:\.[0-9]{{0,{PLACES}}}0*)?")
"""Wider than the exchange's own form: levels of other tools come here too."""
_USUAL = re.compile(rf"(?:{EIGHT_DECIMALS} )*+")
ZERO = "0.00000000"
_MOST_PRICES = 1 << 16
_prices: dict[str, int] = {}
"""Price texts parsed lately: they nearly always recur, and looking one up is a fifth of parsing it."""
_STALE_ALLOWED = 1024


def units(text: str) -> int:
    """A decimal in units of 1e-8, exactly: 268380000000 of `2683.80000000`.

    Raises:
        MalformedDataError: It is no plain decimal without sign and exponent, or has more than eight decimals.
    """
    digits = text[:-9] + text[-8:]
    if text[-9:-8] == "." and len(digits) > PLACES and digits.isascii() and digits.isdigit():
        return int(digits)
    if not _DECIMAL.fullmatch(text):
        raise MalformedDataError(
            f"{text[:40]!r} is no decimal of at most {PLACES} decimals",
            remedy="the message is damaged; record it anew",
        )
    whole, _, fraction = text.partition(".")
    return int(whole + fraction[:PLACES].ljust(PLACES, "0"))


def decimal_text(value: int) -> str:
    """The decimal as the exchange writes it: `2683.80000000` of 268380000000."""
    return f"{value // UNIT}.{value % UNIT:0{PLACES}d}"


class Side:
    """One side of a book.

    `rank` makes both sides alike: it is the price of an ask and the negated price of a bid, so that the best level has the least.

    Attributes:
        levels: Quantity by price; the quantity as text of eight decimals, for most are replaced without ever being read.
        sign: -1 of bids, +1 of asks.
        known: The highest rank up to which every level is known; None before a snapshot. Beyond it only what changed is known.
    """

    __slots__ = ("_heap", "known", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.levels: dict[int, str] = {}
        self.known: int | None = None
        self._heap: list[int] = []

    def apply(self, changes: Sequence[Level]) -> None:
        """Set levels to their new quantities; a quantity of zero removes one.

        Raises:
            MalformedDataError: A price or a quantity is no decimal; the levels before it are set.
        """
        if not changes:
            return
        levels, prices, heap, sign = self.levels, _prices, self._heap, self.sign
        if not _USUAL.fullmatch(" ".join([quantity for _, quantity in changes]) + " "):
            changes = [(price_text, decimal_text(units(quantity))) for price_text, quantity in changes]
        for price_text, quantity in changes:
            price = prices.get(price_text)
            if price is None:
                price = _learn(price_text)
            if quantity == ZERO:
                levels.pop(price, None)
                continue
            if price not in levels:
                heapq.heappush(heap, sign * price)
            levels[price] = quantity
        if len(heap) > 2 * len(levels) + _STALE_ALLOWED:
            self._sort()

    def load(self, listed: Sequence[Level]) -> None:
        """Take the levels of a snapshot: they replace ours as far as it reaches, those beyond it stay."""
        fresh = Side(self.sign)
        fresh.apply(listed)
        reach = fresh.reach()
        if reach is not None:
            beyond = {price: quantity for price, quantity in self.levels.items() if price * self.sign > reach}
            self.levels = beyond | fresh.levels
            self.known = reach if self.known is None else max(self.known, reach)
        else:
            self.levels = {}
        self._sort()

    def clear(self) -> None:
        """Forget everything."""
        self.levels, self._heap, self.known = {}, [], None

    def reach(self) -> int | None:
        """The rank of the worst level; None without levels."""
        if not self.levels:
            return None
        return max(self.levels) if self.sign > 0 else -min(self.levels)

    def best(self) -> int | None:
        """The best price; None without levels."""
        heap, levels, sign = self._heap, self.levels, self.sign
        while heap:
            price = heap[0] * sign
            if price in levels:
                return price
            heapq.heappop(heap)
        return None

    def quantity(self, price: int) -> int:
        """The quantity at a price, in units; 0 where there is no level."""
        return units(self.levels.get(price, ZERO))

    def top(self, count: int) -> list[tuple[int, int]]:
        """The best levels, best first, as (price, quantity)."""
        return [(price, self.quantity(price)) for price in self.ranked(count)]

    def ranked(self, count: int | None = None) -> list[int]:
        """The best prices, best first; all of them without `count`."""
        if count is None:
            return sorted(self.levels, reverse=self.sign < 0)
        return heapq.nsmallest(count, self.levels, key=lambda price: price * self.sign)

    def copy(self) -> Side:
        """An independent copy."""
        other = Side(self.sign)
        other.levels, other.known, other._heap = self.levels.copy(), self.known, self._heap.copy()
        return other

    def _sort(self) -> None:
        self._heap = [price * self.sign for price in self.levels]
        heapq.heapify(self._heap)


class Book:
    """Both sides.

    Attributes:
        bids: What buyers offer.
        asks: What sellers ask.
    """

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids, self.asks = Side(-1), Side(1)

    @property
    def sides(self) -> Iterable[Side]:
        """Bids and asks."""
        return self.bids, self.asks

    def apply(self, diff: Diff) -> None:
        """Set the levels of a diff.

        Raises:
            MalformedDataError: It holds what is no decimal; the levels before that are set.
        """
        self.bids.apply(diff.bids)
        self.asks.apply(diff.asks)

    def load(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Take a snapshot; what lies beyond its reach stays."""
        self.bids.load(bids)
        self.asks.load(asks)

    @property
    def crossed(self) -> bool:
        """Whether the best bid reaches the best ask, which no sound book does."""
        bid, ask = self.bids.best(), self.asks.best()
        return bid is not None and ask is not None and bid >= ask

    def best(self) -> tuple[int, int, int, int] | None:
        """Bid, its quantity, ask, its quantity, in units; None while a side is empty."""
        bid, ask = self.bids.best(), self.asks.best()
        if bid is None or ask is None:
            return None
        return bid, self.bids.quantity(bid), ask, self.asks.quantity(ask)

    def clear(self) -> None:
        """Forget everything."""
        self.bids.clear()
        self.asks.clear()

    def copy(self) -> Book:
        """An independent copy."""
        other = Book()
        other.bids, other.asks = self.bids.copy(), self.asks.copy()
        return other

    def settled(self) -> Book:
        """Itself: it is in numbers."""
        return self


def _learn(text: str) -> int:
    if len(_prices) >= _MOST_PRICES:
        _prices.clear()
    value = _prices[text] = units(text)
    return value
