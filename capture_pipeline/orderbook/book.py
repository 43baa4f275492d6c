"""Reference order book in plain Python: exact, for recorder and validation.

`compiled.book.TickBook` is the book for replays, with the same operations `load`, `apply`, `best` and `top`.

Diffs are collected and applied in batches. Most changes are to the same few levels near the best price, so
that a batch sets each of them only once. The recorder rarely reads its books and uses large batches; a book
that is read after each diff has a batch of one.
"""

from __future__ import annotations

from collections.abc import Sequence

from capture_pipeline.binance.streams.messages import Level
from capture_pipeline.orderbook.diffs import Diff
from capture_pipeline.orderbook.levels import BestQuotes, BookSides, PriceLevel, Side


class Book:
    """Bids and asks of one symbol, and the diffs that are not applied yet."""

    __slots__ = ("_asks", "_bids", "_is_pruned", "_max_pending", "_pending")

    def __init__(self, max_pending: int = 1, *, is_pruned: bool = False) -> None:
        """Create an empty book.

        Args:
            max_pending: Diffs in a batch.
            is_pruned: True if `refresh` removes all earlier levels, which bounds the memory; otherwise levels
                that the snapshot does not reach stay.
        """
        self._bids, self._asks = Side(-1), Side(1)
        self._max_pending, self._is_pruned = max_pending, is_pruned
        self._pending: list[Diff] = []

    @property
    def bids(self) -> Side:
        """The bids, with all diffs applied.

        Raises:
            MalformedDataError: See `apply_pending`.
        """
        self.apply_pending()
        return self._bids

    @property
    def asks(self) -> Side:
        """The asks, with all diffs applied.

        Raises:
            MalformedDataError: See `apply_pending`.
        """
        self.apply_pending()
        return self._asks

    def apply(self, diff: Diff) -> None:
        """Add a diff to the batch; a full batch is applied.

        Raises:
            MalformedDataError: See `apply_pending`.
        """
        if self._max_pending == 1:
            self._bids.apply(diff.bids)
            self._asks.apply(diff.asks)
            return
        self._pending.append(diff)
        if len(self._pending) >= self._max_pending:
            self.apply_pending()

    def apply_pending(self) -> None:
        """Apply the collected diffs.

        Raises:
            MalformedDataError: A price or a quantity of a diff is not a decimal. The batch is discarded; its
                bids may be applied already.
        """
        if self._pending:
            pending, self._pending = self._pending, []
            self._bids.apply(*[diff.bids for diff in pending])
            self._asks.apply(*[diff.asks for diff in pending])

    def load(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Replace all levels by those of a snapshot.

        Raises:
            MalformedDataError: A price or a quantity of the snapshot is not a decimal.
        """
        self._pending.clear()
        self._bids.load(bids)
        self._asks.load(asks)

    def refresh(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Replace the levels that a snapshot reaches; for levels beyond it see `is_pruned`.

        Raises:
            MalformedDataError: A price or a quantity is not a decimal.
        """
        if self._is_pruned:
            self.load(bids, asks)
        else:
            self.bids.merge(bids)
            self.asks.merge(asks)

    def best(self) -> BestQuotes[int] | None:
        """Return the best prices and quantities, in units of 1e-8; None if a side is empty.

        Raises:
            MalformedDataError: See `apply_pending`.
        """
        bid, ask = self.bids.best_level(), self._asks.best_level()
        return None if bid is None or ask is None else BestQuotes(*bid, *ask)

    def top(self, count: int | None = None) -> BookSides[list[PriceLevel]]:
        """Return the best bids and asks, best first; all levels if `count` is None.

        Raises:
            MalformedDataError: See `apply_pending`.
        """
        return BookSides(self.bids.top(count), self.asks.top(count))

    @property
    def crossed(self) -> bool:
        """True if the best bid is not below the best ask, which is impossible in a correct book."""
        best = self.best()
        return best is not None and best.bid >= best.ask

    def copy(self) -> Book:
        """Return an independent copy.

        Raises:
            MalformedDataError: See `apply_pending`.
        """
        other = Book(self._max_pending, is_pruned=self._is_pruned)
        other._bids, other._asks = self.bids.copy(), self._asks.copy()
        return other
