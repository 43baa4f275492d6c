"""Exact sums of 64-bit integers and of their products, without a Python loop over rows.

Values are split into words of 32 bits, whose sums cannot overflow. The sums are combined as Python integers,
which have no maximum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_WORD, _LOW = 32, 0xFFFFFFFF
_MAX_ROWS = 1 << 31
_WHOLE = np.zeros(1, np.intp)


def exact_sums(values: Ints, starts: NDArray[np.intp] = _WHOLE) -> list[int]:
    """Compute the sum of each group of consecutive values.

    Args:
        values: 64-bit integers, at least one and fewer than 2**31.
        starts: Index of the first value of each group, ascending from 0; one group by default.

    Raises:
        ValueError: There is no value, or there are too many.
    """
    if not 0 < values.size < _MAX_ROWS:
        raise ValueError(f"{values.size} values cannot be summed exactly")
    return _sum_words(values >> _WORD, values & _LOW, starts)


def exact_notionals(left: Ints, right: Ints, starts: NDArray[np.intp] = _WHOLE) -> list[int]:
    """Compute the sum of products of each group of consecutive values.

    Args:
        left: 64-bit integers, at least one and fewer than 2**31.
        right: As many 64-bit integers.
        starts: Index of the first value of each group, see `exact_sums`.

    Raises:
        ValueError: There is no value, or there are too many.
    """
    left_high, left_low = left >> _WORD, left & _LOW
    right_high, right_low = right >> _WORD, right & _LOW
    # This product is below 2**64. The other three fit 63 bits and a sign.
    low = left_low.astype(np.uint64) * right_low.astype(np.uint64)
    lows = _sum_words(
        (low >> np.uint64(_WORD)).astype(np.int64), (low & np.uint64(_LOW)).astype(np.int64), starts
    )
    crossed = [exact_sums(left_high * right_low, starts), exact_sums(left_low * right_high, starts)]
    highs = exact_sums(left_high * right_high, starts)
    return [
        (high << 2 * _WORD) + ((first + second) << _WORD) + low
        for high, first, second, low in zip(highs, *crossed, lows, strict=True)
    ]


def _sum_words(high: Ints, low: Ints, starts: NDArray[np.intp]) -> list[int]:
    sums = zip(np.add.reduceat(high, starts).tolist(), np.add.reduceat(low, starts).tolist(), strict=True)
    return [(upper << _WORD) + lower for upper, lower in sums]
