"""What readers of foreign files share: values laid on a grid of ticks or lots that only gets finer, and rows gathered into messages."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.replay.messages import tick_of

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
MOST_PLACES = 12
"""Decimals that a price or a quantity may have."""
_MOST = 2**63 - 1


class Grid:
    """Of what value all prices, or all quantities, of a file are multiples, as far as it was read.

    A file is read once, so the grid is that of the values so far: a value that lies between makes it finer from its block on. Where the
    tick in force is known it is given, and a value that lies between is refused instead.
    """

    def __init__(self, where: str, what: str, known: Decimal | None = None) -> None:
        """Begin.

        Args:
            where: File, for errors.
            what: `price` or `quantity`, likewise.
            known: What one tick is worth; None takes the greatest value of which all are multiples.
        """
        self._where, self._what, self._known = where, what, known
        self._places = 0 if known is None else max(0, -int(known.normalize().as_tuple().exponent))
        self._step = 0 if known is None else int(known.scaleb(self._places))

    @property
    def places(self) -> int:
        """Decimals of the grid so far."""
        return self._places

    @property
    def worth(self) -> Decimal:
        """Of one tick."""
        return Decimal(self._step or 1).scaleb(-self._places)

    def ticks(self, units: Ints, places: int) -> Ints:
        """Values in ticks; the grid is finer afterwards where one of them lay between.

        Args:
            units: In units of `10**-places`.
            places: Decimals.

        Raises:
            MalformedDataError: A value is no multiple of the known tick, or 64 bits do not hold it.
        """
        if places > self._places:
            self._step *= 10 ** (places - self._places)
            self._places = places
        factor = 10 ** (self._places - places)
        if units.size and int(np.abs(units).max()) > _MOST // factor:
            raise MalformedDataError(
                f"holds a {self._what} that 64 bits do not hold", where=self._where, remedy="look at the file"
            )
        units = units * factor
        if self._known is not None:
            self._refuse_between(units)
        elif self._step or units.any():
            self._step = tick_of([units], self._step)
        return units // (self._step or 1)

    def _refuse_between(self, units: Ints) -> None:
        between = np.flatnonzero(units % self._step)
        if between.size:
            value = Decimal(int(units[between[0]])).scaleb(-self._places)
            remedy = "give the tick that was in force, or none"
            raise MalformedDataError(
                f"holds the {self._what} {value}, no multiple of {self._known}",
                where=self._where,
                remedy=remedy,
            )


def runs_of(*columns: NDArray[np.generic]) -> Ints:
    """Where rows begin that differ from the row before in one of some columns; the first row is one."""
    size = columns[0].size
    differs = np.zeros(size, np.bool_)
    differs[:1] = True
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(differs).astype(np.int64)


def bids_first(starts: Ints, asks: Flags) -> tuple[Ints, Ints | None]:
    """Bounds of messages whose levels stand one message after the other, bids before asks.

    Args:
        starts: First level of each message; each has at least one.
        asks: Of each level whether it is an ask.

    Returns:
        `(3, messages)` as in `Run`, and the order that puts bids first; None where they stand so already.
    """
    ends = np.append(starts[1:], asks.size).astype(np.int64)
    number = np.repeat(np.arange(starts.size), ends - starts)
    moved = (asks[:-1] & ~asks[1:] & (number[:-1] == number[1:])).any()
    bids = np.bincount(number[~asks], minlength=starts.size)
    bounds = np.stack([starts, starts + bids, ends]).astype(np.int64)
    return bounds, np.lexsort((asks, number)) if moved else None
