"""The one form in which sources hand over diffs and snapshots: integers, in the order in which they came, one symbol at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from math import gcd
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.replay.compiled.book import LevelBatch

Ints = NDArray[np.int64]
DIFF, SNAPSHOT = 0, 1
E8 = Decimal("1e-8")
"""The unit of the exchange's own prices and quantities."""
KIND, CAPTURE, EVENT, FIRST, LAST, PREVIOUS, PLACE, ROWS = range(8)
"""Rows of `Messages.rows`: `DIFF` or `SNAPSHOT`; capture time, nanoseconds UTC; event time, microseconds UTC, 0 where there is none; first
and last update id (of a snapshot its id, twice); the predecessor's last id, -1 where none is sent; place in the source, ascending."""


@dataclass(frozen=True)
class Scale:
    """What ticks and lots are worth.

    Attributes:
        tick: Price of one tick.
        lot: Quantity of one lot.
    """

    tick: Decimal
    lot: Decimal

    def price(self, ticks: int) -> Decimal:
        """A price, exactly."""
        return self.tick * ticks

    def quantity(self, lots: int) -> Decimal:
        """A quantity, exactly."""
        return self.lot * lots


@dataclass(frozen=True)
class Messages:
    """Some messages of one symbol.

    Attributes:
        rows: `(ROWS, messages)`.
        run: Their levels, in ticks and lots; a snapshot lists every level of the book as far as it reaches.
        scale: What ticks and lots are worth; may differ from that of the messages before.
    """

    rows: Ints
    run: LevelBatch
    scale: Scale

    def __len__(self) -> int:
        """How many."""
        return int(self.rows.shape[1])

    @property
    def levels(self) -> int:
        """How many level updates they hold."""
        return int((self.run.bounds[2] - self.run.bounds[0]).sum())


class Source(Protocol):
    """Where messages come from.

    Attributes:
        where: File or session, for errors.
        symbol: In capitals.
    """

    where: str
    symbol: str

    def __iter__(self) -> Iterator[Messages]:
        """The messages, in pieces that are valid until the next one is asked for.

        Raises:
            MalformedDataError: What is there is not what it should be; file and place are named.
        """


def slice_view(messages: Messages, first: int, end: int) -> Messages:
    """Some of the messages, as a view."""
    run = messages.run
    return Messages(
        messages.rows[:, first:end],
        LevelBatch(run.bounds[:, first:end], run.prices, run.lots),
        messages.scale,
    )


def copy_slice(messages: Messages, first: int, end: int) -> Messages:
    """A copy of some messages that stays valid."""
    bounds = messages.run.bounds[:, first:end]
    start = int(bounds[0].min()) if bounds.size else 0
    stop = int(bounds[2].max()) if bounds.size else 0
    run = LevelBatch(
        bounds - start, messages.run.prices[start:stop].copy(), messages.run.lots[start:stop].copy()
    )
    return Messages(messages.rows[:, first:end].copy(), run, messages.scale)


def tick_of(prices: Iterable[Ints], known: int = 0) -> int:
    """The greatest tick, in units, of which all prices are multiples; `known` is the one so far. 1 where no price is above 0."""
    tick = known
    for some in prices:
        tick = int(np.gcd.reduce(np.abs(some), initial=tick))
    return tick or 1


def common_scale(one: Scale, other: Scale) -> Scale:
    """The coarsest scale of which both are multiples."""
    return Scale(_common(one.tick, other.tick), _common(one.lot, other.lot))


def to_scale(messages: Messages, scale: Scale) -> Messages:
    """The same messages in a scale of which theirs is a multiple."""
    if messages.scale == scale:
        return messages
    by_tick, by_lot = int(messages.scale.tick / scale.tick), int(messages.scale.lot / scale.lot)
    run = messages.run
    return Messages(messages.rows, LevelBatch(run.bounds, run.prices * by_tick, run.lots * by_lot), scale)


def _common(one: Decimal, other: Decimal) -> Decimal:
    """The greatest number of which both are multiples."""
    (a, b), (c, d) = one.as_integer_ratio(), other.as_integer_ratio()
    return Decimal(gcd(a * d, c * b)) / Decimal(b * d)
