"""Data model of sources: diffs and snapshots of one symbol as integer arrays, in the order of arrival."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from math import gcd
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.orderbook.compiled.book import LevelBatch

Ints = NDArray[np.int64]
DIFF, SNAPSHOT = 0, 1
E8 = Decimal("1e-8")
"""Unit of prices and quantities in recordings and tables."""
KIND, CAPTURE, EVENT, FIRST, LAST, PREVIOUS, POSITION, ROWS = range(8)
"""Rows of `Messages.rows`.

- `KIND`: `DIFF` or `SNAPSHOT`
- `CAPTURE`: capture time, nanoseconds UTC
- `EVENT`: event time, microseconds UTC; 0 if unknown
- `FIRST`, `LAST`: first and last update id; for a snapshot its id in both
- `PREVIOUS`: last update id of the previous diff; -1 if it is not sent
- `POSITION`: ascending position in the source; for recordings the line
- `ROWS`: number of rows
"""


@dataclass(frozen=True)
class Scale:
    """Value of a tick and a lot.

    Attributes:
        tick: Price of one tick.
        lot: Quantity of one lot.
    """

    tick: Decimal
    lot: Decimal

    def price(self, ticks: int) -> Decimal:
        """Convert ticks to a price."""
        return self.tick * ticks

    def quantity(self, lots: int) -> Decimal:
        """Convert lots to a quantity."""
        return self.lot * lots


@dataclass(frozen=True)
class Messages:
    """Consecutive messages of one symbol.

    Attributes:
        rows: Array of shape `(ROWS, messages)`.
        batch: Levels of the messages, in ticks and lots.
        scale: Value of a tick and a lot; may differ from the scale of earlier messages.
    """

    rows: Ints
    batch: LevelBatch
    scale: Scale

    def __len__(self) -> int:
        """Return the number of messages."""
        return int(self.rows.shape[1])

    @property
    def level_count(self) -> int:
        """Number of level updates in all messages."""
        return int((self.batch.bounds[2] - self.batch.bounds[0]).sum())


class Source(Protocol):
    """Source of the messages of one symbol.

    Attributes:
        where: File or session, for error messages.
        symbol: Symbol in capitals.
    """

    where: str
    symbol: str

    def __iter__(self) -> Iterator[Messages]:
        """Iterate over the messages in pieces. A piece is valid until the next one is requested.

        Raises:
            MalformedDataError: The content is damaged or has another format; the error names file and
                position.
        """


def slice_view(messages: Messages, first: int, end: int) -> Messages:
    """Return the messages `first..end` as a view."""
    batch = messages.batch
    return Messages(
        messages.rows[:, first:end],
        LevelBatch(batch.bounds[:, first:end], batch.prices, batch.lots),
        messages.scale,
    )


def copy_slice(messages: Messages, first: int, end: int) -> Messages:
    """Return a copy of the messages `first..end`, which stays valid when the source continues."""
    bounds = messages.batch.bounds[:, first:end]
    start = int(bounds[0].min()) if bounds.size else 0
    stop = int(bounds[2].max()) if bounds.size else 0
    batch = LevelBatch(
        bounds - start, messages.batch.prices[start:stop].copy(), messages.batch.lots[start:stop].copy()
    )
    return Messages(messages.rows[:, first:end].copy(), batch, messages.scale)


def find_tick(prices: Iterable[Ints], known: int = 0) -> int:
    """Return the greatest common divisor of all prices and of `known`, the tick so far; 1 if all are 0."""
    tick = known
    for values in prices:
        tick = int(np.gcd.reduce(np.abs(values), initial=tick))
    return tick or 1


def common_scale(one: Scale, other: Scale) -> Scale:
    """Return the coarsest scale in which values of both scales are whole numbers."""
    return Scale(_greatest_divisor(one.tick, other.tick), _greatest_divisor(one.lot, other.lot))


def to_scale(messages: Messages, scale: Scale) -> Messages:
    """Convert messages to a scale that divides their own."""
    if messages.scale == scale:
        return messages
    by_tick, by_lot = int(messages.scale.tick / scale.tick), int(messages.scale.lot / scale.lot)
    batch = messages.batch
    return Messages(
        messages.rows, LevelBatch(batch.bounds, batch.prices * by_tick, batch.lots * by_lot), scale
    )


def _greatest_divisor(one: Decimal, other: Decimal) -> Decimal:
    """Return the greatest number of which both are multiples."""
    (a, b), (c, d) = one.as_integer_ratio(), other.as_integer_ratio()
    return Decimal(gcd(a * d, c * b)) / Decimal(b * d)
