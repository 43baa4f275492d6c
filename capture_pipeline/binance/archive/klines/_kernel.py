"""Numba kernel that parses the bytes of a kline CSV to exact integers in one pass.

The kernel accepts only numbers as the exchange writes them (digits, one point, at most eight decimals, a
sign) and stops at the first other byte; `parser.py` then creates the error message. `make bench` measures
speed and memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from capture_pipeline.binance.decimals import PLACES, SUM_DIGITS

COLUMNS = 12
VALUES = COLUMNS - 1
"""The last column, `ignore`, is skipped. It may contain any value; in 2017 it contained decimals."""
DECIMAL_COLUMNS = (1, 2, 3, 4, 5, 7, 9, 10)
SCALE_DIGITS = PLACES

OK, BAD_DIGIT, TOO_LONG, TOO_PRECISE, BAD_SEPARATOR, MISSING_FIELD, EXTRA_FIELD, TOO_WIDE = range(8)

# A kernel returns a plain tuple; its caller unpacks it into names at once.
# Positions are unsigned, so that numba does not test each index for a negative value. All operands are
# unsigned too: numba converts a mix of signed and unsigned integers to floats.
_NONE, _ONE, _WORD, _NINE, _MAX_DIGITS, _LONGEST_ROW = (
    np.uint64(0),
    np.uint64(1),
    np.uint64(8),
    np.uint64(9),
    np.uint64(SUM_DIGITS),
    np.uint64(12 * 26),
)
_ZERO, _POINT, _COMMA, _MINUS, _LF, _CR, _TEN = (np.uint8(byte) for byte in (48, 46, 44, 45, 10, 13, 10))
_POWERS = 10 ** np.arange(9, dtype=np.int64)
_FITS = 92_000_000_000
"""A whole part below this limit, times 1e8, fits 64 bits: the limit is less than 2**63 / 1e8."""


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def read_eight_digits(text: NDArray[np.uint8], at: np.uint64) -> tuple[np.int64, np.uint64]:
    """Read the digits at the start of eight bytes, without a branch on their number: (value, count).

    The compiler reads the eight bytes in one load.
    """
    word = np.uint64(text[at]) | np.uint64(text[at + _ONE]) << _WORD
    word |= np.uint64(text[at + np.uint64(2)]) << np.uint64(16) | np.uint64(
        text[at + np.uint64(3)]
    ) << np.uint64(24)
    word |= np.uint64(text[at + np.uint64(4)]) << np.uint64(32) | np.uint64(
        text[at + np.uint64(5)]
    ) << np.uint64(40)
    word |= np.uint64(text[at + np.uint64(6)]) << np.uint64(48) | np.uint64(
        text[at + np.uint64(7)]
    ) << np.uint64(56)
    # The byte of a digit becomes its value, any other byte at least ten.
    word ^= np.uint64(0x3030303030303030)
    others = (((word & np.uint64(0x7F7F7F7F7F7F7F7F)) + np.uint64(0x7676767676767676)) | word) & np.uint64(
        0x8080808080808080
    )
    lowest = others & (~others + _ONE)
    count = (((lowest - _ONE) & np.uint64(0x0101010101010101)) * np.uint64(0x0101010101010101)) >> np.uint64(
        56
    )
    if others != _NONE:
        count -= _ONE
    # Shift the digits to the end, with zeros before them. Then combine neighbours: to pairs, fours, and all
    # eight.
    word = word << ((_WORD - count) * _WORD) if count != _NONE else _NONE
    word = (word * np.uint64(2561)) >> _WORD
    word = ((word & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601)) >> np.uint64(16)
    word = ((word & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001)) >> np.uint64(32)
    return np.int64(word), count


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _read_common_decimal(text: NDArray[np.uint8], at: np.uint64) -> tuple[np.int64, np.uint64, bool]:
    """Read one to seven digits, a point, eight digits and a comma.

    Returns:
        Value in units of 1e-8, position after the comma, and success.
    """
    whole, digits = read_eight_digits(text, at)
    point = at + digits
    fraction, places = read_eight_digits(text, point + _ONE)
    is_common = (
        (digits - _ONE < np.uint64(7))
        & (text[point] == _POINT)
        & (places == _WORD)
        & (text[point + _NINE] == _COMMA)
    )
    return whole * np.int64(100_000_000) + fraction, point + _NINE + _ONE, is_common


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _read_common_integer(
    text: NDArray[np.uint8], at: np.uint64, end: np.uint8
) -> tuple[np.int64, np.uint64, bool]:
    """Read one to sixteen digits and the byte `end`: (value, position after it, success)."""
    value, count = read_eight_digits(text, at)
    after = at + count
    if count == _WORD:
        part, more = read_eight_digits(text, after)
        value = value * _POWERS[more] + part
        after += more
    return value, after + _ONE, (count != _NONE) & (text[after] == end)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _read_any_number(
    text: NDArray[np.uint8], at: np.uint64, decimals: int
) -> tuple[np.int64, np.int64, np.uint64, int]:
    """Read a number of any length: (whole part, eight-decimal fraction, position after it, status)."""
    negative = text[at] == _MINUS
    if negative:
        at += _ONE
    whole, after = _read_digits(text, at)
    fraction, status = np.int64(0), OK
    if after == at:
        status = BAD_DIGIT
    elif after - at > _MAX_DIGITS:
        status = TOO_LONG
    elif decimals and text[after] == _POINT:
        fraction, after, status = _read_fraction(text, after + _ONE)
    return (-whole, -fraction, after, status) if negative else (whole, fraction, after, status)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _read_digits(text: NDArray[np.uint8], at: np.uint64) -> tuple[np.int64, np.uint64]:
    """Read digits: (value, position after them). The loop ends at the last line feed of the text."""
    value = np.int64(0)
    digit = np.uint8(text[at] - _ZERO)
    while digit < _TEN:  # bytes below "0" wrap around to large values
        value = value * np.int64(10) + np.int64(digit)
        at += _ONE
        digit = np.uint8(text[at] - _ZERO)
    return value, at


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _read_fraction(text: NDArray[np.uint8], at: np.uint64) -> tuple[np.int64, np.uint64, int]:
    """Read a fraction of any length: (value in units of 1e-8, position after it, status)."""
    first = at
    value = np.int64(0)
    for place in range(SCALE_DIGITS):
        digit = np.uint8(text[at] - _ZERO)
        if digit >= _TEN:
            return value * _POWERS[SCALE_DIGITS - place], at, OK if at != first else BAD_DIGIT
        value = value * np.int64(10) + np.int64(digit)
        at += _ONE
    while text[at] == _ZERO:
        at += _ONE
    return value, at, OK if np.uint8(text[at] - _ZERO) >= _TEN else TOO_PRECISE


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _store(  # noqa: PLR0917 - a kernel takes no keywords
    whole: np.int64,
    fraction: np.int64,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    column: int,
    row: int,
) -> bool:
    """Write `whole * 1e8 + fraction` as 128 bits; `whole` has at most 18 digits, so 64 bits are not enough.

    Returns:
        False, with nothing written, if `high` has no rows and the value does not fit 64 bits.
    """
    if -_FITS < whole < _FITS:
        value = whole * 100_000_000 + fraction
        low[column, row] = value
        if high.shape[1]:
            high[column, row] = value >> 63
        return True
    if not high.shape[1]:
        return False
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
    return True


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _parse_common_rows(
    text: NDArray[np.uint8], at: np.uint64, row: int, low: NDArray[np.int64]
) -> tuple[int, np.uint64]:
    """Parse rows in the usual form, without function calls: (row, position) of the first other row."""
    while at + _LONGEST_ROW <= np.uint64(text.size):
        # In a row of another form, positions may be wrong by less than 26 bytes for each field. The form is
        # tested only once, at the end of the row.
        low[0, row], here, is_common = _read_common_integer(text, at, _COMMA)
        for column in range(1, 6):
            low[column, row], here, good = _read_common_decimal(text, here)
            is_common &= good
        low[6, row], here, good = _read_common_integer(text, here, _COMMA)
        is_common &= good
        low[7, row], here, good = _read_common_decimal(text, here)
        is_common &= good
        low[8, row], here, good = _read_common_integer(text, here, _COMMA)
        is_common &= good
        for column in range(9, 11):
            low[column, row], here, good = _read_common_decimal(text, here)
            is_common &= good
        while (text[here] != _LF) & (text[here] != _COMMA):
            here += _ONE
        if not is_common or text[here] != _LF:
            break
        at = here + _ONE
        row += 1
    return row, at


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _parse_any_row(  # noqa: PLR0917 - a field has this many ways to be wrong
    text: NDArray[np.uint8],
    at: np.uint64,
    row: int,
    is_decimal: NDArray[np.uint8],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> tuple[int, int, np.uint64]:
    """Parse one row in any form: (status, column, position after the row or of the error)."""
    for column in range(VALUES):
        whole, fraction, at, status = _read_any_number(text, at, is_decimal[column])
        if status != OK:
            return status, column, at
        if is_decimal[column]:
            if not _store(whole, fraction, low, high, column, row):
                return TOO_WIDE, column, at
        else:
            low[column, row] = whole
        if text[at] != _COMMA:
            return MISSING_FIELD if text[at] in (_LF, _CR) else BAD_SEPARATOR, column, at
        at += _ONE
    while text[at] != _LF:
        if text[at] == _COMMA:
            return EXTRA_FIELD, COLUMNS - 1, at
        at += _ONE
    return OK, 0, at + _ONE


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def parse_rows(
    text: NDArray[np.uint8], is_decimal: NDArray[np.uint8], low: NDArray[np.int64], high: NDArray[np.int64]
) -> tuple[int, int, int, int]:
    """Parse rows of exactly `COLUMNS` fields; the last field is not read.

    Args:
        text: The CSV without a header; its last byte is a line feed, so that a number ends inside it.
        is_decimal: For each column, 1 if a fraction is allowed.
        low: Output of shape `(VALUES, rows)`: the low 64 bits of the values, decimals in units of 1e-8.
        high: Output of the same shape, all zero at first: the high 64 bits of decimals (two's complement).
            With shape `(VALUES, 0)` no high bits are written.

    Returns:
        `(rows, status, column, position)`. With a status other than `OK`, these are the place of the error.
        `TOO_WIDE` is the status at a decimal that needs high bits, if `high` has no room for them.
    """
    at, row, size = _NONE, 0, np.uint64(text.size)
    if size == _NONE or text[size - _ONE] != _LF:
        return 0, BAD_SEPARATOR, 0, 0
    while at < size:
        row, at = _parse_common_rows(text, at, row, low)
        if at < size:
            status, column, at = _parse_any_row(text, at, row, is_decimal, low, high)
            if status != OK:
                return row, status, column, int(np.int64(at))
            row += 1
    return row, OK, 0, int(np.int64(at))


class ParseEnd(NamedTuple):
    """Number of parsed rows, and status; with a status other than `OK`, column and position of the error."""

    rows: int
    status: int
    column: int
    position: int


class ParsedRows(NamedTuple):
    """Low and high 64 bits of the values as in `parse_rows`; `high` is None if every decimal fits 64 bits."""

    low: NDArray[np.int64]
    high: NDArray[np.int64] | None
    end: ParseEnd


def parse(text: NDArray[np.uint8], max_rows: int) -> ParsedRows:
    """Allocate the arrays and parse rows; see `parse_rows`.

    Args:
        text: The CSV without a header, with a line feed at its end.
        max_rows: Upper limit of the number of rows.
    """
    low, is_decimal = (
        np.empty((VALUES, max_rows), np.int64),
        np.array([column in DECIMAL_COLUMNS for column in range(VALUES)], np.uint8),
    )
    end = ParseEnd(*parse_rows(text, is_decimal, low, np.empty((VALUES, 0), np.int64)))
    if end.status != TOO_WIDE:
        return ParsedRows(low, None, end)
    high = np.zeros((VALUES, max_rows), np.int64)
    return ParsedRows(low, high, ParseEnd(*parse_rows(text, is_decimal, low, high)))
