"""An order book for frequent updates and rare reads: levels are kept as the texts of the exchange.

Diffs are collected and applied in batches. Most changes are to the same few levels near the best price, so
that a batch sets each of them only once. A change takes a tenth of the time that it takes in `levels.Book`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from capture_pipeline.binance.decimals import EIGHT_DECIMALS
from capture_pipeline.binance.streams.messages import Level
from capture_pipeline.orderbook.diffs import Diff
from capture_pipeline.orderbook.levels import ZERO, Book, Side, decimal_text, to_units

MAX_PENDING = 256
"""Diffs in a batch: about 25 seconds of one symbol."""
_EIGHT_DECIMAL_TEXTS = re.compile(rf"(?:{EIGHT_DECIMALS} )*+")
_COMPACT_MARGIN = 4096


class TextSide:
    """One side of a book.

    Attributes:
        quantities: Quantity by price, both as texts of eight decimals. Removed levels have a quantity of zero
            until the next compaction.
        sign: -1 for bids, +1 for asks.
        known_rank: Highest rank (see `levels.Side`) up to which every level is known; None before a snapshot.
    """

    __slots__ = ("_compact_above", "known_rank", "quantities", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.quantities: dict[str, str] = {}
        self.known_rank: int | None = None
        self._compact_above = _COMPACT_MARGIN

    def apply(self, batches: Iterable[Sequence[Level]]) -> None:
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
        self.quantities.update(changes)
        if len(self.quantities) > self._compact_above:
            self.quantities = {
                price: quantity for price, quantity in self.quantities.items() if quantity != ZERO
            }
            self._compact_above = 2 * len(self.quantities) + _COMPACT_MARGIN

    def load(self, listed: Sequence[Level]) -> None:
        """Load a snapshot: its levels replace all levels of this side.

        Raises:
            MalformedDataError: A price or a quantity is not a decimal. The side is empty afterwards.
        """
        self.clear()
        self.apply([listed])
        self.known_rank = self.to_numbers().worst_rank()

    def clear(self) -> None:
        self.quantities, self.known_rank, self._compact_above = {}, None, _COMPACT_MARGIN

    def to_numbers(self) -> Side:
        """Return an independent copy of this side in numbers."""
        side = Side(self.sign)
        side.apply(list(self.quantities.items()))
        side.known_rank = self.known_rank
        return side

    def copy(self) -> TextSide:
        other = TextSide(self.sign)
        other.quantities, other.known_rank, other._compact_above = (
            self.quantities.copy(),
            self.known_rank,
            self._compact_above,
        )
        return other


class TextBook:
    """Both sides, and the diffs that are not applied yet."""

    __slots__ = ("_asks", "_bids", "_pending")

    def __init__(self) -> None:
        self._bids, self._asks = TextSide(-1), TextSide(1)
        self._pending: list[Diff] = []

    def apply(self, diff: Diff) -> None:
        """Add a diff to the batch; a full batch is applied.

        Raises:
            MalformedDataError: See `apply_pending`.
        """
        self._pending.append(diff)
        if len(self._pending) >= MAX_PENDING:
            self.apply_pending()

    def apply_pending(self) -> None:
        """Apply the collected diffs.

        Raises:
            MalformedDataError: A price or a quantity of a diff is not a decimal. The batch is discarded; its
                bids may be applied already.
        """
        pending, self._pending = self._pending, []
        self._bids.apply([diff.bids for diff in pending])
        self._asks.apply([diff.asks for diff in pending])

    def load(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Load a snapshot; see `TextSide.load`.

        Raises:
            MalformedDataError: A price or a quantity of the snapshot is not a decimal.
        """
        self._pending.clear()
        self._bids.load(bids)
        self._asks.load(asks)

    def clear(self) -> None:
        self._pending.clear()
        self._bids.clear()
        self._asks.clear()

    def copy(self) -> TextBook:
        """Return an independent copy.

        Raises:
            MalformedDataError: See `apply_pending`.
        """
        self.apply_pending()
        other = TextBook()
        other._bids, other._asks = self._bids.copy(), self._asks.copy()
        return other

    def to_numbers(self) -> Book:
        """Return an independent copy of this book in numbers.

        Raises:
            MalformedDataError: See `apply_pending`.
        """
        self.apply_pending()
        book = Book()
        book.bids, book.asks = self._bids.to_numbers(), self._asks.to_numbers()
        return book


def _have_eight_decimals(texts: Iterable[str]) -> bool:
    """Return True if all texts are decimals with eight decimals, as the exchange sends them today."""
    return _EIGHT_DECIMAL_TEXTS.fullmatch(" ".join(texts) + " ") is not None
