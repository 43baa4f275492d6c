"""Numba kernels that read parts of a recording's lines: literals, integers, decimals and stream names.

Each reads a bounded number of bytes from position `at` and reports whether the text has the expected form.
The caller guarantees that these bytes are readable. Numba does not notice a change of a kernel in another
file: after a change here, remove `__pycache__`.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from capture_pipeline.binance.archive.klines._kernel import read_eight_digits
from capture_pipeline.binance.decimals import MAX_UNITS, PLACES, UNIT, WHOLE_DIGITS

LONGEST_NAME = 64

# A kernel returns a plain tuple; its caller unpacks it into names at once.
_njit = numba.njit(cache=True, nogil=True)
_inlined = numba.njit(cache=True, nogil=True, inline="always")
_0, _1, _8 = np.uint64(0), np.uint64(1), np.uint64(8)
_ZERO, _TEN, _POINT, _QUOTE, _LF, _SLASH, _BRACE, _UNBRACE = (
    np.uint8(byte) for byte in (48, 10, 46, 34, 10, 92, 123, 125)
)
_POWERS = 10 ** np.arange(PLACES + 1, dtype=np.int64)
_WHOLE_DIGITS = np.uint64(WHOLE_DIGITS)
_MAX_WHOLE, _MAX_FRACTION = divmod(MAX_UNITS, UNIT)
_MICROSECONDS_FROM = 10**14


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def matches(text: NDArray[np.uint8], at: np.uint64, literal: NDArray[np.uint8]) -> bool:
    """Report whether the text at a position is `literal`."""
    for index in range(literal.size):  # noqa: SIM110 - numba compiles no generator expression
        if text[at + np.uint64(index)] != literal[index]:
            return False
    return True


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def read_integer(text: NDArray[np.uint8], at: np.uint64) -> tuple[np.int64, np.uint64, bool]:
    """Read one to nineteen digits: (value, position after them, success). JSON allows no leading zeros."""
    first, digits = read_eight_digits(text, at)
    good = (digits != _0) & ((digits == _1) | (text[at] != _ZERO))
    value = np.uint64(first)
    if digits == _8:
        second, more = read_eight_digits(text, at + _8)
        value = value * np.uint64(_POWERS[more]) + np.uint64(second)
        digits += more
    while digits >= np.uint64(16) and digits < np.uint64(19) and np.uint8(text[at + digits] - _ZERO) < _TEN:
        value = value * np.uint64(10) + np.uint64(np.uint8(text[at + digits] - _ZERO))
        digits += _1
    good &= (np.uint8(text[at + digits] - _ZERO) >= _TEN) & (value <= np.uint64(2**63 - 1))
    return np.int64(value), at + digits, good


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def _read_any_decimal(text: NDArray[np.uint8], at: np.uint64) -> tuple[np.int64, np.int64, np.uint64, bool]:
    """Read a number of up to eleven digits and eight decimals, and a quote.

    Returns:
        Value in units of 1e-8, number of decimals, position after the quote, and success.
    """
    whole, places, first = np.int64(0), np.int64(0), at
    digit = np.uint8(text[at] - _ZERO)
    while digit < _TEN and at - first < _WHOLE_DIGITS:
        whole = whole * 10 + np.int64(digit)
        at += _1
        digit = np.uint8(text[at] - _ZERO)
    good = at != first and (text[first] != _ZERO or at - first == _1)
    fraction = np.int64(0)
    if text[at] == _POINT:
        at += _1
        digit = np.uint8(text[at] - _ZERO)
        while digit < _TEN and places < PLACES:
            fraction, places = fraction * 10 + np.int64(digit), places + 1
            at += _1
            digit = np.uint8(text[at] - _ZERO)
        good &= places > 0
    fraction *= _POWERS[PLACES - places]
    good &= text[at] == _QUOTE and (whole < _MAX_WHOLE or (whole == _MAX_WHOLE and fraction <= _MAX_FRACTION))
    return (whole * UNIT + fraction if good else np.int64(0)), places, at + _1, good


@_inlined  # type: ignore[untyped-decorator, unused-ignore]
def _read_eight_decimals(text: NDArray[np.uint8], at: np.uint64) -> tuple[np.int64, bool]:
    """Read exactly eight digits: (value, success). The compiler reads them in one load."""
    word = np.uint64(text[at]) | np.uint64(text[at + _1]) << _8
    word |= np.uint64(text[at + np.uint64(2)]) << np.uint64(16) | np.uint64(
        text[at + np.uint64(3)]
    ) << np.uint64(24)
    word |= np.uint64(text[at + np.uint64(4)]) << np.uint64(32) | np.uint64(
        text[at + np.uint64(5)]
    ) << np.uint64(40)
    word |= np.uint64(text[at + np.uint64(6)]) << np.uint64(48) | np.uint64(
        text[at + np.uint64(7)]
    ) << np.uint64(56)
    word ^= np.uint64(0x3030303030303030)
    digits = (((word & np.uint64(0x7F7F7F7F7F7F7F7F)) + np.uint64(0x7676767676767676)) | word) & np.uint64(
        0x8080808080808080
    ) == _0
    word = (word * np.uint64(2561)) >> _8
    word = ((word & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601)) >> np.uint64(16)
    word = ((word & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001)) >> np.uint64(32)
    return np.int64(word), digits


@_inlined  # type: ignore[untyped-decorator, unused-ignore]
def read_common_decimal(text: NDArray[np.uint8], at: np.uint64) -> tuple[np.int64, np.uint64, bool]:
    """Read one to eight digits, a point, eight decimals and a quote, without a branch.

    Returns:
        Value in units of 1e-8, position after the quote, and success.
    """
    whole, digits = read_eight_digits(text, at)
    point = at + digits
    fraction, good = _read_eight_decimals(text, point + _1)
    after = point + np.uint64(9)
    good &= (
        (digits - _1 < _8)
        & (text[point] == _POINT)
        & (text[after] == _QUOTE)
        & ((digits == _1) | (text[at] != _ZERO))
    )
    return whole * np.int64(UNIT) + fraction, after + _1, good


@_inlined  # type: ignore[untyped-decorator, unused-ignore]
def _read_short_decimal(text: NDArray[np.uint8], at: np.uint64) -> tuple[np.int64, np.int64, np.uint64, bool]:
    """Read one to eight digits, a point, one to eight decimals and a quote.

    Returns:
        Value in units of 1e-8, number of decimals, position after the quote, and success.
    """
    whole, digits = read_eight_digits(text, at)
    point = at + digits
    fraction, places = read_eight_digits(text, point + _1)
    after = point + _1 + places
    good = (digits - _1 < _8) & (places - _1 < _8) & (text[point] == _POINT) & (text[after] == _QUOTE)
    good &= (digits == _1) | (text[at] != _ZERO)
    return whole * np.int64(UNIT) + fraction * _POWERS[_8 - places], np.int64(places), after + _1, good


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def read_decimal(text: NDArray[np.uint8], at: np.uint64) -> tuple[np.int64, np.int64, np.uint64, bool]:
    """Read a number and a quote.

    Returns:
        Value in units of 1e-8, number of decimals, position after the quote, and success.
    """
    value, places, after, good = _read_short_decimal(text, at)
    return (value, places, after, True) if good else _read_any_decimal(text, at)


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def name_hash(text: NDArray[np.uint8], at: int) -> tuple[np.uint64, int]:
    """Return a hash of the bytes up to the next quote, and their number; at most `LONGEST_NAME` are read."""
    value, length = np.uint64(1469598103934665603), 0
    while text[at + length] != _QUOTE and length <= LONGEST_NAME:
        value = (value ^ np.uint64(text[at + length])) * np.uint64(1099511628211)
        length += 1
    return value ^ (value >> np.uint64(32)), length


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def find_stream(
    text: NDArray[np.uint8], at: np.uint64, names: NDArray[np.uint8], slots: NDArray[np.int64]
) -> tuple[int, np.uint64]:
    """Find the stream whose name is at a position: (number, −1 if it is unknown; position after the name)."""
    value, length = name_hash(text, int(at))
    slot = np.int64(value & np.uint64(slots.size - 1))
    for _ in range(slots.size):
        stream = slots[slot]
        if stream < 0 or stream >= names.shape[0] or length >= names.shape[1]:
            return -1, at
        same = length > 0 and names[stream, length - 1] != 0 and names[stream, length] == 0
        for index in range(length):
            same &= text[at + np.uint64(index)] == names[stream, index]
        if same:
            return stream, at + np.uint64(length)
        slot = (slot + 1) & (slots.size - 1)
    return -1, at


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def same_symbol(
    text: NDArray[np.uint8],
    at: np.uint64,
    name: NDArray[np.uint8],
    is_pair: bool,  # noqa: FBT001
) -> tuple[np.uint64, bool]:
    """Compare the symbol at a position, in capitals, with the symbol in a stream's name, in small letters.

    Args:
        text: The recording.
        at: Position of the symbol.
        name: Name of the stream.
        is_pair: Compare with the symbol without the date of a contract.

    Returns:
        Position after the symbol, and whether the symbols are equal.
    """
    for index in range(LONGEST_NAME):
        letter = name[index]
        if letter == np.uint8(64) or (is_pair and index > 0 and letter == np.uint8(95)):
            return at + np.uint64(index), True
        if letter == 0:
            break
        capital = letter - np.uint8(32) if np.uint8(97) <= letter <= np.uint8(122) else letter
        if text[at + np.uint64(index)] != capital:
            break
    return at, False


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def skip_data(text: NDArray[np.uint8], at: np.uint64, end: np.uint64) -> tuple[np.uint64, bool]:
    """Skip data that start two braces deep, to the end of the line.

    Returns:
        Position after the line feed, and whether the last brace is closed right before it.
    """
    depth, in_string = 2, True  # `data` is an object whose first quote was read
    while at < end:
        byte = text[at]
        at += _1
        if byte == _LF or byte == _SLASH:  # noqa: PLR1714, SIM109 - numba compiles this to two comparisons
            return at, False
        if byte == _QUOTE:
            in_string = not in_string
        elif not in_string:
            depth += (1 if byte == _BRACE else 0) - (1 if byte == _UNBRACE else 0)
            if depth == 0:
                return at + _1, bool(at < end and text[at] == _LF)
    return at, False


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def event_us(value: np.int64) -> np.int64:
    """Convert an event time to microseconds; it was sent in milliseconds or microseconds."""
    return value if value >= _MICROSECONDS_FROM else value * 1000
