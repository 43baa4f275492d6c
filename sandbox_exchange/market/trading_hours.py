"""When a symbol trades: from its listing to its delisting, but not during outages."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.binance.periods import DAY_US
from sandbox_exchange.market.prng import Ints

_NEVER = 1 << 62


class TradingHours:
    """The times at which a symbol is closed, merged and in order."""

    def __init__(self, listed_us: int, delisted_us: int | None, outages: Iterable[tuple[int, int]]) -> None:
        """Merge listing, delisting and outages.

        Args:
            listed_us: Nothing exists before.
            delisted_us: Nothing exists from then on; None for a living symbol.
            outages: `[start, end)` in any order, also overlapping.
        """
        spans = [
            (-_NEVER, listed_us),
            *outages,
            *([(delisted_us, _NEVER)] if delisted_us is not None else []),
        ]
        merged: list[list[int]] = []
        for start, end in sorted(spans):
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        self._starts = np.array([span[0] for span in merged], np.int64)
        self._ends = np.array([span[1] for span in merged], np.int64)
        self.first_us = merged[0][1]
        self.last_us = merged[-1][0] if merged[-1][1] == _NEVER else _NEVER

    def exist(self, opens: Ints, length_us: int) -> NDArray[np.bool_]:
        """Which candles exist: those that do not lie wholly inside a closed time."""
        at = np.searchsorted(self._starts, opens, side="right") - 1
        inside = (at >= 0) & (self._ends[at] >= opens + length_us)
        return ~inside

    def closed_since(self, time_us: int) -> int | None:
        """Start of the closed time that holds a time; None where it is open."""
        at = int(np.searchsorted(self._starts, time_us, side="right")) - 1
        return int(self._starts[at]) if at >= 0 and time_us < self._ends[at] else None

    def day_edges(self, day: int, step_us: int) -> tuple[Ints, NDArray[np.bool_]]:
        """A day cut into cells of at most `step_us`, none of them partly closed.

        Returns:
            The n + 1 edges in microseconds, and for each of the n cells whether it is open.
        """
        start = day * DAY_US
        edges = np.arange(start, start + DAY_US + 1, step_us, dtype=np.int64)
        cuts = np.concatenate([self._starts, self._ends])
        cuts = cuts[(cuts > start) & (cuts < start + DAY_US)]
        if cuts.size:
            edges = np.union1d(edges, cuts)
        return edges, self.exist(edges[:-1], 1)

    def closed_days(self, first_day: int, end_day: int) -> int:
        """How many days in `[first_day, end_day)` lie wholly inside a closed time."""
        total = 0
        for start, end in zip(self._starts.tolist(), self._ends.tolist(), strict=True):
            total += max(0, min(end // DAY_US, end_day) - max(-(-start // DAY_US), first_day))
        return total
