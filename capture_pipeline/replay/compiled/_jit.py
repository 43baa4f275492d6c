"""How the kernels of this package are compiled: once, kept on disk, without the interpreter's lock, and without counting references.

Kernels that pass arrays to one another spend most of their time on counting references to them unless that is left out; they may make no
array then, which those marked `making` do.
"""

from __future__ import annotations

from typing import Any

import numba
from numba.extending import intrinsic

kernel: Any = numba.njit(cache=True, nogil=True, _nrt=False)  # type: ignore[call-overload, unused-ignore]
"""Takes arrays and makes none."""
making: Any = numba.njit(cache=True, nogil=True)
"""May make arrays."""


def _trailing_zeros(_context: Any, _word: Any) -> Any:  # noqa: ANN401 - the compiler's own types, which it does not publish
    from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415 - only to compile
    from numba.core import types  # noqa: PLC0415 - likewise

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401 - likewise
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


trailing_zeros: Any = intrinsic(_trailing_zeros)
"""How many zero bits lie below the lowest one of a 64-bit word that is not 0: one instruction."""
