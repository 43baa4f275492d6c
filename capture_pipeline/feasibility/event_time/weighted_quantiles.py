"""Exact percentiles and a histogram from distinct values and their counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

US_A_MS = 1000.0
_BINS = 80
Ints = NDArray[np.int64]


class Histogram(BaseModel):
    """Histogram with bins of equal width.

    Attributes:
        start_ms: Start of the first bin.
        width_ms: Width of a bin.
        counts: Number of messages in each bin.
        below: Number of messages below the first bin.
        above: Number of messages above the last bin.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    start_ms: float
    width_ms: float
    counts: list[int]
    below: int
    above: int


@dataclass(frozen=True)
class WeightedValues:
    """Distinct values with their counts.

    Attributes:
        values: Distinct values, ascending.
        counts: Number of occurrences of each value.
    """

    values: Ints
    counts: Ints

    def at(self, share: float) -> int:
        """Return the quantile of a share from 0 to 1, by the nearest rank."""
        reached = np.cumsum(self.counts)
        rank = max(1, int(np.ceil(share * reached[-1])))
        return int(self.values[np.searchsorted(reached, rank)])

    def sizes(self, middle: int) -> WeightedValues:
        """Return the absolute distances from a value, with their counts."""
        values, places = np.unique(np.abs(self.values - middle), return_inverse=True)
        return WeightedValues(values, np.bincount(places, weights=self.counts).astype(np.int64))


def build_histogram(skew: WeightedValues, offset: int) -> Histogram:
    """Build the histogram of skews less an offset; its range is twice that of the 1st to 99th percentile."""
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
