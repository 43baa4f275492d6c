"""Messages of Crypto Lake's tables with prices as floats: merging of tables, conversion to exact decimals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.replay.sources.tick_grid import MAX_DECIMALS, Ints

Floats = NDArray[np.float64]
_NOISE, _OFF = 2.0**-51, 1e-6
_MAX_UNITS = 1e15
"""A float64 represents every decimal of fifteen digits unambiguously."""


@dataclass(frozen=True)
class Part:
    """Consecutive messages of one table.

    Attributes:
        rows: As in `Messages`.
        bounds: As in `LevelBatch`; the levels are in the order of the messages.
        prices: Prices of the levels.
        sizes: Quantities of the levels.
        key: Highest capture time up to each message. Tables are merged by this key, so that each keeps its
            order.
    """

    rows: Ints
    bounds: Ints
    prices: Floats
    sizes: Floats
    key: Ints

    def __len__(self) -> int:
        """Return the number of messages."""
        return self.key.size

    def cut(self, first: int, end: int) -> Part:
        """Return the messages `first..end`."""
        bounds = self.bounds[:, first:end]
        start, stop = (int(bounds[0, 0]), int(bounds[2, -1])) if end > first else (0, 0)
        return Part(
            self.rows[:, first:end],
            bounds - start,
            self.prices[start:stop],
            self.sizes[start:stop],
            self.key[first:end],
        )


def merge_parts(first: Iterator[Part], second: Iterator[Part]) -> Iterator[Part]:
    """Merge two tables by key; for equal keys the first table comes first. One part of each is in memory."""
    one, two = next(first, None), next(second, None)
    while one is not None and two is not None:
        one_end, two_end = _count_mergeable(one, two)
        yield _join_parts(one.cut(0, one_end), two.cut(0, two_end))
        one = one.cut(one_end, len(one)) if one_end < len(one) else next(first, None)
        two = two.cut(two_end, len(two)) if two_end < len(two) else next(second, None)
    for rest, more in ((one, first), (two, second)):
        if rest is not None:
            yield rest
            yield from more


class _Mergeable(NamedTuple):
    """Number of messages of each part."""

    first: int
    second: int


def _count_mergeable(one: Part, two: Part) -> _Mergeable:
    """Count the messages that no later part can precede: all of one part, some of the other."""
    if one.key[-1] <= two.key[-1]:
        return _Mergeable(len(one), int(np.searchsorted(two.key, one.key[-1], side="left")))
    return _Mergeable(int(np.searchsorted(one.key, two.key[-1], side="right")), len(two))


def _join_parts(one: Part, two: Part) -> Part:
    """Join two parts in the order of their keys."""
    if not len(two):
        return one
    key = np.concatenate([one.key, two.key])
    order = np.argsort(key, kind="stable")
    starts, middles, ends = np.concatenate([one.bounds, two.bounds + one.prices.size], axis=1)[:, order]
    lengths = ends - starts
    places = np.append(0, np.cumsum(lengths))
    at = np.repeat(starts - places[:-1], lengths) + np.arange(places[-1])
    return Part(
        np.concatenate([one.rows, two.rows], axis=1)[:, order],
        np.stack([places[:-1], places[:-1] + middles - starts, places[1:]]).astype(np.int64),
        np.concatenate([one.prices, two.prices])[at],
        np.concatenate([one.sizes, two.sizes])[at],
        key[order],
    )


class Decimals(NamedTuple):
    """Values in units of `10**-places`, and the number of decimals."""

    units: Ints
    places: int


def to_decimals(values: Floats, where: str, what: str, places: int = 0) -> Decimals:
    """Convert floats to the decimals that they represent.

    All values get the same number of decimals, the smallest one that fits. A decimal fits if the float is the
    nearest one to it, or if they differ by at most 1e-6 of the last decimal and four units in the last place
    of the float. The latter allows for the rounding error of an addition.

    Args:
        values: Prices or quantities.
        where: File, for error messages.
        what: `price` or `quantity`, for error messages.
        places: Number of decimals to try first.

    Raises:
        MalformedDataError: A value is negative or not a number, or has more than twelve decimals or fifteen
            digits.
    """
    remedy = "download the file again, and check the source of its values"
    if not (np.isfinite(values) & (values >= 0)).all():
        raise MalformedDataError(
            f"contains a {what} that is negative or not a number", where=where, remedy=remedy
        )
    fits = np.zeros(values.size, np.bool_)
    for tried in (places, *range(MAX_DECIMALS + 1)):
        scaled = values * 10.0**tried
        units = np.rint(scaled)
        off = np.abs(scaled - units)
        fits = ((units / 10.0**tried == values) | ((off <= _OFF) & (off <= units * _NOISE))) & (
            units < _MAX_UNITS
        )
        if fits.all():
            return Decimals(units.astype(np.int64), tried)
    value = float(values[np.argmin(fits)])
    raise MalformedDataError(
        f"contains the {what} {value!r}, which has too many digits", where=where, remedy=remedy
    )


def running_max(capture: Ints, before: int) -> Ints:
    """Return the highest capture time up to each message, at least `before`."""
    return np.maximum(np.maximum.accumulate(capture), before) if capture.size else capture
