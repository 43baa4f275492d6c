"""One side of a book: prices and quantities as texts of eight decimals, and as units of 1e-8.

The exchange sends eight decimals today, so that its texts are used as they are. Other texts with at most
eight decimals are converted first.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from capture_pipeline.binance.decimals import EIGHT_DECIMALS, PLACES, UNIT
from capture_pipeline.binance.streams.messages import Level
from capture_pipeline.errors import MalformedDataError

N = TypeVar("N")
T = TypeVar("T")
_Heap = list[tuple[int, str]]
"""Ranks and prices. They have no names, because an entry with names takes seven times as long to create."""
_DECIMAL = re.compile(rf"[0-9]{{1,30}}(?:\.[0-9]{{0,{PLACES}}}0*)?")
"""More general than the format of the exchange, because files of other tools are parsed too."""
_EIGHT_DECIMAL_TEXTS = re.compile(rf"(?:{EIGHT_DECIMALS} )*+")
ZERO = "0.00000000"
_MAX_CACHED_PRICES = 1 << 16
_price_cache: dict[str, int] = {}
"""Parsed price texts. Nearly all prices recur, and a look-up takes a fifth of the time of parsing."""
_MAX_REMOVED = 4096


class PriceLevel(NamedTuple):
    """Price and quantity of a level, in units of 1e-8."""

    price: int
    quantity: int


class BestQuotes(NamedTuple, Generic[N]):
    """Best price of each side, and its quantity."""

    bid: N
    bid_quantity: N
    ask: N
    ask_quantity: N


class BookSides(NamedTuple, Generic[T]):
    """A value for each side of a book."""

    bids: T
    asks: T


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

        _quantities   {"10.00000000": "2.00000000",    a level
                       "10.50000000": "0.00000000"}    a removed level, which stays until it would be the
                                                       best one or until a compaction
        _heap         [(1000000000, "10.00000000"),    rank and price of each entry of `_quantities`, the
                       (1050000000, "10.50000000")]    lowest rank first; None until the best level is read

    Attributes:
        sign: -1 for bids, +1 for asks.
        known_rank: Highest rank up to which every level is known; None before a snapshot. Beyond this rank
            only levels that diffs changed are known.
    """

    __slots__ = ("_compact_above", "_heap", "_quantities", "known_rank", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.known_rank: int | None = None
        self._quantities: dict[str, str] = {}
        self._heap: _Heap | None = None
        self._compact_above = _MAX_REMOVED

    @property
    def levels(self) -> dict[int, str]:
        """A new dictionary: quantity, as a text of eight decimals, by price in units of 1e-8."""
        return {
            _parse_price(price): quantity for price, quantity in self._quantities.items() if quantity != ZERO
        }

    def apply(self, *batches: Sequence[Level]) -> None:
        """Set levels to their new quantities, in the order of the batches. Quantity zero removes a level.

        Raises:
            MalformedDataError: A price or a quantity is not a decimal. No level is set.
        """
        changes: dict[str, str] = {}
        for batch in batches:
            changes.update(batch)
        if not _have_eight_decimals(changes) or not _have_eight_decimals(changes.values()):
            # One price may have several texts. Converting in the order of arrival keeps the latest quantity.
            changes = {
                decimal_text(to_units(price)): decimal_text(to_units(quantity))
                for batch in batches
                for price, quantity in batch
            }
        if self._heap is not None:
            quantities = self._quantities
            for price in [price for price in changes if price not in quantities]:
                if changes[price] == ZERO:
                    del changes[price]
                else:
                    heapq.heappush(self._heap, (self.sign * _parse_price(price), price))
        self._quantities.update(changes)
        if len(self._quantities) > self._compact_above:
            self._compact()

    def load(self, listed: Sequence[Level]) -> None:
        """Replace all levels by those of a snapshot.

        Raises:
            MalformedDataError: A price or a quantity is not a decimal. The side is empty afterwards.
        """
        self.clear()
        self.apply(listed)
        self.known_rank = self.worst_rank()

    def merge(self, listed: Sequence[Level]) -> None:
        """Replace all levels up to the worst price of a snapshot. Levels beyond that price stay.

        Raises:
            MalformedDataError: A price or a quantity is not a decimal. No level is changed.
        """
        snapshot = Side(self.sign)
        snapshot.load(listed)
        worst, known = snapshot.known_rank, self.known_rank
        if worst is not None:
            beyond = {
                price: quantity
                for price, quantity in self._quantities.items()
                if _parse_price(price) * self.sign > worst
            }
            snapshot._quantities = beyond | snapshot._quantities
            known = worst if known is None else max(known, worst)
        self._quantities, self._heap, self.known_rank = snapshot._quantities, None, known

    def clear(self) -> None:
        self._quantities, self._heap, self.known_rank = {}, None, None
        self._compact_above = _MAX_REMOVED

    def worst_rank(self) -> int | None:
        """Return the rank of the worst level; None if there are no levels."""
        return max((price * self.sign for price in self.levels), default=None)

    def best(self) -> int | None:
        """Return the best price; None if there are no levels."""
        level = self.best_level()
        return None if level is None else level.price

    def best_level(self) -> PriceLevel | None:
        """Return the best level; None if there are no levels."""
        heap, quantities = self._ranked(), self._quantities
        while heap:
            rank, price = heap[0]
            quantity = quantities[price]
            if quantity != ZERO:
                return PriceLevel(rank * self.sign, to_units(quantity))
            heapq.heappop(heap)
            del quantities[price]
        return None

    def quantity(self, price: int) -> int:
        """Return the quantity at a price, in units of 1e-8; 0 if there is no such level."""
        return to_units(self._quantities.get(decimal_text(price), ZERO))

    def top(self, count: int | None) -> list[PriceLevel]:
        """Return the best levels, best first; all levels if `count` is None."""
        return [PriceLevel(price, self.quantity(price)) for price in self.sorted_prices(count)]

    def sorted_prices(self, count: int | None = None) -> list[int]:
        """Return the best prices, best first; all prices if `count` is None."""
        if count is None:
            return sorted(self.levels, reverse=self.sign < 0)
        heap, found = self._ranked().copy(), list[int]()
        while heap and len(found) < count:
            rank, price = heapq.heappop(heap)
            if self._quantities[price] != ZERO:
                found.append(rank * self.sign)
        return found

    def copy(self) -> Side:
        other = Side(self.sign)
        other._quantities, other.known_rank = self._quantities.copy(), self.known_rank
        other._compact_above = self._compact_above
        return other

    def _ranked(self) -> _Heap:
        """Return the heap; build it if the levels were replaced or compacted since the last read."""
        if self._heap is None:
            self._compact()
            self._heap = [(self.sign * _parse_price(price), price) for price in self._quantities]
            heapq.heapify(self._heap)
        return self._heap

    def _compact(self) -> None:
        self._quantities = {
            price: quantity for price, quantity in self._quantities.items() if quantity != ZERO
        }
        self._compact_above = 2 * len(self._quantities) + _MAX_REMOVED
        self._heap = None


def _parse_price(text: str) -> int:
    """Convert a price to units of 1e-8, with a cache of texts of eight decimals."""
    value = _price_cache.get(text)
    if value is None:
        value = to_units(text)
        if len(_price_cache) >= _MAX_CACHED_PRICES:
            _price_cache.clear()
        _price_cache[decimal_text(value)] = value
    return value


def _have_eight_decimals(texts: Iterable[str]) -> bool:
    """Return True if all texts are decimals with eight decimals, as the exchange sends them today."""
    return _EIGHT_DECIMAL_TEXTS.fullmatch(" ".join(texts) + " ") is not None
