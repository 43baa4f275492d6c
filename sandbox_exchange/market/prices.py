"""The price path: a pure function of key and time, continuous everywhere.

A sum of value noise at periods from five minutes to most of a year, whose amplitudes grow with the root of the period as those
of a random walk do. Only additions and multiplications are used, so that it is the same on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sandbox_exchange.market.prng import Ints, bits

KNOT_US = 300_000_000
"""Distance between the points the path is computed at; between them it is a straight line."""
_OCTAVES = 9
_DAILY_AMPLITUDE = 0.025
_KNOTS_A_DAY = 86_400_000_000 / KNOT_US
_UNIT = 2.0**-52


def knot_ticks(key: np.uint64, base_ticks: int, first_knot: int, count: int) -> Ints:
    """The path in ticks at `count` knots from number `first_knot` (counted from 1970) on.

    Args:
        key: Of the symbol's path.
        base_ticks: Price around which the path moves; it stays between about half and twice of it.
        first_knot: Number of the first knot.
        count: How many.
    """
    knots = np.arange(first_knot, first_knot + count, dtype=np.int64)
    total = np.zeros(count)
    for octave in range(_OCTAVES):
        period = 4**octave
        total += _DAILY_AMPLITUDE * (period / _KNOTS_A_DAY) ** 0.5 * _octave(key, octave, knots, period)
    factor = 1 + total * (1 + total / 2 * (1 + total / 3))
    return np.maximum(1, np.rint(base_ticks * factor)).astype(np.int64)


def path_ticks(key: np.uint64, base_ticks: int, time_us: Ints) -> Ints:
    """The path in ticks at some times.

    Args:
        key: Of the symbol's path.
        base_ticks: As for `knot_ticks`.
        time_us: Microseconds UTC, never decreasing, at least one.
    """
    first = int(time_us[0]) // KNOT_US
    path = knot_ticks(key, base_ticks, first, int(time_us[-1]) // KNOT_US - first + 2)
    knot = time_us // KNOT_US - first
    ticks: Ints = path[knot] + (path[knot + 1] - path[knot]) * (time_us % KNOT_US) // KNOT_US
    return ticks


def _octave(key: np.uint64, octave: int, knots: Ints, period: int) -> NDArray[np.float64]:
    """Values in [-1, 1] that change their direction every `period` knots."""
    first = int(knots[0]) // period
    corners = np.arange(first, int(knots[-1]) // period + 2, dtype=np.int64)
    values = (bits(key, corners * 16 + octave) >> np.uint64(11)).astype(np.float64) * _UNIT - 1
    place = knots // period - first
    part = (knots % period) / period
    low: NDArray[np.float64] = values[place]
    return low + (values[place + 1] - low) * part
