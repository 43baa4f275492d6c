"""Generator of prices and quantities with many scales, block by block, the same for the same seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.binance.decimals import MAX_UNITS
from capture_pipeline.errors import ConfigError
from capture_pipeline.feasibility.decimal_precision.exact_sums import Ints
from capture_pipeline.tables.golden.columns import SCALE

LARGEST_E8 = MAX_UNITS
"""Largest value that the exchange sends, 92233720368.54775807, in units of 1e-8."""
_ROWS_A_MINUTE = 1000


@dataclass(frozen=True)
class MarketScale:
    """Range and scale of the values of a market.

    Attributes:
        name: Name of the market.
        price_places: Number of decimals of a price.
        quantity_places: Number of decimals of a quantity.
        ticks: Smallest and largest price in units of its last decimal.
        lots: Smallest and largest quantity in units of its last decimal.
        edges: Use only the smallest and the largest values, alternately; the first row of a block has both
            largest ones. Otherwise values are distributed evenly.
    """

    name: str
    price_places: int
    quantity_places: int
    ticks: tuple[int, int]
    lots: tuple[int, int]
    edges: bool = False

    @property
    def tick(self) -> Decimal:
        """Unit of a price."""
        return Decimal(1).scaleb(-self.price_places)

    @property
    def lot(self) -> Decimal:
        """Unit of a quantity."""
        return Decimal(1).scaleb(-self.quantity_places)


SCALES = (
    MarketScale("BTC-USDT", 2, 5, (6_350_000, 6_450_000), (1, 300_000)),
    MarketScale("SOL-USDT", 4, 3, (1_400_000, 1_600_000), (1, 900_000)),
    MarketScale("SHIB-USDT", 8, 0, (1_150, 1_300), (1_000, 200_000_000)),
    MarketScale("smallest", 8, 8, (1, 9), (1, 10**14)),
    MarketScale("largest", 8, 8, (1, LARGEST_E8), (1, LARGEST_E8), edges=True),
)


@dataclass(frozen=True, eq=False)
class Rows:
    """Trades of one market, in the order of their minutes.

    Attributes:
        scale: Scale of the market.
        ticks: Prices in units of their last decimal.
        lots: Quantities in units of their last decimal.
        minutes: Minutes, ascending.
    """

    scale: MarketScale
    ticks: Ints
    lots: Ints
    minutes: Ints

    @property
    def price_factor(self) -> int:
        """Units of 1e-8 in a tick."""
        return int(10 ** (SCALE - self.scale.price_places))

    @property
    def quantity_factor(self) -> int:
        """Units of 1e-8 in a lot."""
        return int(10 ** (SCALE - self.scale.quantity_places))

    @cached_property
    def ladder(self) -> Ints:
        """Distinct prices in ticks."""
        return np.unique(self.ticks)

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """Index of the first row of each minute."""
        return np.flatnonzero(np.diff(self.minutes, prepend=self.minutes[0] - 1))


def generate_rows(rows: int, block_rows: int, seed: int) -> Iterator[Rows]:
    """Generate blocks of trades, each of the next market.

    Args:
        rows: Number of all rows.
        block_rows: Maximum number of rows of a block; the memory depends on it.
        seed: Seed of the generator.

    Raises:
        ConfigError: There are fewer rows than markets, or `block_rows` is less than 1.
    """
    if rows < len(SCALES) or block_rows < 1:
        raise ConfigError(
            f"{rows} rows in blocks of {block_rows} leave a market out",
            remedy=f"request at least {len(SCALES)} rows, and blocks of at least one row",
        )
    size = min(block_rows, -(-rows // len(SCALES)))
    for number, start in enumerate(range(0, rows, size)):
        yield _generate_block(
            SCALES[number % len(SCALES)], min(size, rows - start), np.random.default_rng((seed, number))
        )


class DigestedRows(NamedTuple):
    """A block, and the SHA-256 of all blocks up to it."""

    rows: Rows
    sha256: str


def digest_of(blocks: Iterator[Rows]) -> Iterator[DigestedRows]:
    """Yield every block with the SHA-256 of all blocks up to it."""
    digest = hashlib.sha256()
    for block in blocks:
        for column in (block.ticks, block.lots, block.minutes):
            digest.update(column.astype("<i8", copy=False).tobytes())
        yield DigestedRows(block, digest.hexdigest())


def _generate_block(scale: MarketScale, rows: int, random: np.random.Generator) -> Rows:
    ticks = random.integers(*scale.ticks, rows, dtype=np.int64, endpoint=True)
    lots = random.integers(*scale.lots, rows, dtype=np.int64, endpoint=True)
    if scale.edges:
        odd = np.arange(rows) % 2 == 1
        ticks, lots = np.where(odd, *scale.ticks), np.where(odd, *reversed(scale.lots))
        lots[0] = scale.lots[1]
    return Rows(scale, ticks, lots, np.arange(rows, dtype=np.int64) // _ROWS_A_MINUTE)
