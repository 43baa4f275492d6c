"""Decorators that compile the kernels of this package: cached on disk, without the interpreter's lock.

Kernels that pass arrays to one another spend most of their time on reference counting. `kernel` switches it
off; such a kernel cannot allocate arrays. Kernels that do are decorated with `allocating_kernel`.
"""

from __future__ import annotations

from typing import Any

import numba
from numba.extending import intrinsic

kernel: Any = numba.njit(cache=True, nogil=True, _nrt=False)  # type: ignore[call-overload, unused-ignore]
"""Decorator for kernels that allocate no array."""
allocating_kernel: Any = numba.njit(cache=True, nogil=True)
"""Decorator for kernels that allocate arrays."""


def _trailing_zeros(_context: Any, _word: Any) -> Any:  # noqa: ANN401 - numba does not publish these types
    from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415 - only to compile
    from numba.core import types  # noqa: PLC0415 - likewise

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401 - same
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


trailing_zeros: Any = intrinsic(_trailing_zeros)
"""Count the zero bits below the lowest set bit of a 64-bit word that is not 0: one machine instruction."""
