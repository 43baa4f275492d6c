"""Harms to sound input: bytes changed, cut, doubled and put in from elsewhere, and what breaks parsers of JSON, numbers and text."""

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
Harm = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def _place(chance: random.Random, data: bytearray) -> int:
    return chance.randrange(len(data) + 1)


def _likely_byte(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(chance, data)
    data[at : at + 1] = bytes([chance.choice(_LIKELY)])


def _any_byte(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(chance, data)
    data[at : at + 1] = bytes([chance.randrange(256)])


def _bit(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _deletion(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(chance, data)
    del data[at : at + _reach(chance)]


def _repetition(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(chance, data)
    data[at:at] = data[at : at + _reach(chance)]


def _insertion(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(chance, data)
    data[at:at] = bytes(chance.choice(_LIKELY) for _ in range(_reach(chance)))


def _digits(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(chance, data)
    data[at:at] = bytes(chance.choice(_DIGITS) for _ in range(_reach(chance)))


def _splice(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    source, at, reach = chance.choice(seeds), _place(chance, data), _reach(chance)
    start = chance.randrange(len(source) + 1)
    data[at : at + reach] = source[start : start + reach]


def _truncation(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[_place(chance, data) :]


def _text(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(chance, data)
    data[at:at] = chance.choice(_TEXTS)


def _number(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Another number in the place of one."""
    start = next((at for at in range(_place(chance, data), len(data)) if data[at] in _DIGITS), len(data))
    end = next((at for at in range(start, len(data)) if data[at] not in _DIGITS), len(data))
    data[start:end] = chance.choice(_NUMBERS)


def _value(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Another JSON value behind a colon or a comma."""
    start = max(data.find(b":", _place(chance, data)), data.find(b",", _place(chance, data))) + 1
    ends = [at for mark in (b",", b"}", b"]", b"\n") if (at := data.find(mark, start)) >= 0]
    data[start : min(ends, default=len(data))] = chance.choice(_VALUES)


def _nesting(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    depth, at = chance.choice(_DEPTHS), _place(chance, data)
    opening, closing = chance.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"[", b""), (b"- ", b"")))
    data[at:at] = opening * depth + b"1" + closing * depth


def _key_again(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """A key and its value, again."""
    start = data.find(b'"', _place(chance, data))
    end = data.find(b",", start) + 1
    if 0 <= start < end:
        data[start:start] = data[start:end]


_HARMS: tuple[Harm, ...] = (
    *(_likely_byte, _any_byte, _bit, _deletion, _repetition, _insertion, _digits, _splice, _splice),
    *(_truncation, _text, _number, _value, _key_again, _nesting),
)


def _reach(chance: random.Random) -> int:
    return chance.choice((1, 1, 2, 8, 40, 300))


def mutated(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds with a few harms."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        chance.choice(_HARMS)(chance, data, seeds)
    return bytes(data)
