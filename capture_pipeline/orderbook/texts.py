"""A book that is followed and seldom looked at: levels as the exchange's own texts, numbers only for those who ask.

Diffs are gathered first. Most levels lie near the touch and change again and again, so that of a few hundred diffs a fraction of the
levels is left to be looked at and set. A change costs a tenth of what it costs in `levels.Book`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from capture_pipeline.binance.decimals import EIGHT_DECIMALS
from capture_pipeline.binance.streams.messages import Level
from capture_pipeline.orderbook.diffs import Diff
from capture_pipeline.orderbook.levels import ZERO, Book, Side, decimal_text, units

MOST_GATHERED = 256
"""Diffs that wait to be set, some 25 seconds of a symbol."""
_USUAL = re.compile(rf"(?:{EIGHT_DECIMALS} )*+")
_ROOM = 4096


class TextSide:
    """One side of a book.

    Attributes:
        quantities: Quantity by price, both as texts of eight decimals; removed levels stay with a quantity of zero for a while.
        sign: -1 of bids, +1 of asks.
        known: The highest rank (see `levels.Side`) up to which every level is known; None before a snapshot.
    """

    __slots__ = ("_most", "known", "quantities", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.quantities: dict[str, str] = {}
        self.known: int | None = None
        self._most = _ROOM

    def apply(self, batches: Iterable[Sequence[Level]]) -> None:
        """Set levels to their new quantities, one batch after the other; a quantity of zero removes a level.

        Raises:
            MalformedDataError: A price or a quantity is no decimal; nothing is set.
        """
        changes: dict[str, str] = {}
        for batch in batches:
            changes.update(batch)
        if not _usual(changes) or not _usual(changes.values()):
            # The same price may be written in more ways than one: which one came last is only known before they were gathered.
            changes = {
                decimal_text(units(price)): decimal_text(units(quantity))
                for batch in batches
                for price, quantity in batch
            }
        self.quantities.update(changes)
        if len(self.quantities) > self._most:
            self.quantities = {
                price: quantity for price, quantity in self.quantities.items() if quantity != ZERO
            }
            self._most = 2 * len(self.quantities) + _ROOM

    def load(self, listed: Sequence[Level]) -> None:
        """Take the levels of a snapshot: they replace ours, also those beyond its reach, which are unknown from then on.

        Raises:
            MalformedDataError: A price or a quantity is no decimal; the side is empty then.
        """
        self.clear()
        self.apply([listed])
        self.known = self.settled().reach()

    def clear(self) -> None:
        """Forget everything."""
        self.quantities, self.known, self._most = {}, None, _ROOM

    def settled(self) -> Side:
        """The same side in numbers, independent of this one."""
        side = Side(self.sign)
        side.apply(list(self.quantities.items()))
        side.known = self.known
        return side

    def copy(self) -> TextSide:
        """An independent copy."""
        other = TextSide(self.sign)
        other.quantities, other.known, other._most = self.quantities.copy(), self.known, self._most
        return other


class TextBook:
    """Both sides, and the diffs that wait to be set."""

    __slots__ = ("_asks", "_bids", "_gathered")

    def __init__(self) -> None:
        self._bids, self._asks = TextSide(-1), TextSide(1)
        self._gathered: list[Diff] = []

    def apply(self, diff: Diff) -> None:
        """Take a diff; a few hundred of them are set together.

        Raises:
            MalformedDataError: This diff, or one that waited, holds what is no level; none of them is set.
        """
        self._gathered.append(diff)
        if len(self._gathered) >= MOST_GATHERED:
            self.settle()

    def settle(self) -> None:
        """Set what waits.

        Raises:
            MalformedDataError: A diff that waited holds what is no level; one side may be set.
        """
        gathered, self._gathered = self._gathered, []
        self._bids.apply([diff.bids for diff in gathered])
        self._asks.apply([diff.asks for diff in gathered])

    def load(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Take a snapshot; see `TextSide.load`.

        Raises:
            MalformedDataError: It holds what is no decimal.
        """
        self._gathered.clear()
        self._bids.load(bids)
        self._asks.load(asks)

    def clear(self) -> None:
        """Forget everything."""
        self._gathered.clear()
        self._bids.clear()
        self._asks.clear()

    def copy(self) -> TextBook:
        """An independent copy.

        Raises:
            MalformedDataError: See `settle`.
        """
        self.settle()
        other = TextBook()
        other._bids, other._asks = self._bids.copy(), self._asks.copy()
        return other

    def settled(self) -> Book:
        """The same book in numbers, independent of this one.

        Raises:
            MalformedDataError: See `settle`.
        """
        self.settle()
        book = Book()
        book.bids, book.asks = self._bids.settled(), self._asks.settled()
        return book


def _usual(texts: Iterable[str]) -> bool:
    """Whether all of them are decimals as the exchange writes them today, of eight decimals."""
    return _USUAL.fullmatch(" ".join(texts) + " ") is not None
