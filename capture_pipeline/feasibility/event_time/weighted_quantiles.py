"""Skews as distinct values and how often each came: percentiles that are exact, and a histogram, of any number of messages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

US_A_MS = 1000.0
_BINS = 80
Ints = NDArray[np.int64]


class Histogram(BaseModel):
    """Counts of equal bins; what lies outside of them is counted apart.

    Attributes:
        start_ms: Where the first bin begins.
        width_ms: Of a bin.
        counts: Of each.
        below: Messages before the first.
        above: Messages behind the last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    start_ms: float
    width_ms: float
    counts: list[int]
    below: int
    above: int


@dataclass(frozen=True)
class Counted:
    """Values and how often each is there.

    Attributes:
        values: Ascending.
        counts: Of each.
    """

    values: Ints
    counts: Ints

    def at(self, share: float) -> int:
        """The value below or at which this share of all lies (nearest rank)."""
        reached = np.cumsum(self.counts)
        rank = max(1, int(np.ceil(share * reached[-1])))
        return int(self.values[np.searchsorted(reached, rank)])

    def sizes(self, middle: int) -> Counted:
        """Distances from a value."""
        values, places = np.unique(np.abs(self.values - middle), return_inverse=True)
        return Counted(values, np.bincount(places, weights=self.counts).astype(np.int64))


def histogram(skew: Counted, offset: int) -> Histogram:
    """Skews less an offset, from their first to their 99th percentile and as far again."""
    low, high = skew.at(0.01) - offset, skew.at(0.99) - offset
    reach = max(high - low, 100)
    start, width = low - reach // 2, 2 * reach / _BINS
    values = skew.values - offset
    bins = np.floor((values - start) / width).astype(np.int64)
    inside = (bins >= 0) & (bins < _BINS)
    counts = np.bincount(bins[inside], weights=skew.counts[inside], minlength=_BINS)
    below, above = (int(skew.counts[outside].sum()) for outside in (bins < 0, bins >= _BINS))
    return Histogram(
        start_ms=start / US_A_MS,
        width_ms=width / US_A_MS,
        counts=[int(each) for each in counts],
        below=below,
        above=above,
    )
