"""An order book in exact integers: prices and quantities in units of 1e-8.

Levels arrive as decimal texts. The exchange sends eight decimals today, and such texts are parsed on a fast
path. Other texts with at most eight decimals are parsed on a slower path.
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
"""More general than the format of the exchange, because files of other tools are parsed too."""
_EIGHT_DECIMAL_TEXTS = re.compile(rf"(?:{EIGHT_DECIMALS} )*+")
ZERO = "0.00000000"
_MAX_CACHED_PRICES = 1 << 16
_price_cache: dict[str, int] = {}
"""Parsed price texts. Nearly all prices recur, and a look-up takes a fifth of the time of parsing."""
_MAX_STALE = 1024


def to_units(text: str) -> int:
    """Convert a decimal text to units of 1e-8, exactly: `2683.80000000` to 268380000000.

    Raises:
        MalformedDataError: The text has a sign, an exponent or more than eight decimals, or is not a decimal.
    """
    digits = text[:-9] + text[-8:]
    if text[-9:-8] == "." and len(digits) > PLACES and digits.isascii() and digits.isdigit():
        return int(digits)
    if not _DECIMAL.fullmatch(text):
        raise MalformedDataError(
            f"{text[:40]!r} is not a decimal number with at most {PLACES} decimals",
            remedy="the message is damaged; record it again",
        )
    whole, _, fraction = text.partition(".")
    return int(whole + fraction[:PLACES].ljust(PLACES, "0"))


def decimal_text(value: int) -> str:
    """Format units of 1e-8 as the exchange does: 268380000000 as `2683.80000000`."""
    return f"{value // UNIT}.{value % UNIT:0{PLACES}d}"


class Side:
    """One side of a book.

    The rank of a level is its price for asks and its negated price for bids: the best level of either side
    has the lowest rank.

    Attributes:
        levels: Quantity by price. The quantity is a text of eight decimals, because most are never read.
        sign: -1 for bids, +1 for asks.
        known_rank: Highest rank up to which every level is known; None before a snapshot. Beyond this rank
            only levels that diffs changed are known.
    """

    __slots__ = ("_heap", "known_rank", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.levels: dict[int, str] = {}
        self.known_rank: int | None = None
        self._heap: list[int] = []

    def apply(self, changes: Sequence[Level]) -> None:
        """Set levels to their new quantities. A quantity of zero removes the level.

        Raises:
            MalformedDataError: A price or a quantity is not a decimal. Earlier levels may be set already.
        """
        if not changes:
            return
        levels, prices, heap, sign = self.levels, _price_cache, self._heap, self.sign
        if not _EIGHT_DECIMAL_TEXTS.fullmatch(" ".join([quantity for _, quantity in changes]) + " "):
            changes = [(price_text, decimal_text(to_units(quantity))) for price_text, quantity in changes]
        for price_text, quantity in changes:
            price = prices.get(price_text)
            if price is None:
                price = _parse_price(price_text)
            if quantity == ZERO:
                levels.pop(price, None)
                continue
            if price not in levels:
                heapq.heappush(heap, sign * price)
            levels[price] = quantity
        if len(heap) > 2 * len(levels) + _MAX_STALE:
            self._sort()

    def load(self, listed: Sequence[Level]) -> None:
        """Load a snapshot: it replaces all levels up to its worst price. Levels beyond that price stay."""
        snapshot = Side(self.sign)
        snapshot.apply(listed)
        worst = snapshot.worst_rank()
        if worst is not None:
            beyond = {price: quantity for price, quantity in self.levels.items() if price * self.sign > worst}
            self.levels = beyond | snapshot.levels
            self.known_rank = worst if self.known_rank is None else max(self.known_rank, worst)
        else:
            self.levels = {}
        self._sort()

    def clear(self) -> None:
        self.levels, self._heap, self.known_rank = {}, [], None

    def worst_rank(self) -> int | None:
        """Return the rank of the worst level; None if there are no levels."""
        if not self.levels:
            return None
        return max(self.levels) if self.sign > 0 else -min(self.levels)

    def best(self) -> int | None:
        """Return the best price; None if there are no levels."""
        heap, levels, sign = self._heap, self.levels, self.sign
        while heap:
            price = heap[0] * sign
            if price in levels:
                return price
            heapq.heappop(heap)
        return None

    def quantity(self, price: int) -> int:
        """Return the quantity at a price, in units of 1e-8; 0 if there is no such level."""
        return to_units(self.levels.get(price, ZERO))

    def top(self, count: int) -> list[tuple[int, int]]:
        """Return the best levels, best first, as (price, quantity)."""
        return [(price, self.quantity(price)) for price in self.sorted_prices(count)]

    def sorted_prices(self, count: int | None = None) -> list[int]:
        """Return the best prices, best first; all prices if `count` is None."""
        if count is None:
            return sorted(self.levels, reverse=self.sign < 0)
        return heapq.nsmallest(count, self.levels, key=lambda price: price * self.sign)

    def copy(self) -> Side:
        other = Side(self.sign)
        other.levels, other.known_rank, other._heap = self.levels.copy(), self.known_rank, self._heap.copy()
        return other

    def _sort(self) -> None:
        self._heap = [price * self.sign for price in self.levels]
        heapq.heapify(self._heap)


class Book:
    """Bids and asks of one symbol."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids, self.asks = Side(-1), Side(1)

    @property
    def sides(self) -> Iterable[Side]:
        """Bids, then asks."""
        return self.bids, self.asks

    def apply(self, diff: Diff) -> None:
        """Set the levels of a diff.

        Raises:
            MalformedDataError: A price or a quantity is not a decimal. Earlier levels may be set already.
        """
        self.bids.apply(diff.bids)
        self.asks.apply(diff.asks)

    def load(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Load a snapshot; see `Side.load`."""
        self.bids.load(bids)
        self.asks.load(asks)

    @property
    def crossed(self) -> bool:
        """True if the best bid is not below the best ask, which is impossible in a correct book."""
        bid, ask = self.bids.best(), self.asks.best()
        return bid is not None and ask is not None and bid >= ask

    def best(self) -> tuple[int, int, int, int] | None:
        """Return best bid, its quantity, best ask, its quantity, in units of 1e-8; None if one is missing."""
        bid, ask = self.bids.best(), self.asks.best()
        if bid is None or ask is None:
            return None
        return bid, self.bids.quantity(bid), ask, self.asks.quantity(ask)

    def clear(self) -> None:
        self.bids.clear()
        self.asks.clear()

    def copy(self) -> Book:
        other = Book()
        other.bids, other.asks = self.bids.copy(), self.asks.copy()
        return other

    def to_numbers(self) -> Book:
        """Return the book itself, which has numbers already; counterpart of `TextBook.to_numbers`."""
        return self


def _parse_price(text: str) -> int:
    if len(_price_cache) >= _MAX_CACHED_PRICES:
        _price_cache.clear()
    value = _price_cache[text] = to_units(text)
    return value
