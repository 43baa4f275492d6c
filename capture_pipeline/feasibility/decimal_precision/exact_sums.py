"""Sums and products of 64-bit integers as Python integers, without a loop over rows: what every form of decimals is held against.

A value is split into words of 32 bits whose sums cannot overflow; the sums are put together as Python integers, which have no width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_WORD, _LOW = 32, 0xFFFFFFFF
_MOST_ROWS = 1 << 31
_WHOLE = np.zeros(1, np.intp)


def exact_sums(values: Ints, starts: NDArray[np.intp] = _WHOLE) -> list[int]:
    """The sum of each group of neighbours.

    Args:
        values: Any 64-bit integers, at least one and fewer than 2**31.
        starts: Where each group begins, ascending from 0; one group by default.

    Raises:
        ValueError: There are none, or too many.
    """
    if not 0 < values.size < _MOST_ROWS:
        raise ValueError(f"{values.size} values cannot be summed exactly")
    return _joined(values >> _WORD, values & _LOW, starts)


def exact_notionals(left: Ints, right: Ints, starts: NDArray[np.intp] = _WHOLE) -> list[int]:
    """The sum of products of each group of neighbours.

    Args:
        left: Any 64-bit integers, at least one and fewer than 2**31.
        right: As many.
        starts: As in `exact_sums`.

    Raises:
        ValueError: There are none, or too many.
    """
    left_high, left_low = left >> _WORD, left & _LOW
    right_high, right_low = right >> _WORD, right & _LOW
    low = left_low.astype(np.uint64) * right_low.astype(
        np.uint64
    )  # below 2**64, the other three lie within 63 bits and a sign
    lows = _joined(
        (low >> np.uint64(_WORD)).astype(np.int64), (low & np.uint64(_LOW)).astype(np.int64), starts
    )
    crossed = [exact_sums(left_high * right_low, starts), exact_sums(left_low * right_high, starts)]
    highs = exact_sums(left_high * right_high, starts)
    return [
        (high << 2 * _WORD) + ((first + second) << _WORD) + least
        for high, first, second, least in zip(highs, *crossed, lows, strict=True)
    ]


def _joined(high: Ints, low: Ints, starts: NDArray[np.intp]) -> list[int]:
    sums = zip(np.add.reduceat(high, starts).tolist(), np.add.reduceat(low, starts).tolist(), strict=True)
    return [(upper << _WORD) + lower for upper, lower in sums]
