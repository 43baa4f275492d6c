"""Integers and floats as forms of decimals, in polars: 64 bits, 128-bit sums over them, float64, and polars' own Decimal."""

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
    PolarsForm,
    Results,
)
from capture_pipeline.tables.golden import SCALE

_SLACK = 1 - 1e-6
"""A sum in floats of up to 2**31 rows is nearer to the exact one than this."""
_UNIT = Decimal(1).scaleb(-SCALE)


def unscaled(values: NDArray[np.int64], precision: int = 38) -> pa.Array:
    """Decimals of eight places from units of 1e-8, without a detour over text."""
    words = np.stack([values, values >> 63], axis=1)
    return pa.Array.from_buffers(pa.decimal128(precision, SCALE), values.size, [None, pa.py_buffer(words)])


@dataclass(frozen=True)
class IntegerForm(PolarsForm):
    """Integers of 64 bits; a sum of the same values as floats tells whether it can have left its width.

    No value is negative, so that no part of a sum is larger than all of it.

    Attributes:
        name: For tables.
        bits: Of sums and products.
        by_market: Whether the unit is the market's own tick and lot, or 1e-8 as in the tables.
    """

    bits: int = 64
    by_market: bool = True

    def does(self, operation: Operation) -> str:
        """Nothing is summed in a join or a file: there the width of sums is no difference."""
        stored = operation in {Operation.JOIN, Operation.PARQUET}
        return f"int64, by market {self.by_market}: {operation}" if stored else super().does(operation)

    def prices(self, ticks: NDArray[np.int64], rows: Rows) -> pl.Series:
        """In units."""
        return pl.Series(ticks if self.by_market else ticks * rows.price_factor)

    def quantities(self, lots: NDArray[np.int64], rows: Rows) -> pl.Series:
        """In units."""
        return pl.Series(lots if self.by_market else lots * rows.quantity_factor)

    def sums(self) -> list[pl.Expr]:
        """Sums, and what they come to in floats."""
        exact = [self._wide(name).sum().alias(name) for name in ("price", "quantity")]
        return exact + [
            pl.col(name).cast(pl.Float64).sum().alias(f"{name} about") for name in ("price", "quantity")
        ]

    def volume(self) -> list[pl.Expr]:
        """Likewise."""
        return self.sums()[1::2]

    def notional(self) -> list[pl.Expr]:
        """Likewise."""
        about = pl.col("price").cast(pl.Float64) * pl.col("quantity").cast(pl.Float64)
        return [
            (self._wide("price") * self._wide("quantity")).sum().alias("notional"),
            about.sum().alias("notional about"),
        ]

    def decimals(self, row: dict[str, Any], rows: Rows) -> Results:
        """None where a sum can have left its width."""
        price, quantity = (rows.scale.tick, rows.scale.lot) if self.by_market else (_UNIT, _UNIT)
        units = {"price": price, "quantity": quantity, "notional": price * quantity}
        limit = 2.0 ** (self.bits - 1) * _SLACK
        return {
            name: EXACT.multiply(Decimal(row[name]), unit) if row[f"{name} about"] < limit else None
            for name, unit in units.items()
            if name in row
        }

    def integers(self, column: pl.Series, name: str, rows: Rows) -> NDArray[Any]:
        """Ticks or lots."""
        factor = rows.price_factor if name == "price" else rows.quantity_factor
        return column.to_numpy() if self.by_market else column.to_numpy() // factor

    def _wide(self, name: str) -> pl.Expr:
        return pl.col(name).cast(pl.Int128) if self.bits > 64 else pl.col(name)  # noqa: PLR2004 - the width of the column


@dataclass(frozen=True)
class FloatForm(PolarsForm):
    """Binary floating point; what it answers is rounded to as many decimals as the exact answer has, which is in its favour."""

    def prices(self, ticks: NDArray[np.int64], rows: Rows) -> pl.Series:
        """The nearest float of each price."""
        return pl.Series(ticks / 10**rows.scale.price_places)

    def quantities(self, lots: NDArray[np.int64], rows: Rows) -> pl.Series:
        """The nearest float of each quantity."""
        return pl.Series(lots / 10**rows.scale.quantity_places)

    def ladder(self, rows: Rows) -> pl.Series:
        """Ticks times the size of a tick, as a ladder of prices is computed."""
        return pl.Series(rows.ladder * float(rows.scale.tick)).unique()

    def decimals(self, row: dict[str, Any], rows: Rows) -> Results:
        """Rounded to the decimals of the exact answer."""
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
        """The quotient, rounded to eight decimals."""
        del rows
        return Decimal(row["notional"] / row["quantity"]).quantize(VWAP_PLACES, context=EXACT)

    def integers(self, column: pl.Series, name: str, rows: Rows) -> NDArray[Any]:
        """The nearest ticks or lots, as integers of any width: a float may lie beyond 64 bits."""
        places = rows.scale.price_places if name == "price" else rows.scale.quantity_places
        nearest = np.rint(column.to_numpy() * 10**places)
        inside = nearest < 2.0**63
        return np.where(inside, np.where(inside, nearest, 0).astype(np.int64), -1)


@dataclass(frozen=True)
class DecimalForm(PolarsForm):
    """polars' Decimal(38, 8)."""

    def prices(self, ticks: NDArray[np.int64], rows: Rows) -> pl.Series:
        """Exact."""
        return pl.Series(unscaled(ticks * rows.price_factor))

    def quantities(self, lots: NDArray[np.int64], rows: Rows) -> pl.Series:
        """Exact."""
        return pl.Series(unscaled(lots * rows.quantity_factor))

    def vwap(self) -> list[pl.Expr]:
        """By polars' own division."""
        notional, volume = self.notional()[0], self.volume()[0]
        return [(notional / volume).alias("vwap")]

    def vwap_of(self, row: dict[str, Any], rows: Rows) -> Decimal | None:
        """As it is."""
        del rows
        return Decimal(row["vwap"])

    def decimals(self, row: dict[str, Any], rows: Rows) -> Results:
        """As they are."""
        del rows
        return {name: value for name, value in row.items() if name != "minute"}

    def integers(self, column: pl.Series, name: str, rows: Rows) -> NDArray[Any]:
        """Ticks or lots."""
        units = column.to_physical().cast(pl.Int64).to_numpy()
        return units // (rows.price_factor if name == "price" else rows.quantity_factor)
