"""The bytes of a kline CSV to exact integers: one pass, no floats, no guess.

The kernel takes only what the exchange writes (digits, one point, at most eight decimals, a sign) and stops at the first byte
that is something else; `klines.py` then says in words what stands there. Speed and memory: `make bench`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

COLUMNS = 12
DECIMAL_COLUMNS = (1, 2, 3, 4, 5, 7, 9, 10)
SCALE_DIGITS = 8

OK, BAD_DIGIT, TOO_LONG, TOO_PRECISE, BAD_SEPARATOR, MISSING_FIELD, EXTRA_FIELD = range(7)

_MAX_DIGITS = 18
_ZERO, _POINT, _COMMA, _MINUS, _LF, _CR = 48, 46, 44, 45, 10, 13


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _digits(text: NDArray[np.uint8], at: int) -> tuple[int, int]:
    """Read digits: (value, position after them). A line feed ends every text, so this stops inside it."""
    value: Any = np.int64(0)
    digit = np.uint8(text[at] - _ZERO)
    while digit < 10:  # noqa: PLR2004 - ten digits; bytes below "0" wrap round to large ones
        value = value * 10 + np.int64(digit)
        at += 1
        digit = np.uint8(text[at] - _ZERO)
    return value, at


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _fraction(text: NDArray[np.uint8], at: int, digits: int, value: int) -> tuple[int, int]:
    """Scale a fraction of another length than eight digits: (value in units of 1e-8, status)."""
    if digits == 0:
        return 0, BAD_DIGIT
    if digits < SCALE_DIGITS:
        for _ in range(SCALE_DIGITS - digits):
            value *= 10
        return value, OK
    value = 0
    for position in range(digits):
        digit: Any = np.int64(text[at + position]) - _ZERO
        if position < SCALE_DIGITS:
            value = value * 10 + digit
        elif digit:
            return 0, TOO_PRECISE
    return value, OK


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _number(text: NDArray[np.uint8], at: int, decimals: int) -> tuple[int, int, int, int]:
    """Read one number: (whole part, eight-decimal fraction, position after it, status)."""
    negative = text[at] == _MINUS
    if negative:
        at += 1
    whole, after = _digits(text, at)
    if after == at:
        return 0, 0, at, BAD_DIGIT
    if after - at > _MAX_DIGITS:
        return 0, 0, after, TOO_LONG
    fraction = 0
    if decimals and text[after] == _POINT:
        first = after + 1
        fraction, after = _digits(text, first)
        if after - first != SCALE_DIGITS:
            fraction, status = _fraction(text, first, after - first, fraction)
            if status != OK:
                return 0, 0, after, status
    return (-whole, -fraction, after, OK) if negative else (whole, fraction, after, OK)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def parse_rows(  # noqa: C901 - one loop over bytes; calls in it cost a third of its speed
    text: NDArray[np.uint8], is_decimal: NDArray[np.uint8], low: NDArray[np.int64], high: NDArray[np.int64]
) -> tuple[int, int, int, int]:
    """Parse rows of exactly `COLUMNS` fields.

    Args:
        text: The CSV without a header; its last byte is a line feed, so that no number runs out of it.
        is_decimal: Per column, 1 where a fraction may stand.
        low: Out, `(COLUMNS, rows)`: the low 64 bits of the value, decimals in units of 1e-8.
        high: Out, same shape: the high 64 bits of decimals (two's complement).

    Returns:
        `(rows, status, column, position)`; with a status other than `OK` the first three say where it stopped.
    """
    at, row, size = 0, 0, text.size
    if size == 0 or text[size - 1] != _LF:
        return 0, BAD_SEPARATOR, 0, 0
    while at < size:
        for column in range(COLUMNS):
            decimals = is_decimal[column]
            whole, fraction, at, status = _number(text, at, decimals)
            if status != OK:
                return row, status, column, at
            if decimals:
                _store(whole, fraction, low, high, column, row)
            else:
                low[column, row] = whole
            after = text[at]
            if after == _COMMA and column < COLUMNS - 1:
                at += 1
            elif column < COLUMNS - 1:
                return row, MISSING_FIELD if after in (_LF, _CR) else BAD_SEPARATOR, column, at
        if text[at] == _CR:
            at += 1
        if text[at] != _LF:
            return row, EXTRA_FIELD if text[at] == _COMMA else BAD_SEPARATOR, COLUMNS - 1, at
        at += 1
        row += 1
    return row, OK, 0, at


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _store(  # noqa: PLR0917 - a kernel takes no keywords
    whole: int, fraction: int, low: NDArray[np.int64], high: NDArray[np.int64], column: int, row: int
) -> None:
    """Write `whole * 1e8 + fraction` as 128 bits; `whole` has at most 18 digits, so the product needs more than 64."""
    if -92_000_000_000 < whole < 92_000_000_000:  # noqa: PLR2004 - below 2**63 / 1e8 the product fits 64 bits
        value = whole * 100_000_000 + fraction
        low[column, row] = value
        high[column, row] = value >> 63
        return
    negative = whole < 0
    magnitude = np.uint64(-whole if negative else whole)
    part = np.uint64(-fraction if negative else fraction)
    scale = np.uint64(100_000_000)
    mask = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    bottom = (magnitude & mask) * scale
    top = (magnitude >> shift) * scale + (bottom >> shift)
    low_bits = ((top & mask) << shift) | (bottom & mask)
    high_bits = top >> shift
    total = low_bits + part
    if total < low_bits:
        high_bits += np.uint64(1)
    if negative:
        total = ~total + np.uint64(1)
        high_bits = ~high_bits + (np.uint64(1) if total == np.uint64(0) else np.uint64(0))
    low[column, row] = np.int64(total)
    high[column, row] = np.int64(high_bits)


def empty_columns(rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Arrays for `parse_rows`: low, high, is_decimal."""
    kinds: Any = [column in DECIMAL_COLUMNS for column in range(COLUMNS)]
    return np.empty((COLUMNS, rows), np.int64), np.empty((COLUMNS, rows), np.int64), np.array(kinds, np.uint8)
