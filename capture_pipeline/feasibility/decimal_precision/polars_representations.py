"""Representations of decimals in polars: 64-bit integers with 64- or 128-bit sums, float64, and Decimal."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from capture_pipeline.feasibility.decimal_precision.dataset import Rows
from capture_pipeline.feasibility.decimal_precision.representations import (
    EXACT,
    VWAP_PLACES,
    Operation,
    PolarsRepresentation,
    Results,
)
from capture_pipeline.tables.golden.columns import SCALE

_SLACK = 1 - 1e-6
"""Relative error limit of a sum of up to 2**31 floats."""
_UNIT = Decimal(1).scaleb(-SCALE)


def decimals_from_units(values: NDArray[np.int64], precision: int = 38) -> pa.Array:
    """Convert units of 1e-8 to decimals with eight places, without text."""
    words = np.stack([values, values >> 63], axis=1)
    return pa.Array.from_buffers(pa.decimal128(precision, SCALE), values.size, [None, pa.py_buffer(words)])


@dataclass(frozen=True)
class IntegerRepresentation(PolarsRepresentation):
    """64-bit integers. A sum of the same values as floats shows whether an integer sum may have overflowed.

    No value is negative, so no partial sum is larger than the whole sum.

    Attributes:
        name: Name for tables.
        bits: Number of bits of sums and products.
        by_market: Use the market's own tick and lot as units, instead of 1e-8 as in the tables.
    """

    bits: int = 64
    by_market: bool = True

    def operation_key(self, operation: Operation) -> str:
        """Return a key; joins and files have no sums, so their key does not depend on the number of bits."""
        stored = operation in {Operation.JOIN, Operation.PARQUET}
        return (
            f"int64, by market {self.by_market}: {operation}" if stored else super().operation_key(operation)
        )

    def prices(self, ticks: NDArray[np.int64], rows: Rows) -> pl.Series:
        """Convert ticks to units."""
        return pl.Series(ticks if self.by_market else ticks * rows.price_factor)

    def quantities(self, lots: NDArray[np.int64], rows: Rows) -> pl.Series:
        """Convert lots to units."""
        return pl.Series(lots if self.by_market else lots * rows.quantity_factor)

    def sums(self) -> list[pl.Expr]:
        """Return sums of integers, and the same sums of floats."""
        exact = [self._widen(name).sum().alias(name) for name in ("price", "quantity")]
        return exact + [
            pl.col(name).cast(pl.Float64).sum().alias(f"{name} about") for name in ("price", "quantity")
        ]

    def volume(self) -> list[pl.Expr]:
        """Return the sum of quantities as integers, and as floats."""
        return self.sums()[1::2]

    def notional(self) -> list[pl.Expr]:
        """Return the sum of notionals as integers, and as floats."""
        about = pl.col("price").cast(pl.Float64) * pl.col("quantity").cast(pl.Float64)
        return [
            (self._widen("price") * self._widen("quantity")).sum().alias("notional"),
            about.sum().alias("notional about"),
        ]

    def decimals(self, row: dict[str, Any], rows: Rows) -> Results:
        """Convert sums to decimals; None for a sum that may have overflowed."""
        price, quantity = (rows.scale.tick, rows.scale.lot) if self.by_market else (_UNIT, _UNIT)
        units = {"price": price, "quantity": quantity, "notional": price * quantity}
        limit = 2.0 ** (self.bits - 1) * _SLACK
        return {
            name: EXACT.multiply(Decimal(row[name]), unit) if row[f"{name} about"] < limit else None
            for name, unit in units.items()
            if name in row
        }

    def integers(self, column: pl.Series, name: str, rows: Rows) -> NDArray[Any]:
        """Convert a column that was read to ticks or lots."""
        factor = rows.price_factor if name == "price" else rows.quantity_factor
        return column.to_numpy() if self.by_market else column.to_numpy() // factor

    def _widen(self, name: str) -> pl.Expr:
        is_wide = self.bits > 64  # noqa: PLR2004 - the width of the column
        return pl.col(name).cast(pl.Int128) if is_wide else pl.col(name)


@dataclass(frozen=True)
class FloatRepresentation(PolarsRepresentation):
    """Floats. Results are rounded to the decimals of the exact result, which is an advantage for floats."""

    def prices(self, ticks: NDArray[np.int64], rows: Rows) -> pl.Series:
        """Convert ticks to the nearest float of each price."""
        return pl.Series(ticks / 10**rows.scale.price_places)

    def quantities(self, lots: NDArray[np.int64], rows: Rows) -> pl.Series:
        """Convert lots to the nearest float of each quantity."""
        return pl.Series(lots / 10**rows.scale.quantity_places)

    def ladder(self, rows: Rows) -> pl.Series:
        """Return distinct prices, as ticks times the size of a tick."""
        return pl.Series(rows.ladder * float(rows.scale.tick)).unique()

    def decimals(self, row: dict[str, Any], rows: Rows) -> Results:
        """Convert sums to decimals, rounded to the number of decimals of the exact result."""
        units = {
            "price": rows.scale.tick,
            "quantity": rows.scale.lot,
            "notional": rows.scale.tick * rows.scale.lot,
        }
        return {
            name: Decimal(row[name]).quantize(unit, context=EXACT)
            for name, unit in units.items()
            if name in row
        }

    def vwap_of(self, row: dict[str, Any], rows: Rows) -> Decimal | None:
        """Return the VWAP of a row, rounded to eight decimals."""
        del rows
        return Decimal(row["notional"] / row["quantity"]).quantize(VWAP_PLACES, context=EXACT)

    def integers(self, column: pl.Series, name: str, rows: Rows) -> NDArray[Any]:
        """Convert a column that was read to the nearest ticks or lots; -1 if they do not fit 64 bits."""
        places = rows.scale.price_places if name == "price" else rows.scale.quantity_places
        nearest = np.rint(column.to_numpy() * 10**places)
        inside = nearest < 2.0**63
        return np.where(inside, np.where(inside, nearest, 0).astype(np.int64), -1)


@dataclass(frozen=True)
class DecimalRepresentation(PolarsRepresentation):
    """polars' Decimal(38, 8)."""

    def prices(self, ticks: NDArray[np.int64], rows: Rows) -> pl.Series:
        """Convert ticks to decimals."""
        return pl.Series(decimals_from_units(ticks * rows.price_factor))

    def quantities(self, lots: NDArray[np.int64], rows: Rows) -> pl.Series:
        """Convert lots to decimals."""
        return pl.Series(decimals_from_units(lots * rows.quantity_factor))

    def vwap(self) -> list[pl.Expr]:
        """Return the VWAP by Polars' division of decimals."""
        notional, volume = self.notional()[0], self.volume()[0]
        return [(notional / volume).alias("vwap")]

    def vwap_of(self, row: dict[str, Any], rows: Rows) -> Decimal | None:
        """Return the VWAP of a row."""
        del rows
        return Decimal(row["vwap"])

    def decimals(self, row: dict[str, Any], rows: Rows) -> Results:
        """Return the sums, which are decimals already."""
        del rows
        return {name: value for name, value in row.items() if name != "minute"}

    def integers(self, column: pl.Series, name: str, rows: Rows) -> NDArray[Any]:
        """Convert a column that was read to ticks or lots."""
        units = column.to_physical().cast(pl.Int64).to_numpy()
        return units // (rows.price_factor if name == "price" else rows.quantity_factor)
