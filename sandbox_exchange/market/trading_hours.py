"""Trading hours of a symbol: from listing to delisting, except outages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.binance.periods import DAY_US, TimeRange
from sandbox_exchange.market.prng import Ints

_NEVER = 1 << 62


class DayCells(NamedTuple):
    """The n + 1 edges of cells in microseconds UTC, and for each of the n cells whether it is open."""

    edges: Ints
    is_open: NDArray[np.bool_]


class TradingHours:
    """Closed periods of a symbol, merged and in order.

    Attributes:
        first_us: Time of the listing, or the end of an outage at the listing.
        last_us: Time of the delisting, or the start of an outage at the delisting; far in the future if the
            symbol is listed.
    """

    def __init__(self, listed_us: int, delisted_us: int | None, outages: Iterable[TimeRange]) -> None:
        """Merge listing, delisting and outages.

        Args:
            listed_us: Time of the listing, microseconds UTC.
            delisted_us: Time of the delisting, microseconds UTC; None for a listed symbol.
            outages: Periods in any order; they may overlap.
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

    def are_open(self, starts: Ints, length_us: int) -> NDArray[np.bool_]:
        """Return for each start whether the market is open in a part of the `length_us` after the start."""
        at = np.searchsorted(self._starts, starts, side="right") - 1
        is_closed = (at >= 0) & (self._ends[at] >= starts + length_us)
        return ~is_closed

    def closure_start(self, time_us: int) -> int | None:
        """Return the start of the closed period that contains a time; None if the time is open."""
        at = int(np.searchsorted(self._starts, time_us, side="right")) - 1
        return int(self._starts[at]) if at >= 0 and time_us < self._ends[at] else None

    def day_edges(self, day: int, step_us: int) -> DayCells:
        """Divide a day into cells of at most `step_us`, each completely open or completely closed."""
        start = day * DAY_US
        edges = np.arange(start, start + DAY_US + 1, step_us, dtype=np.int64)
        cuts = np.concatenate([self._starts, self._ends])
        cuts = cuts[(cuts > start) & (cuts < start + DAY_US)]
        if cuts.size:
            edges = np.union1d(edges, cuts)
        return DayCells(edges, self.are_open(edges[:-1], 1))

    def count_closed_days(self, first_day: int, end_day: int) -> int:
        """Return the number of days in `[first_day, end_day)` that are completely closed."""
        total = 0
        for start, end in zip(self._starts.tolist(), self._ends.tolist(), strict=True):
            total += max(0, min(end // DAY_US, end_day) - max(-(-start // DAY_US), first_day))
        return total
