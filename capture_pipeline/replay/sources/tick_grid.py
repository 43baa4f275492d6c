"""Helpers for files of other vendors: conversion of values to ticks, and grouping of rows into messages."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.replay.messages import find_tick

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
MAX_DECIMALS = 12
"""Maximum number of decimals of a price or a quantity."""
_MAX_INT64 = 2**63 - 1


class Grid:
    """Tick of the prices, or of the quantities, of a file.

    Without a known tick, the tick is the greatest value of which all values so far are multiples. A file is
    read once: a value between two ticks makes the tick smaller from its block on. With a known tick such a
    value is an error.
    """

    def __init__(self, where: str, what: str, known: Decimal | None = None) -> None:
        """Start without values.

        Args:
            where: File, for error messages.
            what: `price` or `quantity`, for error messages.
            known: Value of one tick; None to derive it from the values.
        """
        self._where, self._what, self._known = where, what, known
        self._places = 0 if known is None else max(0, -int(known.normalize().as_tuple().exponent))
        self._step = 0 if known is None else int(known.scaleb(self._places))

    @property
    def places(self) -> int:
        """Number of decimals so far."""
        return self._places

    @property
    def unit_value(self) -> Decimal:
        """Value of one tick so far."""
        return Decimal(self._step or 1).scaleb(-self._places)

    def ticks(self, units: Ints, places: int) -> Ints:
        """Convert values to ticks. Without a known tick, the tick may become smaller.

        Args:
            units: Values in units of `10**-places`.
            places: Number of decimals.

        Raises:
            MalformedDataError: A value is not a multiple of the known tick, or does not fit 64 bits.
        """
        if places > self._places:
            self._step *= 10 ** (places - self._places)
            self._places = places
        factor = 10 ** (self._places - places)
        if units.size and int(np.abs(units).max()) > _MAX_INT64 // factor:
            raise MalformedDataError(
                f"contains a {self._what} that does not fit 64 bits",
                where=self._where,
                remedy="check the file",
            )
        units = units * factor
        if self._known is not None:
            self._check_multiples(units)
        elif self._step or units.any():
            self._step = find_tick([units], self._step)
        return units // (self._step or 1)

    def _check_multiples(self, units: Ints) -> None:
        between = np.flatnonzero(units % self._step)
        if between.size:
            value = Decimal(int(units[between[0]])).scaleb(-self._places)
            remedy = "give the tick that the exchange used at that time, or no tick"
            raise MalformedDataError(
                f"contains the {self._what} {value}, which is not a multiple of {self._known}",
                where=self._where,
                remedy=remedy,
            )


def find_run_starts(*columns: NDArray[np.generic]) -> Ints:
    """Return the rows that differ from the previous row in at least one column, including the first row."""
    size = columns[0].size
    differs = np.zeros(size, np.bool_)
    differs[:1] = True
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(differs).astype(np.int64)


class LevelOrder(NamedTuple):
    """Bounds as in `LevelBatch`, and the order of levels that puts bids first; None if they have it."""

    bounds: Ints
    order: Ints | None


def order_bids_first(starts: Ints, asks: Flags) -> LevelOrder:
    """Compute the bounds of messages with bids before asks.

    Args:
        starts: First level of each message; each message has at least one level.
        asks: True for each level that is an ask.
    """
    ends = np.append(starts[1:], asks.size).astype(np.int64)
    number = np.repeat(np.arange(starts.size), ends - starts)
    is_unordered = (asks[:-1] & ~asks[1:] & (number[:-1] == number[1:])).any()
    bids = np.bincount(number[~asks], minlength=starts.size)
    bounds = np.stack([starts, starts + bids, ends]).astype(np.int64)
    return LevelOrder(bounds, np.lexsort((asks, number)) if is_unordered else None)
