"""The memory of work that runs at the same time, bounded by rows: months of 1s candles are worked on one at a time."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MOST_ROWS = 1_000_000
"""Rows in work at the same time: twenty months of 1m candles, or one month of 1s candles, which alone has 2.7 million."""


class RowBudget:
    """Admits work as long as the rows of all of it fit; work that is larger than the whole budget runs alone."""

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        """Start with nothing in work.

        Args:
            most_rows: Rows that may be in work at the same time.
        """
        self._most_rows, self._rows = most_rows, 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, rows: int) -> Iterator[None]:
        """Wait until `rows` fit, and count them while inside. A holder must not ask for more."""
        rows = min(rows, self._most_rows)
        with self._changed:
            self._changed.wait_for(lambda: self._rows + rows <= self._most_rows)
            self._rows += rows
        try:
            yield
        finally:
            with self._changed:
                self._rows -= rows
                self._changed.notify_all()
            if rows == self._most_rows:
                trim()


def trim() -> None:
    """Return freed memory to the system where the C library can: what many small blocks leave behind is a quarter of a large month."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
