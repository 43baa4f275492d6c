"""Randomness that is a pure function of a key and a counter, so that any part of the market can be made alone.

SplitMix64 on arrays: no state, no generator objects, the same bits on every machine.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bits = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def key_of(*parts: object) -> np.uint64:
    """A 64 bit key from anything printable, for instance a seed, a symbol and a purpose."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def bits(key: np.uint64, counter: Ints) -> Bits:
    """64 random bits for each counter."""
    mixed = counter.astype(np.uint64)
    mixed *= _GOLDEN
    mixed += key
    mixed ^= mixed >> np.uint64(30)
    mixed *= _MIX_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MIX_2
    mixed ^= mixed >> np.uint64(31)
    return mixed


def field(source: Bits, shift: int, width: int) -> Ints:
    """`width` of the bits from bit `shift` on, as integers."""
    return ((source >> np.uint64(shift)) & np.uint64((1 << width) - 1)).astype(np.int64)
