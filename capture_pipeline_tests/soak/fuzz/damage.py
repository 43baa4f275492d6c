"""Random damage to valid input: changed, removed and inserted bytes, unusual JSON, numbers and text."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

_DIGITS = b"0123456789"
_LIKELY = b'0123456789.,:"{}[]\\-+eE \n\x00\xff'
_NUMBERS = (
    b"9" * 30,
    b"9" * 5000,
    b"-1",
    b"1e400",
    b"0.1",
    b"NaN",
    b"Infinity",
    b"-0",
    b"18446744073709551616",
    b"9223372036854775808",
    b"253402300800000",
    b"1_0",
    b"0x10",
    "\u0661\u0662".encode(),
)
_TEXTS = (
    b"\x00",
    b"\xff\xfe",
    b"\xc3(",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\\u0000",
    "\u202e".encode(),
    b"\x1b[2J",
    b"\r",
    b"\n\n",
    b"\xef\xbb\xbf",
)
_VALUES = (b"null", b"true", b"[]", b"{}", b'""', b"[[]]", b'{"a":1}', b'"x"', b"0")
_DEPTHS = (50, 900, 2000, 100_000)
Mutator = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def _position(rng: random.Random, data: bytearray) -> int:
    return rng.randrange(len(data) + 1)


def _replace_by_likely_byte(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _position(rng, data)
    data[at : at + 1] = bytes([rng.choice(_LIKELY)])


def _replace_by_any_byte(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _position(rng, data)
    data[at : at + 1] = bytes([rng.randrange(256)])


def _flip_bit(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _delete(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _position(rng, data)
    del data[at : at + _length(rng)]


def _repeat(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _position(rng, data)
    data[at:at] = data[at : at + _length(rng)]


def _insert(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _position(rng, data)
    data[at:at] = bytes(rng.choice(_LIKELY) for _ in range(_length(rng)))


def _insert_digits(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _position(rng, data)
    data[at:at] = bytes(rng.choice(_DIGITS) for _ in range(_length(rng)))


def _splice(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    source, at, length = rng.choice(seeds), _position(rng, data), _length(rng)
    start = rng.randrange(len(source) + 1)
    data[at : at + length] = source[start : start + length]


def _truncate(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[_position(rng, data) :]


def _insert_text(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _position(rng, data)
    data[at:at] = rng.choice(_TEXTS)


def _replace_number(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Replace a number by an unusual number."""
    start = next((at for at in range(_position(rng, data), len(data)) if data[at] in _DIGITS), len(data))
    end = next((at for at in range(start, len(data)) if data[at] not in _DIGITS), len(data))
    data[start:end] = rng.choice(_NUMBERS)


def _replace_value(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Replace a JSON value after a colon or a comma."""
    start = max(data.find(b":", _position(rng, data)), data.find(b",", _position(rng, data))) + 1
    ends = [at for mark in (b",", b"}", b"]", b"\n") if (at := data.find(mark, start)) >= 0]
    data[start : min(ends, default=len(data))] = rng.choice(_VALUES)


def _insert_nesting(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    depth, at = rng.choice(_DEPTHS), _position(rng, data)
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"[", b""), (b"- ", b"")))
    data[at:at] = opening * depth + b"1" + closing * depth


def _repeat_key(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Repeat a key and its value."""
    start = data.find(b'"', _position(rng, data))
    end = data.find(b",", start) + 1
    if 0 <= start < end:
        data[start:start] = data[start:end]


_MUTATORS: tuple[Mutator, ...] = (
    *(
        _replace_by_likely_byte,
        _replace_by_any_byte,
        _flip_bit,
        _delete,
        _repeat,
        _insert,
        _insert_digits,
        _splice,
        _splice,
    ),
    *(_truncate, _insert_text, _replace_number, _replace_value, _repeat_key, _insert_nesting),
)


def _length(rng: random.Random) -> int:
    return rng.choice((1, 1, 2, 8, 40, 300))


def damage(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds with some random damage."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        rng.choice(_MUTATORS)(rng, data, seeds)
    return bytes(data)
