"""Pieces of Crypto Lake's tables before their prices are exact: cut, put in order, merged by the time of receipt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.replay.sources.tick_grid import MOST_PLACES, Ints

Floats = NDArray[np.float64]
_NOISE, _OFF = 2.0**-51, 1e-6
_DIGITS = 1e15
"""A float tells any decimal of fifteen digits; of more it tells only some."""


@dataclass(frozen=True)
class Part:
    """Some messages of one table.

    Attributes:
        rows: As of `Messages`.
        bounds: As of `Run`; levels stand one message after the other.
        prices: As sent.
        sizes: As sent.
        key: Highest capture time so far, of each message: by it tables are merged, while each keeps its own order.
    """

    rows: Ints
    bounds: Ints
    prices: Floats
    sizes: Floats
    key: Ints

    def __len__(self) -> int:
        """How many."""
        return self.key.size

    def cut(self, first: int, end: int) -> Part:
        """Some of them."""
        bounds = self.bounds[:, first:end]
        start, stop = (int(bounds[0, 0]), int(bounds[2, -1])) if end > first else (0, 0)
        return Part(
            self.rows[:, first:end],
            bounds - start,
            self.prices[start:stop],
            self.sizes[start:stop],
            self.key[first:end],
        )


def merged(first: Iterator[Part], second: Iterator[Part]) -> Iterator[Part]:
    """Two tables as one, in the order of receipt; at the same time messages of the first come first. Holds a block of each."""
    one, two = next(first, None), next(second, None)
    while one is not None and two is not None:
        at, other = _taken(one, two)
        yield _joined(one.cut(0, at), two.cut(0, other))
        one = one.cut(at, len(one)) if at < len(one) else next(first, None)
        two = two.cut(other, len(two)) if other < len(two) else next(second, None)
    for rest, more in ((one, first), (two, second)):
        if rest is not None:
            yield rest
            yield from more


def _taken(one: Part, two: Part) -> tuple[int, int]:
    """How many of each may go: all of the one that ends earlier, and what cannot come after it."""
    if one.key[-1] <= two.key[-1]:
        return len(one), int(np.searchsorted(two.key, one.key[-1], side="left"))
    return int(np.searchsorted(one.key, two.key[-1], side="right")), len(two)


def _joined(one: Part, two: Part) -> Part:
    """Both in the order of their keys."""
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


def exact(values: Floats, where: str, what: str, places: int = 0) -> tuple[Ints, int]:
    """Floats as the decimals they were made of.

    A float is taken for the decimal of fewest places, the same for all, to which it is the nearest float, or from which it is no further
    than 1e-6 of its last place and four units in the float's own last one: the noise of an addition. Everything else is refused.

    Args:
        values: Prices or quantities.
        where: File, for errors.
        what: `price` or `quantity`, likewise.
        places: What to try first.

    Returns:
        Values in units of `10**-places`, and the places.

    Raises:
        MalformedDataError: One is negative, no number, or no decimal of up to twelve places and fifteen digits.
    """
    remedy = "the files are damaged, or hold no prices as an exchange sends them"
    if not (np.isfinite(values) & (values >= 0)).all():
        raise MalformedDataError(f"holds a {what} that is negative or no number", where=where, remedy=remedy)
    sound = np.zeros(values.size, np.bool_)
    for tried in (places, *range(MOST_PLACES + 1)):
        scaled = values * 10.0**tried
        units = np.rint(scaled)
        off = np.abs(scaled - units)
        sound = ((units / 10.0**tried == values) | ((off <= _OFF) & (off <= units * _NOISE))) & (
            units < _DIGITS
        )
        if sound.all():
            return units.astype(np.int64), tried
    value = float(values[np.argmin(sound)])
    raise MalformedDataError(f"holds the {what} {value!r}, which lies on no tick", where=where, remedy=remedy)


def running(capture: Ints, before: int) -> Ints:
    """The highest of capture times so far."""
    return np.maximum(np.maximum.accumulate(capture), before) if capture.size else capture
