"""Price path: a continuous pure function of key and time.

The path is a sum of value noise with periods from five minutes to most of a year. The amplitude grows with
the square root of the period, as in a random walk. Transcendental functions are avoided, so that every
machine gives the same prices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sandbox_exchange.market.prng import Ints, random_bits

KNOT_US = 300_000_000
"""Distance between the knots, at which the path is computed; between two knots it is a straight line."""
_OCTAVES = 9
_DAILY_AMPLITUDE = 0.025
_KNOTS_PER_DAY = 86_400_000_000 / KNOT_US
_UNIT = 2.0**-52


def knot_ticks(key: np.uint64, base_ticks: int, first_knot: int, count: int) -> Ints:
    """Compute the path at consecutive knots, in ticks.

    Args:
        key: Key of the path of a symbol.
        base_ticks: Base price; the path stays between about half and twice the base price.
        first_knot: Number of the first knot, counted from 1970.
        count: Number of knots.
    """
    knots = np.arange(first_knot, first_knot + count, dtype=np.int64)
    total = np.zeros(count)
    for octave in range(_OCTAVES):
        period = 4**octave
        total += _DAILY_AMPLITUDE * (period / _KNOTS_PER_DAY) ** 0.5 * _octave(key, octave, knots, period)
    factor = 1 + total * (1 + total / 2 * (1 + total / 3))
    return np.maximum(1, np.rint(base_ticks * factor)).astype(np.int64)


def path_ticks(key: np.uint64, base_ticks: int, time_us: Ints) -> Ints:
    """Compute the path at given times, in ticks.

    Args:
        key: Key of the path of a symbol.
        base_ticks: Base price, see `knot_ticks`.
        time_us: At least one time in microseconds UTC, in ascending order.
    """
    first = int(time_us[0]) // KNOT_US
    path = knot_ticks(key, base_ticks, first, int(time_us[-1]) // KNOT_US - first + 2)
    knot = time_us // KNOT_US - first
    ticks: Ints = path[knot] + (path[knot + 1] - path[knot]) * (time_us % KNOT_US) // KNOT_US
    return ticks


def _octave(key: np.uint64, octave: int, knots: Ints, period: int) -> NDArray[np.float64]:
    """Return values in [-1, 1] that change their direction every `period` knots."""
    first = int(knots[0]) // period
    corners = np.arange(first, int(knots[-1]) // period + 2, dtype=np.int64)
    values = (random_bits(key, corners * 16 + octave) >> np.uint64(11)).astype(np.float64) * _UNIT - 1
    place = knots // period - first
    part = (knots % period) / period
    low: NDArray[np.float64] = values[place]
    return low + (values[place + 1] - low) * part
