"""Limit of the memory of concurrent work, counted in rows. Months of 1s klines are processed one by one."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MAX_ROWS = 1_000_000
"""Rows processed at the same time: about twenty months of 1m klines. A month of 1s klines has 2.7 million
rows."""


class RowBudget:
    """Admits work while the sum of its rows is within a limit. Work with more rows than that runs alone."""

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        """Start with no rows in use.

        Args:
            max_rows: Rows that may be in use at the same time.
        """
        self._max_rows, self._rows = max_rows, 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, rows: int) -> Iterator[None]:
        """Wait until `rows` are free and use them inside the `with` block.

        Do not reserve more rows inside the block: two threads that do so can wait for each other forever.
        """
        rows = min(rows, self._max_rows)
        with self._changed:
            self._changed.wait_for(lambda: self._rows + rows <= self._max_rows)
            self._rows += rows
        try:
            yield
        finally:
            with self._changed:
                self._rows -= rows
                self._changed.notify_all()
            if rows == self._max_rows:
                release_freed_memory()


def release_freed_memory() -> None:
    """Return freed memory to the operating system, if the C library has `malloc_trim`.

    Without it, freed small blocks stay in the process: about a quarter of the memory of a month of 1s klines.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
