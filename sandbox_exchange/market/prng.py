"""Stateless random numbers (SplitMix64 on arrays): a pure function of a key and a counter.

Any part of the market can be computed without the others, and every machine gives the same bits.
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


def derive_key(*parts: object) -> np.uint64:
    """Derive a 64-bit key from printable parts, for example a seed, a symbol and a purpose."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def random_bits(key: np.uint64, counter: Ints) -> Bits:
    """Return 64 random bits for each counter."""
    mixed = counter.astype(np.uint64)
    mixed *= _GOLDEN
    mixed += key
    mixed ^= mixed >> np.uint64(30)
    mixed *= _MIX_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MIX_2
    mixed ^= mixed >> np.uint64(31)
    return mixed


def extract_bits(source: Bits, shift: int, width: int) -> Ints:
    """Extract `width` bits, starting with bit `shift`, as integers."""
    return ((source >> np.uint64(shift)) & np.uint64((1 << width) - 1)).astype(np.int64)
